"""docs/handfast.cddl describes exactly the bodies that a running device accepts and sends.

Every request and response body of a device on loopback is validated against its rule. Then each
body, and each map in a list of a body, is made invalid in every way (a missing key, an additional
key, a value of another type), and validation must fail.
"""

from __future__ import annotations

import re
from dataclasses import replace
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import pytest

from device_app.app import App
from device_app.pairing.hardware import Hardware
from device_app.pairing.stored_label import StoredLabel
from device_app.pairing.terms import PairingTerms
from device_app.settings.paths import Paths
from device_app.settings.tunnel import TunnelOptions
from iam.limits import IamLimits
from peer import cbor
from peer.limits import DEFAULT_LIMITS
from peer.pairing.binding import Channel
from peer.pairing.button import ButtonClient
from peer.pairing.ceremony import OverlapRule
from peer.pairing.code import CodeClient
from peer.pairing.invite import read_untrusted
from peer.pairing.label import LabelClient
from peer.pairing.sas import SasClient
from peer.pairing.sides import Session, Terms
from peer.pairing.typed import TypedCode
from tests.kit.documents import CddlError
from tests.kit.recorder import POLICY, SETTINGS, TOKEN, Caller, Kit, Seen
from tests.kit.remote_agents import REMOTE, FakeAgent, write_password
from tests.kit.tcp import TcpService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
    from pathlib import Path

    from peer.pairing.sides import ClientSide
    from tests.kit.documents import Cddl, ProtocolDocument


@pytest.fixture
async def service() -> AsyncIterator[TcpService]:
    """The service of the device. It does not answer yet."""
    made = TcpService()
    yield made
    await made.close()


@pytest.fixture
async def kit(tmp_path: Path, cddl: Cddl, service: TcpService) -> AsyncIterator[Kit]:
    home = tmp_path / "home"
    (home / "policy.d").mkdir(parents=True)
    (home / "policy.d" / "visitor.toml").write_text(POLICY)
    write_password(home)
    terms = PairingTerms(overlap=OverlapRule.FIRST_WINS)
    app = await App.start(
        Paths(home, home, home),
        replace(
            SETTINGS,
            terms=terms,
            tunnel=TunnelOptions(services={"ssh": service.address}),
            limits=replace(DEFAULT_LIMITS, window_failures=100, backoff_after=100),
            iam_limits=IamLimits(keys_per_user=3),
            remote=REMOTE,
        ),
        board_seconds=0.05,
        make_agent=FakeAgent().make,
    )
    made = Kit(app, Seen(cddl))
    try:
        yield made
    finally:
        for caller in made.callers:
            await caller.close()
        await app.close()


async def pairing(kit: Kit) -> Caller:
    """Exchange every body of the pairing port; returns the owner."""
    olga, mallory = kit.caller(), kit.caller()
    await kit.app.pairing.open(seconds=10_000)
    offer = await olga.ask("GET", "/pair", code="2.05", gets="offer")
    assert offer["seconds"] == DEFAULT_LIMITS.window_max_seconds
    assert offer["port"] == kit.app.server.port
    started = await olga.start("olga", role="")
    assert (await olga.confirm(started, code="4.09"))["handfast:problem"] == {"reason": "busy"}
    start = {"method": "compare", "name": "mallory"}
    busy = await mallory.ask("POST", "/pair", start, code="5.03")
    assert busy["handfast:problem"] == {"reason": "busy"}
    path = f"/pair/{started['id']}"
    await mallory.ask("GET", path, code="4.04")
    await olga.ask("GET", path, code="2.05", gets="pair-state")
    kit.app.pairing.ceremonies.decide(started["id"], accept=True)
    await olga.ask("GET", path, code="2.05", gets="pair-state")
    # Observe an accepted ceremony, and end it with a wrong tag.
    assert await olga.observe(path, "pair-state", count=1) == [
        {"state": "PENDING_CLIENT_COMPLETION"}
    ]
    await olga.confirm(started, code="4.03", spoil=True)
    assert await olga.ask("GET", path, code="2.05", gets="pair-state") == {"state": "REFUSED"}
    again = await olga.start("olga")
    aborted = await olga.ask("DELETE", f"/pair/{again['id']}", code="2.02", gets="pair-state")
    assert aborted == {"state": "REVOKED"}
    done = await olga.pair("olga")
    assert (done["user"], done["role"]) == ("olga", "owner")
    await kit.app.pairing.open()
    await olga.ask(
        "POST",
        "/pair",
        {"method": "compare", "name": "olga"},
        sends="pair-start",
        code="2.04",
        gets="pair-known",
    )
    await olga.ask("POST", "/pair", {"method": "compare", "name": "other"}, code="4.09")
    await olga.ask("POST", "/pair", {"method": "none", "name": "x"}, code="4.09")
    await mallory.ask("POST", "/pair", {"method": "none", "name": "x"}, code="4.03")
    kit.app.pairing.close_window()
    return olga


