"""libcoap's command-line client administers a device with CBOR files: `/iam/*` and `/events`.

No code of handfast encodes or decodes the messages. An independent CBOR library encodes the bodies,
responses are validated against docs/handfast.cddl, and an invite is decoded as docs/protocol.md
describes. The client is built on OpenSSL and on GnuTLS.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from device_app.access.event_kind import EventKind
from device_app.app import App
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from iam.model import Key, User
from tests.kit.documents import DOCS, Cddl
from tests.kit.interop import HOST, write_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.kit.interop import ForeignProgram, Keys, Run

    ClientOf = Callable[[str], "Foreign"]

SECONDS = 30  # -B: the timeout of the client
NEW = "5a" * 32
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
RFC_4648 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True)
class Answer:
    """A response: its code, its body from the client's file or output, and the whole output."""

    code: str
    payload: bytes
    output: str

    @property
    def body(self) -> Any:
        return cbor2.loads(self.payload)


class Foreign:
    """The foreign client with one key pair."""

    def __init__(self, run: Run, program: str, keys: Keys, app: App, folder: Path) -> None:
        self._run = run
        self._program = program
        self._app = app
        self._folder = folder
        self.keys = keys

    @property
    def fingerprint(self) -> str:
        return self.keys.fingerprint.hex

    async def start(self, path: str, *options: object) -> ForeignProgram:
        uri = f"coaps://{HOST}:{self._app.server.port}{path}"
        return await self._run(self._program, *self.keys.coap, "-v", 7, *options, uri)

    async def ask(self, method: str, path: str, body: object = None, *options: object) -> Answer:
        back = self._folder / f"back-{self.keys.key.stem}"
        back.unlink(missing_ok=True)
        arguments = ["-m", method, "-o", back, "-B", SECONDS]
        if body is not None:
            sent = self._folder / "sent"
            sent.write_bytes(cbor2.dumps(body))
            arguments += ["-t", 60, "-f", sent]
        output = await (await self.start(path, *arguments, *options)).end()
        codes = re.findall(r"c:([245]\.\d\d)", output)
        assert codes, output
        # The client prints the body of an error in hex and writes no file.
        shown = re.findall(r"c:4\.\d\d .*\n<<([0-9a-f]+)>>", output)
        payload = bytes.fromhex(shown[-1]) if shown else b""
        return Answer(codes[-1], back.read_bytes() if back.exists() else payload, output)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    home = tmp_path / "home"
    settings = Settings(
        name="kitchen",
        listen=(HOST,),
        port=0,
        pairing_port=0,
        advertise=False,
        allow_loopback=True,
    )
    running = await App.start(Paths(home, home, home), settings)
    yield running
    await running.close()


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.needs_tool(name), id=name)
        for name in ("coap-client-openssl", "coap-client-gnutls")
    ]
)
def client_of(request: pytest.FixtureRequest, run: Run, app: App, tmp_path: Path) -> ClientOf:
    """Create a foreign client with its own key, and a user with that key if a role is given."""

    def made(role: str) -> Foreign:
        keys = write_keys(tmp_path, role or "unpaired", ec.generate_private_key(ec.SECP256R1()))
        if role:
            user = User(role, role, (Key(keys.fingerprint.hex, method="given", added=1.0),))
            app.access.registry.add_user(None, user)
        return Foreign(run, request.param, keys, app, tmp_path)

    return made


@pytest.fixture(scope="module")
def cddl() -> Cddl:
    return Cddl((DOCS / "handfast.cddl").read_text())


async def test_a_long_list_of_users_is_transferred_in_blocks(
    app: App, client_of: ClientOf, cddl: Cddl
) -> None:
    owner = client_of("owner")
    for number in range(60):
        app.access.registry.add_user(None, User(f"guest-{number:02}", "guest", ()))
    for size in (1024, 64):
        answer = await owner.ask("get", "/iam/users", None, "-b", size)
        assert answer.code == "2.05"
        assert len(answer.payload) > 2048
        cddl.validate("users", answer.payload)
        assert [user["name"] for user in answer.body] == sorted(app.access.store.state.users)
        assert len(set(re.findall(r"Block2:(\d+)/", answer.output))) > 2048 // size


