"""Other people's ceremonies, and tags that belong elsewhere (protocol §5).

A tag is good once, on one session, for one window, role and method. Anything else is
refused, stores nothing, and leaves a device that still pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from device_app.pairing.events import PairingEventKind
from peer.identity import Identity
from peer.pairing.binding import Channel, Confirmation, confirmation
from tests.kit.device import LINGERING

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit


async def accepted(caller: Caller, device: Device, name: str = "anna", role: str = "") -> Answer:
    """A ceremony to which the device's user has said yes."""
    started = await caller.start(name, **({"role": role} if role else {}))
    assert started.code == "2.01", started.body
    device.decide(accept=True)
    return started


async def reopened(device: Device, role: str = "user") -> None:
    await device.closed()
    await device.open(role=role, clears_backoff=True)


async def refused(caller: Caller, device: Device, started: Answer, tag: bytes) -> None:
    """This tag pairs no one, and ends the ceremony: the right tag comes too late then."""
    before = device.users
    right = caller.tags(started).client_tag
    answer = await caller.send_tag(started, tag)
    assert (answer.code, answer.reason) == ("4.03", "wrong-code"), tag
    assert device.users is before
    late = await caller.send_tag(started, right)
    assert (late.code, late.reason) == ("4.03", "refused")
    assert device.users is before


async def pairs(caller: Caller, device: Device, name: str = "anna") -> None:
    """The daemon still does its work."""
    await reopened(device)
    started = await accepted(caller, device, name)
    assert (await caller.send_tag(started, caller.tags(started).client_tag)).code == "2.04"
    assert device.users.user(name).fingerprints == {caller.fingerprint}


@pytest.mark.parametrize("same_key", [True, False])
@pytest.mark.parametrize("stage", ["asking", "accepted", "registered", "refused"])
async def test_to_another_session_a_ceremony_does_not_exist(
    kit: Kit, device: Device, same_key: bool, stage: str
) -> None:
    await device.open(role="user")
    caller = kit.caller(device)
    thief = kit.caller(device, caller.identity if same_key else Identity.create())
    nothing = await thief.pair_ask("GET", "/pair/000000000000000000")
    started = await caller.start("anna")
    right = caller.tags(started).client_tag
    if stage != "asking":
        device.decide(accept=stage != "refused")
    if stage == "registered":
        assert (await caller.send_tag(started, right)).code == "2.04"
    users = device.users
    path = f"/pair/{started.body['id']}"
    for method, body in (
        ("GET", None),
        ("DELETE", None),
        ("POST", {"confirm": right}),
        ("POST", {"confirm": bytes(32)}),
        ("POST", {}),
        ("PUT", {}),
    ):
        answer = await thief.pair_ask(method, path, body)
        if method == "PUT":
            assert answer.code == "4.05"
            continue
        assert (answer.code, answer.payload) == ("4.04", nothing.payload), (method, body)
    for observe in (0, 1):
        answer = await thief.pair_ask("GET", path, observe=observe)
        assert (answer.code, answer.message.opt.observe) == ("4.04", None)
    assert device.users is users
    if stage == "accepted":
        assert (await caller.send_tag(started, right)).code == "2.04"


async def test_a_second_session_of_the_same_key_never_takes_the_first_one_over(
    kit: Kit, device: Device
) -> None:
    """Starting again on another session ends the first ceremony, and its tags end with it."""
    await device.open(role="user")
    one = kit.caller(device)
    other = kit.caller(device, one.identity)
    first = await accepted(one, device)
    first_tag = one.tags(first).client_tag
    second = await accepted(other, device)
    assert (await one.send_tag(first, first_tag)).code == "4.04"
    await refused(other, device, second, first_tag)
    assert not device.users.users