async def other_methods(kit: Kit) -> None:
    """Pair with each method except `compare`."""
    device, service = kit.app.identity.fingerprint, kit.app.pairing
    service.methods.hardware = Hardware(button=True)
    stored, label, printed = StoredLabel.create(device, token_bytes)
    service.methods.replace_label(stored)

    def code_side(session: Session) -> ClientSide:
        return CodeClient(
            session, TypedCode.parse_untrusted(service.methods.shown_code), token_bytes
        )

    sides: dict[str, Callable[[Session], ClientSide]] = {
        "sas": lambda _session: SasClient(token_bytes),
        "code": code_side,
        "printed": lambda session: CodeClient(session, printed, token_bytes),
        "label": lambda session: LabelClient(session, label),
        "button": lambda _session: ButtonClient(),
    }
    for name, made in sides.items():
        method = "code" if name == "printed" else name
        await service.open(methods=[method], role="guest", pressed=method == "button")
        await pair_with(kit, kit.caller(), name, made)


async def pair_with(
    kit: Kit, caller: Caller, user: str, made: Callable[[Session], ClientSide]
) -> None:
    peer = (await caller.connection(pairing=True)).peer
    own = caller.identity.fingerprint
    side = made(Session(peer.exporter, own, peer.fingerprint))
    started = await caller.start(user, **{"method": side.method, **side.begin()})
    path = f"/pair/{started['id']}"
    channel = Channel(peer.exporter, own, peer.fingerprint, started["window"])
    terms = Terms(channel, started["role"], user, started["id"])
    if fields := side.started_untrusted(terms, started):
        opened = await caller.ask(
            "POST", path, fields, sends="pair-nonce", code="2.04", gets="pair-opened"
        )
        side.exchanged_untrusted(opened)
        kit.app.pairing.ceremonies.decide(started["id"], accept=True)
    confirmed = await caller.ask(
        "POST", path, side.confirm(), sends="pair-confirm", code="2.04", gets="pair-confirmed"
    )
    side.verify_untrusted(confirmed)