async def test_users_and_keys_can_be_added_changed_and_removed(
    app: App, client_of: ClientOf, cddl: Cddl
) -> None:
    owner = client_of("owner")
    made = await owner.ask("post", "/iam/users", {"name": "mia", "role": "guest"})
    assert made.code == "2.01"
    assert "Location-Path:mia" in made.output.replace(" ", "")
    cddl.validate("user-info", made.payload)
    for method, arguments in (
        ("patch", {"role": "user"}),
        ("ipatch", {"display": "Mía", "not_after": 4_000_000_000}),
        ("post", {"name": "mia-2", "not_after": None}),
    ):
        changed = await owner.ask(method, "/iam/users/mia", arguments)
        assert changed.code == "2.04", changed.output
        cddl.validate("user-info", changed.payload)
    mia = app.access.store.state.user("mia-2")
    assert (mia.role, mia.display_name, mia.not_after) == ("user", "Mía", None)

    path = f"/iam/users/mia-2/keys/{NEW}"
    assert (await owner.ask("put", path, {"name": "tablet"})).body["keys"][0]["name"] == "tablet"
    assert app.access.store.state.user_of(NEW) is not None
    assert (await owner.ask("delete", path)).code == "2.02"
    assert app.access.store.state.user_of(NEW) is None
    assert (await owner.ask("delete", "/iam/users/mia-2")).code == "2.02"
    gone = await owner.ask("get", "/iam/users/mia-2")
    assert (gone.code, gone.body["handfast:problem"]["reason"]) == ("4.04", "not-found")


def token_of(text: str) -> bytes:
    """Decode the text of an invite by docs/protocol.md §6.2, without handfast's code."""
    symbols = text.removeprefix("HANDFAST:I:")[:-1]
    plain = symbols.translate(str.maketrans(CROCKFORD, RFC_4648))
    return base64.b32decode(plain + "=" * (-len(plain) % 8))


async def test_one_client_creates_an_invite_and_another_redeems_it(
    app: App, client_of: ClientOf, cddl: Cddl
) -> None:
    owner, invited = client_of("owner"), client_of("")
    made = await owner.ask("post", "/iam/invites", {"name": "mia", "role": "user"})
    assert made.code == "2.01"
    cddl.validate("invite-made", made.payload)
    listed = await owner.ask("get", "/iam/invites")
    cddl.validate("invites", listed.payload)
    assert [one["id"] for one in listed.body] == [made.body["id"]]

    token = token_of(made.body["token"])
    cddl.validate("invite-token", token)
    forged = await invited.ask(
        "post", "/iam/redeem", {"token": token[:-1] + bytes([token[-1] ^ 1])}
    )
    assert (forged.code, forged.body["handfast:problem"]["reason"]) == ("4.03", "invite")
    redeemed = await invited.ask("post", "/iam/redeem", {"token": token})
    assert redeemed.code == "2.04"
    cddl.validate("redeemed", redeemed.payload)
    assert redeemed.body == {"user": "mia", "role": "user", "name": "kitchen"}
    me = await invited.ask("get", "/iam/me")
    cddl.validate("me", me.payload)
    assert (me.body["user"], me.body["fingerprint"]) == ("mia", invited.fingerprint)
    assert not app.access.store.state.invites


async def test_the_audit_trail_can_be_followed(app: App, client_of: ClientOf) -> None:
    owner = client_of("owner")
    following = await owner.start("/events?last=1", "-s", 600)
    await following.until("c:2.05")
    audit = app.access.audit
    audit.append(audit.event(EventKind.LABEL_MADE, detail="first"))
    await following.until("label-made", "first")
    audit.append(audit.event(EventKind.CODE_REVIVED, detail="second"))
    await following.until("code-revived", "second")
    following.interrupt()
    await following.end()


async def test_checks_and_error_responses_are_readable(
    app: App, client_of: ClientOf, cddl: Cddl
) -> None:
    guest, owner = client_of("guest"), client_of("owner")
    may = await guest.ask("get", "/iam/check?action=Hello:Get")
    cddl.validate("check", may.payload)
    assert may.body == {"action": "Hello:Get", "allowed": True}
    may_not = await guest.ask("get", "/iam/check?action=Iam:AddUser")
    cddl.validate("check", may_not.payload)
    assert may_not.body["missing"] == "You lack the right Iam:AddUser."
    about = await owner.ask("get", "/iam/check?action=Iam:AddUser&user=guest")
    cddl.validate("check", about.payload)
    assert (about.body["allowed"], bool(about.body["reason"])) == (False, True)

    refused = await guest.ask("post", "/iam/users", {"name": "mia", "role": "guest"})
    cddl.validate("problem", refused.payload)
    assert refused.code == "4.03"
    assert (refused.body[-1], refused.body[-2]) == (
        "you may not do this here",
        "You lack the right Iam:AddUser.",
    )
    assert "You lack the right Iam:AddUser." in refused.output  # the client prints it as well
    for path in ("/events", "/iam/invites", f"/iam/users/owner/keys/{NEW}"):
        method = "put" if NEW in path else "get"
        assert (await guest.ask(method, path)).code == "4.03"
    assert "mia" not in app.access.store.state.users
