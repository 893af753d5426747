"""Redeeming an invite at the real device; no other device ever receives the token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiocoap
import pytest

from client_app.client import Client
from client_app.models import KnownDevice
from client_app.pairing.ceremony import AnswerLost
from client_app.sync import Client as BlockingClient
from peer.errors import (
    Malformed,
    PeerError,
    PinMismatch,
    Unreachable,
    UsageError,
    WrongCode,
)
from peer.identity import Fingerprint
from peer.net.discovery import Advert
from peer.pairing import invite
from peer.pairing.label import Label
from tests.kit.adverts import no_adverts
from tests.kit.board import Board
from tests.kit.threads import DeviceThread

HOST = "127.0.0.1"
NOWHERE = f"{HOST}:9"


class Invites:
    """Creates invites of the real device with the address hints that a test chooses."""

    def __init__(self, device: DeviceThread, owner: Path) -> None:
        self.device = device
        self.owner = owner

    def make(self, *hints: str, name: str = "mia", **options: Any) -> str:
        """The text of a new invite; the default hint is the device's address."""
        with BlockingClient(home=self.owner, look=no_adverts) as client:
            made = client.connect("kitchen").iam.invite(name, **options)
        return self.with_hints(made.token, *(hints or (self.address,)))

    def with_hints(self, text: str, *hints: str) -> str:
        token, _ = invite.read_untrusted(text)
        changed = replace(token, addresses=hints)
        return changed.text(changed.sign(self.device.app.identity))

    @property
    def address(self) -> str:
        return f"{HOST}:{self.device.app.server.port}"


@pytest.fixture
def invites(owner: DeviceThread, home: Path) -> Invites:
    return Invites(owner, home)


@pytest.fixture
async def mia(tmp_path: Path) -> AsyncIterator[Client]:
    """A client without paired devices, on a LAN without adverts."""
    async with Client(home=tmp_path / "mia", look=no_adverts) as client:
        yield client