async def administration(kit: Kit, olga: Caller) -> None:
    """Exchange the bodies of the regular port: users, keys, roles, policies."""
    key = "AB:" * 31 + "ab"
    request = {
        "name": "anna",
        "role": "guest",
        "display": "Anna",
        "keys": [{"fingerprint": key, "name": "laptop"}, "cd" * 32],
        "not_after": 4e9,
        "not_before": 0,
    }
    anna = "/iam/users/anna"
    made = await olga.ask(
        "POST", "/iam/users", request, sends="user-new", code="2.01", gets="user-info"
    )
    assert [one["fingerprint"] for one in made["keys"]] == ["ab" * 32, "cd" * 32]
    await olga.ask("POST", "/iam/users", request, code="2.01", gets="user-info")  # the same again
    await olga.ask("POST", "/iam/users", request | {"role": "user"}, code="4.09")
    await olga.ask("GET", anna, code="2.05", gets="user-info")
    for method in ("PATCH", "iPATCH", "POST"):
        request = {"not_after": None, "role": "user", "display": method}
        await olga.ask(method, anna, request, sends="user-change", code="2.04", gets="user-info")
    await olga.ask("PUT", f"{anna}/keys/{'ef' * 32}", code="2.04", gets="user-info")
    await olga.ask(
        "PUT",
        f"{anna}/keys/{key}",
        {"name": "desk"},
        sends="key-new",
        code="2.04",
        gets="user-info",
    )
    await olga.ask("PUT", f"{anna}/keys/{'01' * 32}", code="4.09")
    await olga.ask("DELETE", f"{anna}/keys/{key}", code="2.02")
    await olga.ask("GET", "/iam/users", code="2.05", gets="users")
    await olga.ask("GET", "/iam/roles", code="2.05", gets="roles")
    await olga.ask("GET", "/iam/policies", code="2.05", gets="policies")
    await olga.ask("DELETE", anna, code="2.02")
    await olga.ask("DELETE", anna, code="4.04")
    await olga.ask("DELETE", "/iam/users/olga", code="4.09")
    await olga.ask("GET", "/iam/me", code="2.05", gets="me")
    await olga.observe("/board", "board", count=2)
    await olga.ask("POST", "/iam/me", {}, code="4.05")
    await kit.caller().ask("GET", "/hello", code="4.03")
    # A user whose access ends.
    limited = kit.caller()
    print_ = limited.identity.fingerprint.hex
    request = {"name": "bert", "role": "guest", "keys": [print_], "not_after": 4_000_000_000}
    await olga.ask("POST", "/iam/users", request, sends="user-new", code="2.01", gets="user-info")
    me = await limited.ask("GET", "/iam/me", code="2.05", gets="me")
    assert me["until"] == 4_000_000_000
    users = await olga.ask("GET", "/iam/users", code="2.05", gets="users")
    assert [one["name"] for one in users if "last_seen" in one] == ["bert", "olga"]


async def decisions(kit: Kit, olga: Caller) -> None:
    """Exchange the bodies of permission checks, by a user for itself and for others."""
    visitor = kit.caller()
    keys = [visitor.identity.fingerprint.hex]
    request = {"name": "vera", "role": "visitor", "keys": keys}
    await olga.ask("POST", "/iam/users", request, sends="user-new", code="2.01", gets="user-info")
    me = await visitor.ask("GET", "/iam/me", code="2.05", gets="me")
    assert me["conditional"] == ["Iam:ListUsers"]
    for sender, action, allowed in (
        (visitor, "action=Hello:Get", True),
        (visitor, "action=Iam:ListUsers", False),
        (olga, "action=Iam:ListUsers&user=vera", False),
    ):
        path = f"/iam/check?{action}"
        assert (await sender.ask("GET", path, code="2.05", gets="check"))["allowed"] is allowed
    await visitor.ask("GET", "/iam/check?action=Hello:Get&user=olga", code="4.03")
    await olga.ask("GET", "/iam/check?action=Hello:Get&user=nobody", code="4.04")
    await olga.ask("GET", "/iam/check?action=Hello", code="4.00")


