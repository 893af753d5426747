"""Pairing by `compare` through a man in the middle with a DTLS session to each side (protocol §5).

DTLS alone does not prevent this attack: each side authenticates the attacker's key. The two users
detect it, because the fingerprints on the two screens differ. If both accept without comparing,
the tags do not match, because they are computed over different sessions and keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiocoap
import pytest

from client_app.pairing import ceremony
from client_app.pairing.ceremony import Comparison
from peer import cbor
from peer.errors import PinMismatch, WrongCode
from peer.identity import Fingerprint, Identity
from peer.net.remote import peer_of
from peer.pairing.binding import Channel, confirmation
from tests.kit.methods import asked_in_error, client_at
from tests.kit.middle import start_middle, without_key

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


@pytest.fixture(autouse=True)
def poll_without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The man in the middle sends no notifications, so the client polls; here with no interval."""
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)


def accept_blindly(
    device: Device,
) -> tuple[Callable[[Comparison], Awaitable[bool]], list[tuple[Fingerprint, Fingerprint]]]:
    """Two users who both accept without comparing, and the fingerprints that they were shown."""
    shown: list[tuple[Fingerprint, Fingerprint]] = []

    async def confirm(question: Comparison) -> bool:
        async with asyncio.timeout(20):
            while device.app.pairing.ceremonies.pending() is None:  # noqa: ASYNC110 - the ceremony starts shortly
                await asyncio.sleep(0.01)
        shown.append((question.device, device.pending().fingerprint))
        device.decide(accept=True)
        return True

    return confirm, shown


async def test_a_relayed_offer_reveals_the_man_in_the_middle(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """The offer contains the device's fingerprint, which is not the key of the session."""
    middle = await start_middle(kit, device)
    client = client_at(kit, tmp_path)
    with pytest.raises(PinMismatch) as caught:
        await client.pair(middle.address, method="compare", confirm=asked_in_error)
    assert caught.value.expected == device.fingerprint.hex
    assert caught.value.actual == middle.identity.fingerprint.hex
    assert not client.devices
    assert not device.users.users
    assert [code for code, _ in middle.relayed] == ["GET"]


async def test_a_man_in_the_middle_fails_even_if_both_users_accept(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    middle = await start_middle(kit, device, without_key)
    client = client_at(kit, tmp_path)
    careless, shown = accept_blindly(device)
    with pytest.raises(WrongCode):
        await client.pair(middle.address, method="compare", confirm=careless)
    attacker = middle.identity.fingerprint
    assert shown == [(attacker, attacker)], "both users were shown the attacker's key"
    assert attacker not in {client.identity.fingerprint, device.fingerprint}
    assert "4.03" in {code for code, _ in middle.answers}
    assert not client.devices
    assert not device.users.users
    trail = device.app.access.store.audit
    [event] = [one.event for one in trail.iterate() if one.event.kind == "mismatch"]
    assert event.fingerprint == attacker.hex


async def test_a_tag_from_the_attackers_own_session_is_invalid_for_the_client(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """If the device's user accepts the attacker's key, the attacker is paired with the device. The
    device's tag is invalid for the client, which stores nothing."""
    middle = await start_middle(kit, device, without_key)
    client = client_at(kit, tmp_path)
    relay = middle.connection.request

    async def with_own_tag(message: aiocoap.Message, *, timeout: float) -> aiocoap.Message:
        if b"confirm" in message.payload:
            peer, started = middle.connection.peer, middle.started()
            channel = Channel(
                peer.exporter, middle.identity.fingerprint, peer.fingerprint, started["window"]
            )
            b = channel.binding(method="compare", role=started["role"])
            tag = confirmation(peer.exporter, b, "compare").client_tag
            message.payload = cbor.encode({"confirm": tag})
        return await relay(message, timeout=timeout)

    middle.connection.request = with_own_tag  # type: ignore[method-assign,assignment]
    careless, _ = accept_blindly(device)
    with pytest.raises(WrongCode):
        await client.pair(middle.address, method="compare", confirm=careless)
    assert not client.devices
    [user] = device.users.users.values()
    assert user.fingerprints == {middle.identity.fingerprint.hex}


async def test_a_client_with_the_expected_fingerprint_sends_nothing_to_an_attacker(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    middle = await start_middle(kit, device)
    client = client_at(kit, tmp_path)
    with pytest.raises(PinMismatch):
        await client.pair(middle.address, expect=device.fingerprint)
    assert not middle.relayed
    assert not client.devices


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({}, True),
        ({"window_id": bytes(16)}, False),
        ({"role": "owner"}, False),
        ({"method": "sas"}, False),
        ({"client": Identity.create().fingerprint}, False),
        ({"device": Identity.create().fingerprint}, False),
        ({"ekm": bytes(32)}, False),
        ({"side": "client"}, False),
        ({"side": "none"}, False),
        ({"side": "text"}, False),
    ],
)
async def test_a_device_tag_over_different_inputs_is_rejected(
    kit: Kit, device: Device, tmp_path: Path, changes: dict[str, Any], accepted: bool
) -> None:
    """The attacker acts as a device with its own key, and the client's user accepts that key.

    Only the input of the tag can be wrong then. With a correct tag the attacker's key is stored.
    """
    middle = await start_middle(kit, device, without_key)
    client = client_at(kit, tmp_path)
    careless, _ = accept_blindly(device)
    render = middle.render

    async def forged(request: aiocoap.Message) -> aiocoap.Message:
        if b"confirm" not in request.payload:
            return await render(request)
        peer, changed = peer_of(request), dict(changes)
        role, method = changed.pop("role", "user"), changed.pop("method", "compare")
        side = changed.pop("side", "device")
        facts = {
            "ekm": peer.exporter,
            "client": peer.fingerprint,
            "device": middle.identity.fingerprint,
            "window_id": middle.started()["window"],
        }
        channel = Channel(**(facts | changed))
        tags = confirmation(channel.ekm, channel.binding(method=method, role=role), method)
        tag = {"device": tags.device_tag, "client": tags.client_tag, "text": "yes"}.get(side)
        body = {"state": "REGISTERED", "user": "anna", "role": "user", "confirm": tag}
        return aiocoap.Message(code=aiocoap.CHANGED, payload=cbor.encode(body), content_format=60)

    middle.render = forged  # type: ignore[method-assign]
    if accepted:
        await client.pair(middle.address, name="anna", method="compare", confirm=careless)
        [stored] = client.devices
        assert stored.fingerprint == middle.identity.fingerprint
    else:
        with pytest.raises(WrongCode):
            await client.pair(middle.address, name="anna", method="compare", confirm=careless)
        assert not client.devices
    assert not device.users.users
