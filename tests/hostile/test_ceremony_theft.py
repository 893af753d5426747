"""Requests on ceremonies of other clients, and tags from other contexts (protocol §5).

A tag is valid once, on one session, for one window, role and method. Any other tag is refused and
stores nothing, and the device can still pair afterwards.
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
    """Start a ceremony and accept it as the device's user."""
    started = await caller.start(name, **({"role": role} if role else {}))
    assert started.code == "2.01", started.body
    device.decide(accept=True)
    return started


async def reopened(device: Device, role: str = "user") -> None:
    await device.closed()
    await device.open(role=role, clears_backoff=True)


async def refused(caller: Caller, device: Device, started: Answer, tag: bytes) -> None:
    """Send this tag; check that it is refused and ends the ceremony, even for the right tag."""
    before = device.users
    right = caller.tags(started).client_tag
    answer = await caller.send_tag(started, tag)
    assert (answer.code, answer.reason) == ("4.03", "wrong-code"), tag
    assert device.users is before
    late = await caller.send_tag(started, right)
    assert (late.code, late.reason) == ("4.03", "refused")
    assert device.users is before


async def pairs(caller: Caller, device: Device, name: str = "anna") -> None:
    """Check that this client can still pair."""
    await reopened(device)
    started = await accepted(caller, device, name)
    assert (await caller.send_tag(started, caller.tags(started).client_tag)).code == "2.04"
    assert device.users.user(name).fingerprints == {caller.fingerprint}


@pytest.mark.parametrize("same_key", [True, False])
@pytest.mark.parametrize("stage", ["asking", "accepted", "registered", "refused"])
async def test_a_ceremony_is_not_found_from_another_session(
    kit: Kit, same_key: bool, stage: str
) -> None:
    device = await kit.device(limits=LINGERING)
    await device.open(role="user")
    caller = kit.caller(device)
    attacker = kit.caller(device, caller.identity if same_key else Identity.create())
    nothing = await attacker.pair_ask("GET", "/pair/000000000000000000")
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
        answer = await attacker.pair_ask(method, path, body)
        if method == "PUT":
            assert answer.code == "4.05"
            continue
        assert (answer.code, answer.payload) == ("4.04", nothing.payload), (method, body)
    for observe in (0, 1):
        answer = await attacker.pair_ask("GET", path, observe=observe)
        assert (answer.code, answer.message.opt.observe) == ("4.04", None)
    assert device.users is users
    if stage == "accepted":
        assert (await caller.send_tag(started, right)).code == "2.04"


async def test_a_second_session_of_a_key_cannot_use_the_tags_of_the_first(
    kit: Kit, device: Device
) -> None:
    """Starting again on another session ends the first ceremony and invalidates its tags."""
    await device.open(role="user")
    one = kit.caller(device)
    other = kit.caller(device, one.identity)
    first = await accepted(one, device)
    first_tag = one.tags(first).client_tag
    second = await accepted(other, device)
    assert (await one.send_tag(first, first_tag)).code == "4.04"
    await refused(other, device, second, first_tag)
    assert not device.users.users


async def test_a_tag_from_another_context_is_refused(kit: Kit, device: Device) -> None:
    """Tags of another session, role, window, method or key; reflected, cut, and padded tags."""
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

    unknown_key = Identity.create().fingerprint
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
        "other client": lambda started: tags(started, client=unknown_key).client_tag,
        "other device": lambda started: tags(started, device=unknown_key).client_tag,
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


async def test_a_tag_is_accepted_only_once(kit: Kit) -> None:
    device = await kit.device(limits=LINGERING)
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


async def test_a_tag_is_answered_with_busy_until_the_devices_user_decides(
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


async def test_the_stored_role_is_the_one_that_was_shown(kit: Kit, device: Device) -> None:
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


async def test_a_second_key_in_the_same_window_cancels_both_ceremonies(kit: Kit) -> None:
    """A second client, at any step, cancels both: no one is stored and no tag is valid."""
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
    overlaps = [event for event in device.pairing_events if event.kind is PairingEventKind.CLOSED]
    assert "overlap" in {event.reason for event in overlaps}


async def test_three_failures_of_any_kind_close_the_window(kit: Kit, device: Device) -> None:
    """The three failures are a wrong tag, an abort and a lost session."""
    caller = kit.caller(device)
    await device.open(role="user")
    await refused(caller, device, await accepted(caller, device), bytes(32))
    assert device.app.pairing.is_open
    started = await caller.start("anna")
    await caller.pair_ask("DELETE", f"/pair/{started.body['id']}")
    assert device.app.pairing.is_open
    await caller.start("anna")
    await (await caller.connect(pairing=True)).close()
    assert (await device.event(PairingEventKind.CLOSED)).reason == "failures"
    await device.closed()
    assert not device.users.users
    assert device.app.pairing.budget.failures == 3