async def invitations(kit: Kit, olga: Caller) -> None:
    """Create, list, redeem and withdraw invites."""
    mia, leo = kit.caller(), kit.caller()
    request = {
        "name": "mia",
        "role": "guest",
        "seconds": 3600.5,
        "uses": 2,
        "key": mia.identity.fingerprint.grouped,
        "not_after": 4_000_000_000,
    }
    path = "/iam/invites"
    bound = await olga.ask(
        "POST", path, request, sends="invite-new", code="2.01", gets="invite-made"
    )
    small = {"name": "leo"}
    other = await olga.ask("POST", path, small, sends="invite-new", code="2.01", gets="invite-made")
    assert (other["role"], other["uses"], other["inviter"]) == ("guest", 1, "olga")
    listed = await olga.ask("GET", path, code="2.05", gets="invites")
    assert [one["id"] for one in listed] == [bound["id"], other["id"]]
    tokens = [decode_token(kit.seen, made["token"]) for made in (bound, other)]
    request = {"token": tokens[0]}
    await leo.ask("POST", "/iam/redeem", request, sends="redeem", code="4.03")
    for _ in range(2):
        became = await mia.ask(
            "POST", "/iam/redeem", request, sends="redeem", code="2.04", gets="redeemed"
        )
    assert became == {"user": "mia", "role": "guest", "name": "kitchen", "until": 4_000_000_000}
    await mia.ask("POST", "/iam/redeem", {"token": tokens[1]}, code="4.09")
    became = await leo.ask(
        "POST", "/iam/redeem", {"token": tokens[1]}, code="2.04", gets="redeemed"
    )
    assert "until" not in became
    await leo.ask("POST", path, {"name": "zoe"}, code="4.03")
    (rest,) = await olga.ask("GET", path, code="2.05", gets="invites")
    assert rest["uses"] == 1
    await olga.ask("DELETE", f"{path}/{rest['id']}", code="2.02")
    await olga.ask("DELETE", f"{path}/{rest['id']}", code="4.04")
    assert await olga.ask("GET", path, code="2.05", gets="invites") == []


def decode_token(seen: Seen, text: str) -> bytes:
    """Return the bytes of a token, and record them and their parts."""
    token, signed = read_untrusted(text)
    protected, _, claims, _ = seen.note("invite-token", signed)
    header = seen.note("invite-header", protected)
    output = seen.note("invite-claims", claims)
    assert (header[4], output[7]) == (token.device.digest, token.id)
    return signed


async def windows(olga: Caller) -> None:
    """Open and close the pairing window remotely."""
    path = "/iam/window"
    closed = await olga.ask("GET", path, code="2.05", gets="window")
    assert closed == {"open": False}
    request = {"seconds": 60, "role": "user", "methods": ["compare"]}
    opened = await olga.ask("POST", path, request, sends="window-new", code="2.04", gets="window")
    assert (opened["role"], opened["methods"]) == ("user", ["compare"])
    request = {"role": "guest"}
    busy = await olga.ask("POST", path, request, sends="window-new", code="4.09")
    assert busy["handfast:problem"] == {"reason": "busy"}
    await olga.ask("GET", path, code="2.05", gets="window")
    await olga.ask("DELETE", path, code="2.02")


async def tunnels(olga: Caller, service: TcpService) -> None:
    """List the services, and open a tunnel to one that answers."""
    path = "/tunnels"
    listed = await olga.ask("GET", path, code="2.05", gets="tunnels")
    assert listed == {"services": ["ssh"]}
    request = {"service": "ssh"}
    down = await olga.ask("POST", path, request, sends="tunnel-request", code="5.02")
    assert down["handfast:problem"] == {"reason": "service-down"}
    await olga.ask("POST", path, {"service": "web"}, sends="tunnel-request", code="4.04")
    await olga.ask("POST", path, {"service": "w b"}, code="4.04")
    await service.start()
    made = await olga.ask("POST", path, request, sends="tunnel-request", code="2.01", gets="tunnel")
    assert made["service"] == "ssh"


async def audit_trail(olga: Caller) -> None:
    """Read and observe the events of the exchanges before."""
    found = await olga.ask("GET", "/events?last=100", code="2.05", gets="events")
    assert len(found["events"]) > 30
    first = found["events"][0]["seq"]
    since = await olga.ask("GET", f"/events?since={first}&last=1", code="2.05", gets="events")
    assert [one["seq"] for one in since["events"]] == [first + 1]
    (newest,) = await olga.observe("/events", "events", count=1)
    assert newest["events"][-1]["digest"] == newest["digest"] == found["digest"]