async def test_tags_of_elsewhere(kit: Kit, device: Device) -> None:
    """Another session, role, window, method, key on either side; reflected, cut, and padded."""
    caller = kit.caller(device)
    other = kit.caller(device, caller.identity)
    await other.connect(pairing=False)
    await device.open(role="user")
    old = await accepted(caller, device)
    stale = caller.tags(old)
    await reopened(device)

    def tags(started: Answer, **changed: Any) -> Confirmation:
        peer = caller.connections[True].peer
        facts = {
            "ekm": peer.exporter,
            "client": caller.identity.fingerprint,
            "device": peer.fingerprint,
            "window_id": started.body["window"],
        }
        method, role = str(changed.pop("method", "compare")), str(changed.pop("role", "user"))
        channel = Channel(**(facts | changed))
        return confirmation(channel.ekm, channel.binding(method=method, role=role), method)

    stranger = Identity.create().fingerprint
    makers: dict[str, Callable[[Answer], bytes]] = {
        "stale": lambda _started: stale.client_tag,
        "reflected": lambda started: tags(started).device_tag,
        "other session": lambda started: (
            tags(started, ekm=other.connections[False].peer.exporter).client_tag
        ),
        "no session": lambda started: tags(started, ekm=bytes(32)).client_tag,
        "other window": lambda started: tags(started, window_id=old.body["window"]).client_tag,
        "other role": lambda started: tags(started, role="owner").client_tag,
        "lower role": lambda started: tags(started, role="guest").client_tag,
        "no role": lambda started: tags(started, role="").client_tag,
        "other method": lambda started: tags(started, method="sas").client_tag,
        "other client": lambda started: tags(started, client=stranger).client_tag,
        "other device": lambda started: tags(started, device=stranger).client_tag,
        "sides swapped": lambda started: (
            tags(started, client=device.fingerprint, device=caller.identity.fingerprint).client_tag
        ),
        "cut": lambda started: tags(started).client_tag[:-1],
        "half": lambda started: tags(started).client_tag[:16],
        "first byte": lambda started: tags(started).client_tag[:1],
        "padded": lambda started: tags(started).client_tag + b"\x00",
        "both": lambda started: tags(started).client_tag + tags(started).device_tag,
        "nothing": lambda _started: b"",
        "zeros": lambda _started: bytes(32),
        "one bit": lambda started: (
            bytes([tags(started).client_tag[0] ^ 1]) + tags(started).client_tag[1:]
        ),
    }
    for what, make in makers.items():
        await reopened(device)
        started = await accepted(caller, device)
        assert tags(started) == caller.tags(started)
        await refused(caller, device, started, make(started))
        assert not device.users.users, what
    await pairs(caller, device)


async def test_a_right_tag_is_right_once(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open(role="user")
    started = await accepted(caller, device)
    tag = caller.tags(started).client_tag
    early = await kit.caller(device, caller.identity).pair_ask("GET", "/pair")
    assert early.code == "2.05"
    assert (await caller.send_tag(started, tag)).code == "2.04"
    users = device.users
    for _ in range(3):
        again = await caller.send_tag(started, tag)
        assert again.code == "4.04"
        assert device.users is users
    assert (await caller.pair_ask("DELETE", f"/pair/{started.body['id']}")).code == "4.04"
    assert device.users is users


async def test_a_tag_before_the_devices_user_has_decided_is_not_even_looked_at(
    kit: Kit, device: Device
) -> None:
    caller = kit.caller(device)
    await device.open(role="user")
    started = await caller.start("anna")
    tags = caller.tags(started)
    for tag in (tags.client_tag, bytes(32), tags.device_tag):
        assert (await caller.send_tag(started, tag)).reason == "busy"
    assert not device.users.users
    device.decide(accept=True)
    assert (await caller.send_tag(started, tags.client_tag)).code == "2.04"


async def test_the_role_that_was_shown_is_the_role_that_is_stored(kit: Kit, device: Device) -> None:
    kit.known(device, "olga", "owner")
    caller = kit.caller(device)
    await device.open(role="user")
    started = await accepted(caller, device, role="guest")
    answer = await caller.pair_ask(
        "POST",
        f"/pair/{started.body['id']}",
        {"confirm": caller.tags(started).client_tag, "role": "owner", "name": "olga"},
    )
    assert answer.code in {"2.04", "4.00"}
    assert device.users.user("olga").role == "owner"
    if answer.code == "2.04":
        assert device.users.user("anna").role == "guest"


async def test_two_keys_in_one_window_and_both_are_out(kit: Kit) -> None:
    """At each step a second client leaves no one stored, and the first one's tag invalid."""
    device = await kit.device(limits=LINGERING)
    for decided in (False, True):
        await device.open(role="user")
        first, second = kit.caller(device), kit.caller(device)
        started = await first.start("anna")
        if decided:
            device.decide(accept=True)
        intruder = await second.start("anna")
        assert (intruder.code, intruder.reason) == ("4.03", "refused")
        answer = await first.send_tag(started, first.tags(started).client_tag)
        assert (answer.code, answer.reason) == ("4.03", "refused")
        assert not device.users.users
        assert not device.app.pairing.is_open
    overlaps = [news for news in device.news if news.kind is PairingEventKind.CLOSED]
    assert "overlap" in {news.reason for news in overlaps}


async def test_failures_close_the_window_however_they_came_about(kit: Kit, device: Device) -> None:
    """A wrong tag, an abort and a lost session: three in all."""
    caller = kit.caller(device)
    await device.open(role="user")
    await refused(caller, device, await accepted(caller, device), bytes(32))
    assert device.app.pairing.is_open
    started = await caller.start("anna")
    await caller.pair_ask("DELETE", f"/pair/{started.body['id']}")
    assert device.app.pairing.is_open
    await caller.start("anna")
    await (await caller.connect(pairing=True)).close()
    assert (await device.heard(PairingEventKind.CLOSED)).reason == "failures"
    await device.closed()
    assert not device.users.users
    assert device.app.pairing.budget.failures == 3