@pytest.fixture
def lose_messages(owner: DeviceThread, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lose the request or the answer of the next redemptions, one step for each."""
    resource: Any = owner.app.site.paths()["iam", "redeem"]
    whole = resource.render_post
    steps: list[str] = []

    async def render(request: aiocoap.Message) -> aiocoap.Message:
        step = steps.pop(0) if steps else ""
        answer = None if step == "lose request" else await whole(request)
        if step:
            owner.app.server.end_sessions(lambda _key: True)
        return answer or aiocoap.Message()

    monkeypatch.setattr(resource, "render_post", render)
    return steps.extend


def users(device: DeviceThread) -> list[str]:
    found: list[str] = device.do(lambda app: sorted(app.access.store.state.users))
    return found


# -------------------------------------------------------------------------- successful redemption


async def test_an_invite_is_enough_to_find_and_pair_the_device(
    invites: Invites, mia: Client
) -> None:
    done = await mia.redeem(invites.make(NOWHERE, invites.address, role="user"))
    assert done.is_new
    known = done.device
    assert mia.devices == [known]
    assert known.fingerprint == invites.device.fingerprint
    assert (known.alias, known.name, known.user, known.role) == (
        "kitchen",
        "kitchen",
        "mia",
        "user",
    )
    assert known.method == "invite"
    assert known.port == invites.device.app.server.port
    assert known.last_seen == invites.address
    assert known.addresses == (NOWHERE, invites.address)
    assert users(invites.device) == ["anna", "mia"]
    kitchen = await mia.connect("kitchen")
    assert (await kitchen.whoami()).user == "mia"


async def test_an_invite_without_hints_is_redeemed_at_the_announced_device(
    invites: Invites, tmp_path: Path
) -> None:
    async def look() -> AsyncIterator[Advert]:
        yield invites.device.advert()

    text = invites.with_hints(invites.make())
    async with Client(home=tmp_path / "mia", look=look) as client:
        assert (await client.pair(text, alias="cellar")).device.alias == "cellar"


async def test_an_invite_may_contain_line_breaks_and_lower_case(
    invites: Invites, mia: Client
) -> None:
    text = invites.make().lower()
    broken = "\n".join(text[at : at + 40] for at in range(0, len(text), 40))
    assert (await mia.redeem(f"  {broken}\n")).is_new


async def test_redeeming_an_invite_twice_changes_nothing(invites: Invites, mia: Client) -> None:
    text, notes = invites.make(), list[str]()
    first = await mia.redeem(text)
    again = await mia.redeem(text, on_note=notes.append)
    assert again.device == first.device
    assert not again.is_new
    assert users(invites.device) == ["anna", "mia"]
    assert "already a user of the device" in notes[0]


async def test_no_invite_is_sent_to_a_device_that_is_already_paired(
    invites: Invites, mia: Client
) -> None:
    await mia.redeem(invites.make())
    notes: list[str] = []
    done = await mia.redeem(invites.make(name="leo"), on_note=notes.append)
    assert (done.is_new, done.device.user) == (False, "mia")
    assert "was not used" in notes[0]
    mia.book.forget("kitchen")
    done = await mia.redeem(invites.make(name="ida"), on_note=notes.append)
    assert (done.device.user, len(notes)) == ("mia", 2)
    assert users(invites.device) == ["anna", "mia"]


async def test_a_client_that_lost_its_devices_file_can_redeem_again(
    invites: Invites, mia: Client
) -> None:
    text = invites.make()
    await mia.redeem(text)
    mia.book.forget("kitchen")
    done = await mia.redeem(text)
    assert (done.device.user, done.device.name) == ("mia", "kitchen")
    assert users(invites.device) == ["anna", "mia"]


async def test_a_removed_client_can_redeem_a_new_invite(invites: Invites, mia: Client) -> None:
    await mia.redeem(invites.make())
    invites.device.do(lambda app: app.access.registry.remove_user(None, "mia"))
    done = await mia.redeem(invites.make(name="mia-again"))
    assert (done.is_new, done.device.user, done.device.alias) == (True, "mia-again", "kitchen")


async def test_redeem_returns_the_end_of_the_access(invites: Invites, mia: Client) -> None:
    assert (await mia.redeem(invites.make(not_after=4e9))).until == 4_000_000_000


async def test_an_invite_for_another_key_is_not_sent(invites: Invites, mia: Client) -> None:
    with pytest.raises(UsageError, match="another client") as caught:
        await mia.redeem(invites.make(name="leo", key="11" * 32))
    assert mia.identity.fingerprint.grouped in caught.value.advice
    assert (await mia.redeem(invites.make(key=mia.identity.fingerprint))).is_new


async def test_an_invite_expired_by_the_clients_clock_is_redeemed(
    invites: Invites, mia: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_app.client.wall_clock", lambda: 5e9)
    notes: list[str] = []
    assert (await mia.redeem(invites.make(), on_note=notes.append)).is_new
    assert "the invite expired at" in notes[0]


# ------------------------------------------------------------------------------------ lost messages


@pytest.mark.parametrize(
    "steps", [["lose answer"], ["lose request"], ["lose request", "lose answer"]], ids=", ".join
)
async def test_a_lost_request_or_answer_is_resolved(
    invites: Invites, mia: Client, lose_messages: Callable[[list[str]], None], steps: list[str]
) -> None:
    """Both sides agree in the end, at the latest after the invite is redeemed again."""
    text = invites.make()
    lose_messages(list(steps))
    if len(steps) > 1:
        with pytest.raises(AnswerLost, match="was lost"):
            await mia.redeem(text)
        assert mia.devices == []
    assert (await mia.redeem(text)).device.user == "mia"
    assert users(invites.device) == ["anna", "mia"]
    assert (await (await mia.connect("kitchen")).whoami()).user == "mia"


QUIET = """
[[policy]]
id = "hello"
[[policy.statement]]
effect = "Allow"
actions = ["Hello:Get"]
[[role]]
id = "quiet"
rank = 5
policies = ["hello"]
"""


def load_policy(device: DeviceThread, policy: str) -> None:
    """Add a policy file to the device and load it."""
    folder = device.app.paths.policies
    folder.mkdir(exist_ok=True)
    (folder / "test.toml").write_text(policy)
    device.call(device.app.policies.reload)


async def test_a_lost_answer_is_resolved_if_whoami_is_denied(
    invites: Invites, mia: Client, lose_messages: Callable[[list[str]], None]
) -> None:
    load_policy(invites.device, QUIET)
    text = invites.make(role="quiet")
    lose_messages(["lose answer"])
    done = await mia.redeem(text)
    assert (done.is_new, done.device.user, done.device.role) == (True, "mia", "quiet")
    assert mia.devices == [done.device]
    # The device does not tell the user name, so the stored entry stays as it is.
    again = await mia.redeem(text)
    assert (again.is_new, again.device) == (False, done.device)
    assert users(invites.device) == ["anna", "mia"]


@pytest.mark.parametrize("may_ask", [True, False])
async def test_a_device_that_no_longer_accepts_invites_is_stored_for_its_user(
    invites: Invites, mia: Client, may_ask: bool
) -> None:
    """The device now answers an invite with 4.03, and the client asks for its own user."""
    load_policy(invites.device, QUIET)
    text = invites.make(role="guest" if may_ask else "quiet")
    await mia.redeem(text)
    mia.book.forget("kitchen")
    load_policy(invites.device, QUIET + '[[role]]\nid = "unpaired"\npolicies = []\n')
    notes: list[str] = []
    done = await mia.redeem(text, on_note=notes.append)
    assert done.device.user == ("mia" if may_ask else "")
    assert mia.devices == [done.device]
    assert "was not used" in notes[0]
    assert (await (await mia.connect(done.device.alias)).get("/hello")).code == "2.05"


async def test_a_used_up_invite_still_finds_the_device_of_its_user(
    invites: Invites, mia: Client
) -> None:
    await mia.redeem(invites.make())
    mia.book.forget("kitchen")
    text = invites.make(name="leo")
    async with Client(home=mia.home.folder.parent / "leo", look=no_adverts) as leo:
        await leo.redeem(text)
    done = await mia.redeem(text)
    assert done.device.user == "mia"
    assert mia.devices == [done.device]


# --------------------------------------------------------------------- no token for other devices


async def test_a_device_with_another_key_receives_no_request(
    invites: Invites, mia: Client, board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    """The impostor completes every handshake and records each request."""
    caplog.set_level(logging.DEBUG)
    impostor = f"{HOST}:{board.regular.port}"
    text = invites.make(impostor)
    with pytest.raises(PinMismatch) as caught:
        await mia.redeem(text)
    assert caught.value.expected == invites.device.fingerprint.hex
    assert caught.value.actual == board.fingerprint.hex
    assert board.requests == []
    assert mia.devices == []
    assert users(invites.device) == ["anna"]
    # The impostor does not prevent a redemption at the right device.
    assert (await mia.redeem(invites.with_hints(text, impostor, invites.address))).is_new
    assert board.requests == []


async def test_an_announced_impostor_receives_no_request(
    invites: Invites, board: Board, tmp_path: Path
) -> None:
    async def look() -> AsyncIterator[Advert]:
        yield replace(board.advert(), device_id=invites.device.fingerprint.device_id)

    async with Client(home=tmp_path / "mia", look=look) as client:
        with pytest.raises(Unreachable, match="another key answered"):
            await client.redeem(invites.with_hints(invites.make()))
    assert board.requests == []


async def test_the_key_is_checked_again_before_the_token_is_sent(
    invites: Invites, mia: Client, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that opens a session without a pin must not reveal the token."""
    transport = mia.connector.transport

    async def unpinned(address: Any, **_options: object) -> Any:
        return await transport.connect(address, pinned=None)

    monkeypatch.setattr(mia.connector, "connect_at", unpinned)
    with pytest.raises(PinMismatch):
        await mia.redeem(invites.make(f"{HOST}:{board.regular.port}"))
    assert board.requests == []


async def test_an_invite_of_another_device_than_expected_is_refused(
    invites: Invites, mia: Client
) -> None:
    text = invites.make()
    with pytest.raises(PinMismatch):
        await mia.redeem(text, expect=Fingerprint(b"\x01" * 32))
    assert (await mia.pair(text, expect=invites.device.fingerprint.hex)).is_new


async def test_used_withdrawn_and_forged_invites_are_refused(invites: Invites, mia: Client) -> None:
    """The device refuses them, and the client stores nothing."""
    used = invites.make()
    await mia.redeem(used)
    withdrawn = invites.make(name="leo")
    with BlockingClient(home=invites.owner, look=no_adverts) as client:
        iam = client.connect("kitchen").iam
        await asyncio.to_thread(iam.withdraw, iam.invites()[0].id)
    token, signed = invite.read_untrusted(invites.make(name="ida"))
    forged = token.text(signed[:-1] + bytes([signed[-1] ^ 1]))
    async with Client(home=mia.home.folder.parent / "leo", look=no_adverts) as leo:
        for text in (used, withdrawn, forged):
            with pytest.raises(WrongCode) as caught:
                await leo.redeem(text)
            assert not secrets_of(text) & set(str(caught.value).split())
        assert leo.devices == []


@pytest.mark.parametrize("answer", [b"", b"\xa0", b"\xa1duser\x01", b"\xa1duser`", b"\xff"])
async def test_a_malformed_answer_stores_nothing(
    invites: Invites, mia: Client, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    resource = invites.device.app.site.paths()["iam", "redeem"]

    async def render(_request: object) -> aiocoap.Message:
        return aiocoap.Message(code=aiocoap.CHANGED, payload=answer, content_format=60)

    monkeypatch.setattr(resource, "render_post", render)
    with pytest.raises(Malformed):
        await mia.redeem(invites.make())
    assert mia.devices == []


def secrets_of(text: str) -> set[str]:
    """The forms in which an invite's token could leak."""
    _, signed = invite.read_untrusted(text)
    return {text, text[12:], signed.hex(), repr(signed), repr(signed)[2:-1]}


async def test_the_token_is_in_no_log_and_no_error(
    invites: Invites,
    mia: Client,
    board: Board,
    caplog: pytest.LogCaptureFixture,
    lose_messages: Callable[[list[str]], None],
) -> None:
    caplog.set_level(logging.DEBUG)
    text = invites.make()
    printed: list[str] = []
    for hint in (NOWHERE, f"{HOST}:{board.regular.port}"):
        with pytest.raises(PeerError) as caught:
            await mia.redeem(invites.with_hints(text, hint))
        error: BaseException | None = caught.value
        while error is not None:
            printed += [repr(error), str(error), str(getattr(error, "advice", ""))]
            error = error.__cause__ or error.__context__
    lose_messages(["lose request", "lose request"])
    with pytest.raises(AnswerLost) as lost:
        await mia.redeem(text)
    printed += [repr(lost.value), lost.value.advice]
    assert (await mia.redeem(text)).is_new
    everything = caplog.text + "\n".join(printed)
    assert "byte(s) payload" in everything  # the log does contain the messages
    for secret in secrets_of(text):
        assert secret not in everything


# ------------------------------------------------------------------------- checks before a request


@pytest.mark.parametrize(
    "mangle",
    [
        lambda text: text[:-5],
        lambda text: text.replace("I:", "1:", 1),
        lambda text: text[:40] + "U" + text[41:],
        lambda _text: "handfast:",
        lambda text: text + text,
        lambda text: text[12:],
        lambda text: text.replace("HANDFAST:I:", "HANDFAST:7:", 1),
    ],
)
async def test_a_malformed_invite_is_not_repeated_in_the_error(
    invites: Invites, mia: Client, mangle: Callable[[str], str]
) -> None:
    text = mangle(invites.make())
    with pytest.raises(UsageError) as caught:
        await mia.pair(text, confirm=must_not_ask)
    error: BaseException = caught.value
    assert (text[-60:-10] or text) not in f"{error} {caught.value.advice} {error.__cause__!r}"
    assert not mia.devices


async def must_not_ask(_question: object) -> bool:
    raise AssertionError("no one is asked")


async def test_a_label_is_refused_as_an_invite(mia: Client) -> None:
    label = Label(Fingerprint(b"\x01" * 32), bytes(range(16))).text
    with pytest.raises(UsageError, match="label"):
        await mia.redeem(label)


async def test_a_user_name_or_role_beside_an_invite_is_refused(
    invites: Invites, mia: Client
) -> None:
    text = invites.make()
    with pytest.raises(UsageError, match="already contains the user name"):
        await mia.pair(text, name="eve")
    with pytest.raises(UsageError, match="already contains the user name"):
        await mia.pair(text, role="owner")


async def test_an_alias_of_another_device_is_refused(invites: Invites, mia: Client) -> None:
    other = KnownDevice("kitchen", Fingerprint(b"\x07" * 32))
    mia.book.put(other)
    text = invites.make()
    with pytest.raises(UsageError, match="another device"):
        await mia.redeem(text, alias="kitchen")
    assert users(invites.device) == ["anna"]
    done = await mia.redeem(text)
    assert done.device.alias == f"kitchen-{invites.device.fingerprint.device_id.lower()}"
    assert mia.book.find("kitchen") == other


async def test_no_answer_at_any_hint_raises_unreachable(invites: Invites, mia: Client) -> None:
    with pytest.raises(Unreachable) as caught:
        await mia.redeem(invites.make(NOWHERE))
    assert "not to a path over its broker" in caught.value.advice


def test_the_blocking_client_redeems_an_invite(invites: Invites, tmp_path: Path) -> None:
    with BlockingClient(home=tmp_path / "mia", look=no_adverts) as client:
        assert client.redeem(invites.make()).device.user == "mia"
        assert client.connect("kitchen").get("/hello").code == "2.05"