async def test_every_body_of_a_device_matches_its_rule(
    kit: Kit, protocol: ProtocolDocument, service: TcpService
) -> None:
    olga = await pairing(kit)
    await other_methods(kit)
    await administration(kit, olga)
    await decisions(kit, olga)
    await invitations(kit, olga)
    await windows(olga)
    await tunnels(olga, service)
    await audit_trail(olga)
    await olga.ask("GET", "/remote", code="2.05", gets="remote-settings")
    cells = [row[1] + row[-1] for row in protocol.table("pairing")]
    cells += [row[2] + row[-1] for row in protocol.table("regular")]
    documented = {word for cell in cells for word in re.findall(r"`([a-z-]+)`", cell)}
    assert kit.seen.bodies.keys() == documented | {"problem"} | TOKEN
    cddl = kit.seen.cddl
    for rule, bodies in kit.seen.bodies.items():
        for body in one_of_each_shape(map(cbor.decode_untrusted, bodies)):
            form = form_of(cddl, rule, body)
            wrong = [
                one for one in invalid_bodies(cddl, form, body) if cddl.fits(form, cbor.encode(one))
            ]
            assert wrong == [], form


def form_of(cddl: Cddl, rule: str, body: object) -> str:
    """The alternative of a rule that a body matches: without one key it may match another."""
    forms = [one for one in cddl.alternatives(rule) if cddl.fits(one, cbor.encode(body))]
    assert len(forms) < 2, forms
    return form_of(cddl, forms[0], body) if forms else rule


def one_of_each_shape(values: Iterable[Any]) -> list[Any]:
    """One value of each shape; values of one shape differ only in their content."""
    return list({shape(value): value for value in values}.values())


def shape(value: Any) -> Hashable:
    if isinstance(value, dict):
        return frozenset((key, shape(one)) for key, one in value.items())
    if isinstance(value, list):
        return frozenset(map(shape, value))
    return str(type(value))


def invalid_bodies(cddl: Cddl, rule: str, body: Any) -> Iterator[object]:
    """Bodies with one error each."""
    if isinstance(body, list):
        yield from ({"0": body}, [*body, 7])
        inner = cddl.element(rule)
        yield from invalid_elements(cddl, inner, body) if inner else invalid_arrays(body)
        return
    yield from ([], "text", 7, {**body, "surprise": 1})
    may_lack, lists = cddl.optional(rule), cddl.lists(rule)
    for key, value in body.items():
        numeric = value is None or type(value) in {int, float}
        yield {**body, key: "another type" if numeric else 7}
        yield {**body, key: [] if isinstance(value, dict) else {}}
        if str(key) not in may_lack:
            yield {other: value for other, value in body.items() if other != key}
        if key in lists:
            for wrong in invalid_elements(cddl, lists[key], value):
                yield {**body, key: wrong}


def invalid_elements(cddl: Cddl, rule: str, values: list[Any]) -> Iterator[list[Any]]:
    """Arrays of two elements whose second is invalid."""
    for one in one_of_each_shape(value for value in values if isinstance(value, dict)):
        for wrong in invalid_bodies(cddl, rule, one):
            if wrong != "text":  # some elements may be a text
                yield [one, wrong]


def invalid_arrays(values: list[Any]) -> Iterator[list[Any]]:
    """Arrays of fixed length with one element missing or of another type."""
    for at in range(len(values)):
        yield [*values[:at], *values[at + 1 :]]
        yield [*values[:at], 7, *values[at + 1 :]]


