"""Somebody between client and device, with a real DTLS session to each (protocol §5, `compare`).

He cannot be kept out by the wire alone: each side just meets his key. So it is the two users who
see another fingerprint than the other screen shows; and should both say yes without looking, the
tags still say no, because each was made over another session and other keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiocoap
import aiocoap.resource
import pytest

from client_app import Client, pairing
from client_app.client import Comparison
from peer import cbor
from peer.errors import PinMismatch, WrongCode
from peer.identity import Fingerprint, Identity
from peer.net.client import CoapsClient
from peer.net.coaps import CoapsServer, peer_of
from peer.net.endpoint import Standing
from peer.net.onlink import Locality, LocalMode
from peer.net.site import GuardedSite
from peer.net.udp import Address
from peer.pairing.binding import Channel, confirmation

if TYPE_CHECKING:
    from tests.hostile.conftest import Device, Kit

pytestmark = pytest.mark.asyncio
HOST = "127.0.0.1"
Change = Callable[[dict[str, object]], dict[str, object]]


class Middle(aiocoap.resource.Resource):  # type: ignore[misc]
    """/pair as the client sees it: every request goes on to the device, every answer comes back.

    Observations end here with the first state; the client asks again by itself.
    """

    def __init__(self, identity: Identity, device: Address, change: Change) -> None:
        super().__init__()
        self.identity = identity
        self.relayed: list[tuple[str, bytes]] = []
        self.answers: list[tuple[str, bytes]] = []
        self._client = CoapsClient(identity)
        self._device = device
        self._change = change
        self.server: CoapsServer

    async def start(self) -> None:
        self.connection = await self._client.connect(self._device, pinned=None)
        site = GuardedSite(authorise=lambda *_: None, limits=self._client._limits)
        site.add(("pair",), self, takes_rest=True)
        self.server = await CoapsServer.start(
            site,
            identity=self.identity,
            listen=[(HOST, 0)],
            locality=Locality(mode=LocalMode.STRICT, allow_loopback=True),
            standing=lambda _key: Standing.PAIRED,
            pairing=True,
        )

    def started(self) -> dict[str, Any]:
        """What the device said when its ceremony began."""
        [body] = [body for code, body in self.answers if code == "2.01"]
        found = cbor.decode_untrusted(body)
        assert isinstance(found, dict)
        return found

    @property
    def address(self) -> str:
        return f"{HOST}:{self.server.port}"

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        onward = aiocoap.Message(code=request.code, payload=request.payload)
        onward.opt.uri_path = ("pair", *request.opt.uri_path)
        onward.opt.content_format = request.opt.content_format
        answer = await self.connection.request(onward, timeout=20)
        self.relayed.append((str(request.code), bytes(request.payload)))
        self.answers.append((answer.code.dotted, bytes(answer.payload)))
        payload = answer.payload
        if answer.opt.content_format == 60:
            payload = cbor.encode(self._change(cbor.decode_untrusted(payload)))  # type: ignore[arg-type]
        back = aiocoap.Message(code=answer.code, payload=payload)
        back.opt.content_format = answer.opt.content_format
        return back

    async def close(self) -> None:
        await self.server.close()
        await self._client.close()


def faithful(body: dict[str, object]) -> dict[str, object]:
    return body


async def between(kit: Kit, device: Device, change: Change = faithful) -> Middle:
    await device.open(role="user")
    address = Address(HOST, device.port(pairing=True))
    middle = Middle(Identity.create(), address, change)
    await middle.start()
    kit.at_end(middle.close)
    return middle


async def silence() -> AsyncIterator[Any]:
    """A LAN on which nobody announces anything."""
    for advert in list[Any]():
        yield advert


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The man in the middle does not notify, so the client looks again: here without a pause."""
    monkeypatch.setattr(pairing, "POLL_SECONDS", 0.01)


def client_at(kit: Kit, home: Path) -> Client:
    client = Client(home=home / "client", look=silence)
    kit.at_end(client.close)
    return client


def hiding(body: dict[str, object]) -> dict[str, object]:
    """The device's key taken out of its offer; every other byte is passed on as it is."""
    return body | ({"fingerprint": "", "id": ""} if "methods" in body else {})


def yes_man(
    device: Device,
) -> tuple[Callable[[Comparison], Awaitable[bool]], list[tuple[Fingerprint, Fingerprint]]]:
    """Two users who both say yes without comparing; and what each of them was shown."""
    shown: list[tuple[Fingerprint, Fingerprint]] = []

    async def confirm(question: Comparison) -> bool:
        async with asyncio.timeout(20):
            while device.app.door.pending() is None:  # noqa: ASYNC110 - it is on its way
                await asyncio.sleep(0.01)
        shown.append((question.device, device.pending().fingerprint))
        device.decide(accept=True)
        return True

    return confirm, shown


async def nobody(*_args: object) -> bool:
    raise AssertionError("nobody should have been asked")


async def test_relaying_the_offer_as_it_is_gives_him_away_at_once(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """GET /pair names the device's key, which is not the one that was proved."""
    middle = await between(kit, device)
    client = client_at(kit, tmp_path)
    with pytest.raises(PinMismatch) as caught:
        await client.pair(middle.address, confirm=nobody)
    assert caught.value.expected == device.fingerprint.hex
    assert caught.value.actual == middle.identity.fingerprint.hex
    assert not client.devices
    assert not device.users.users
    assert [code for code, _ in middle.relayed] == ["GET"]


async def test_both_users_see_his_key_and_their_careless_yes_is_not_enough(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    middle = await between(kit, device, hiding)
    client = client_at(kit, tmp_path)
    careless, shown = yes_man(device)
    with pytest.raises(WrongCode):
        await client.pair(middle.address, confirm=careless)
    his = middle.identity.fingerprint
    assert shown == [(his, his)], "what the client's user saw, what the device's user saw"
    assert his not in {client.identity.fingerprint, device.fingerprint}
    assert "4.03" in {code for code, _ in middle.answers}
    assert not client.devices
    assert not device.users.users
    trail = device.app.whitelist.store.trail
    [event] = [one.event for one in trail.iterate() if one.event.kind == "mismatch"]
    assert event.fingerprint == his.hex


async def test_his_own_tag_for_the_device_does_not_help_him_with_the_client(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """If the device's user takes him for the client, he is paired, as anybody would be; but the
    device's tag that he gets is no good for the client, which stores nothing."""
    middle = await between(kit, device, hiding)
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
        await client.pair(middle.address, confirm=careless)
    assert not client.devices
    [user] = device.users.users.values()
    assert user.fingerprints == {middle.identity.fingerprint.hex}


async def test_a_client_that_knows_the_fingerprint_does_not_talk_to_him(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    middle = await between(kit, device)
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
    middle = await between(kit, device, hiding)
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
        await client.pair(middle.address, name="anna", confirm=careless)
        [stored] = client.devices
        assert stored.fingerprint == middle.identity.fingerprint
    else:
        with pytest.raises(WrongCode):
            await client.pair(middle.address, name="anna", confirm=careless)
        assert not client.devices
    assert not device.users.users
