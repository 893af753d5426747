"""A man in the middle with a real DTLS session to each side (protocol §5, `compare`).

He cannot be kept out by the wire alone: each side just meets his key. So it is the two users who
see another fingerprint than the other screen shows; and should both say yes without looking, the
tags still say no, because each was made over another session and other keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiocoap
import pytest

from client_app.client import Comparison
from client_app.pairing import ceremony
from peer import cbor
from peer.errors import PinMismatch, WrongCode
from peer.identity import Fingerprint, Identity
from peer.net.remote import peer_of
from peer.pairing.binding import Channel, confirmation
from tests.kit.methods import client_at, nobody
from tests.kit.middle import start_middle, without_key

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The man in the middle does not notify, so the client looks again: here without a pause."""
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)


def yes_man(
    device: Device,
) -> tuple[Callable[[Comparison], Awaitable[bool]], list[tuple[Fingerprint, Fingerprint]]]:
    """Two users who both say yes without comparing; and what each of them was shown."""
    shown: list[tuple[Fingerprint, Fingerprint]] = []

    async def confirm(question: Comparison) -> bool:
        async with asyncio.timeout(20):
            while device.app.pairing.ceremonies.pending() is None:  # noqa: ASYNC110 - it is on its way
                await asyncio.sleep(0.01)
        shown.append((question.device, device.pending().fingerprint))
        device.decide(accept=True)
        return True

    return confirm, shown


async def test_relaying_the_offer_as_it_is_gives_him_away_at_once(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """GET /pair names the device's key, which is not the one that was proved."""
    middle = await start_middle(kit, device)
    client = client_at(kit, tmp_path)
    with pytest.raises(PinMismatch) as caught:
        await client.pair(middle.address, method="compare", confirm=nobody)
    assert caught.value.expected == device.fingerprint.hex
    assert caught.value.actual == middle.identity.fingerprint.hex
    assert not client.devices
    assert not device.users.users
    assert [code for code, _ in middle.relayed] == ["GET"]


async def test_both_users_see_his_key_and_their_careless_yes_is_not_enough(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    middle = await start_middle(kit, device, without_key)
    client = client_at(kit, tmp_path)
    careless, shown = yes_man(device)
    with pytest.raises(WrongCode):
        await client.pair(middle.address, method="compare", confirm=careless)
    his = middle.identity.fingerprint
    assert shown == [(his, his)], "what the client's user saw, what the device's user saw"
    assert his not in {client.identity.fingerprint, device.fingerprint}
    assert "4.03" in {code for code, _ in middle.answers}
    assert not client.devices
    assert not device.users.users
    trail = device.app.access.store.audit
    [event] = [one.event for one in trail.iterate() if one.event.kind == "mismatch"]
    assert event.fingerprint == his.hex


async def test_his_own_tag_for_the_device_does_not_help_him_with_the_client(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """If the device's user takes him for the client, he is paired, as anyone would be; but the
    device's tag that he gets is no good for the client, which stores nothing."""
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
    careless, _ = yes_man(device)
    with pytest.raises(WrongCode):
        await client.pair(middle.address, method="compare", confirm=careless)
    assert not client.devices
    [user] = device.users.users.values()
    assert user.fingerprints == {middle.identity.fingerprint.hex}


async def test_a_client_that_knows_the_fingerprint_does_not_talk_to_him(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    middle = await start_middle(kit, device)
    client = client_at(kit, tmp_path)
    with pytest.raises(PinMismatch):
        await client.pair(middle.address, expect=device.fingerprint)
    assert not middle.relayed
    assert not client.devices


@pytest.mark.parametrize(
    ("lie", "believed"),
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
async def test_a_device_whose_tag_means_something_else_is_not_stored(
    kit: Kit, device: Device, tmp_path: Path, lie: dict[str, Any], believed: bool
) -> None:
    """He plays the device himself, with his own key, and the client's user says yes to that key.
    Then only what the tag is made of can be wrong; with nothing wrong he is stored, as himself."""
    middle = await start_middle(kit, device, without_key)
    client = client_at(kit, tmp_path)
    careless, _ = yes_man(device)
    render = middle.render

    async def played(request: aiocoap.Message) -> aiocoap.Message:
        if b"confirm" not in request.payload:
            return await render(request)
        peer, changed = peer_of(request), dict(lie)
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

    middle.render = played  # type: ignore[method-assign]
    if believed:
        await client.pair(middle.address, name="anna", method="compare", confirm=careless)
        [stored] = client.devices
        assert stored.fingerprint == middle.identity.fingerprint
    else:
        with pytest.raises(WrongCode):
            await client.pair(middle.address, name="anna", method="compare", confirm=careless)
        assert not client.devices
    assert not device.users.users