WRONG_REQUESTS: list[tuple[str, str, str, object]] = [
    ("POST", "/pair", "pair-start", {"name": "anna"}),
    ("POST", "/pair", "pair-start", {"method": "compare"}),
    ("POST", "/pair", "pair-start", {"method": "compare", "name": 7}),
    ("POST", "/pair", "pair-start", {"method": "compare", "name": "anna", "role": 7}),
    ("POST", "/pair", "pair-start", ["compare", "anna"]),
    ("POST", "/iam/users", "user-new", {"name": "anna"}),
    ("POST", "/iam/users", "user-new", {"name": "anna", "role": "guest", "surprise": 1}),
    ("POST", "/iam/users", "user-new", {"name": "anna", "role": "guest", "keys": "ab" * 32}),
    ("POST", "/iam/users", "user-new", {"name": "anna", "role": "guest", "not_after": "soon"}),
    ("iPATCH", "/iam/users/olga", "user-change", {"role": None}),
    ("iPATCH", "/iam/users/olga", "user-change", {"role": "owner", "keys": []}),
    ("PUT", f"/iam/users/olga/keys/{'ab' * 32}", "key-new", {"name": 7}),
    ("PUT", f"/iam/users/olga/keys/{'ab' * 32}", "key-new", {"surprise": 1}),
    ("POST", "/iam/invites", "invite-new", {}),
    ("POST", "/iam/invites", "invite-new", {"name": "mia", "surprise": 1}),
    ("POST", "/iam/invites", "invite-new", {"name": "mia", "uses": 0}),
    ("POST", "/iam/invites", "invite-new", {"name": "mia", "uses": 33}),
    ("POST", "/iam/invites", "invite-new", {"name": "mia", "seconds": "long"}),
    ("POST", "/iam/invites", "invite-new", {"name": "mia", "key": b"Z" * 32}),
    ("POST", "/iam/redeem", "redeem", {"token": "HANDFAST:I:0"}),
    ("POST", "/iam/redeem", "redeem", {"token": b"", "surprise": 1}),
    ("POST", "/iam/window", "window-new", {"surprise": 1}),
    ("POST", "/iam/window", "window-new", {"methods": "compare"}),
    ("POST", "/iam/window", "window-new", {"role": 7}),
]


async def test_bodies_that_violate_their_rule_are_refused(kit: Kit) -> None:
    olga = kit.caller()
    await olga.pair("olga")
    await kit.app.pairing.open()
    unpaired = kit.caller()
    for method, path, rule, body in WRONG_REQUESTS:
        with pytest.raises(CddlError):
            kit.seen.cddl.validate(rule, cbor.encode(body))
        sender = unpaired if path == "/pair" else olga
        answer = await sender.ask(method, path, body, code="4.00")
        assert answer["handfast:problem"] == {"reason": "malformed"}
    # The pairing port ignores unknown keys, as the head of the CDDL states.
    body = {"method": "compare", "name": "anna", "surprise": 1}
    await unpaired.ask("POST", "/pair", body, code="2.01", gets="pair-started")


async def test_malformed_and_too_large_bodies_get_the_documented_code(kit: Kit) -> None:
    await kit.app.pairing.open()
    unpaired = kit.caller()
    await unpaired.ask("POST", "/pair", raw=b"\xa1", code="4.00")
    await unpaired.ask("POST", "/pair", raw=cbor.encode({}) + b"\x00", code="4.00")
    large = cbor.encode({"method": "compare", "name": "a" * DEFAULT_LIMITS.pairing_body_bytes})
    await unpaired.ask("POST", "/pair", raw=large, code="4.13")


def test_the_documented_actions_equal_those_of_the_guard(
    protocol: ProtocolDocument, kit_rules: Rules
) -> None:
    table: Rules = {}
    for request, actions, *_ in protocol.table("regular"):
        action = re.findall(r"\w+:\w+", actions)[0]  # a handler may check another one as well
        methods = re.findall(r"\b(?:GET|POST|PUT|DELETE|iPATCH|PATCH)\b", request)
        for path in re.findall(r"`/([^`]+)`", request):
            segments = tuple(None if part.startswith("{") else part for part in path.split("/"))
            table.setdefault(segments, {}).update(dict.fromkeys(methods, action))
    sensor = ("board", "temperature")
    if sensor not in kit_rules:  # this machine has no sensor
        del table[sensor]
    assert table == kit_rules


Rules = dict[tuple[str | None, ...], dict[str, str]]


@pytest.fixture
async def kit_rules(kit: Kit) -> Rules:
    """The actions that the guard of a running device requires: path → method → action."""
    return {path: dict(actions) for path, actions in kit.app.guard.rules.actions().items()}
