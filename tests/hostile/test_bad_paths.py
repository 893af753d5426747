"""30 % loss, duplicates and reordering in both directions, with the real client library.

Pairing, requests and an observation succeed; one user is stored; and the handler of each request
runs once, however often its datagrams arrive. OpenSSL's handshake timer uses the real clock and
doubles from 1 s, so these tests are slow. The random source is seeded.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiocoap
import aiocoap.resource
import pytest

from client_app import Client
from client_app.pairing.ceremony import Comparison
from device_app.pairing.events import PairingEventKind
from peer.net.address import Address
from peer.net.discovery import Advert
from peer.testing import Impairment, Proxy
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.kit.device import Device, Kit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
HOST = "127.0.0.1"
BAD = Impairment(loss=0.3, duplicate=0.2, reorder=0.2)
TIMEOUT_SECONDS = 200.0
REQUESTS = 8


class Tally(aiocoap.resource.ObservableResource):
    """Counts how often its handlers ran; its state is a number that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0
        self.posted: list[bytes] = []
        self.gotten: list[str] = []

    def set(self, value: int) -> None:
        self.value = value
        self.updated_state()

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        self.gotten.append("".join(request.opt.uri_query))
        return aiocoap.Message(payload=str(self.value).encode(), content_format=0)

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        self.posted.append(bytes(request.payload))
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload, content_format=0)


def add_tally(device: Device) -> Tally:
    tally = Tally()
    device.app.site.add(("tally",), tally)
    device.app.guard.rules.add(("tally",), {"GET": "Hello:Get", "POST": "Hello:Get"})
    return tally


async def paired_through(
    kit: Kit, device: Device, home: Path, impairment: Impairment, paths: list[Proxy]
) -> Client:
    """A client that has paired over an impaired path; both users accepted."""
    await device.open(role="user")
    for port in (device.port(pairing=True), device.port(pairing=False)):
        paths.append(await Proxy.start(Address(HOST, port), impairment))
        impairment = replace(impairment, seed=impairment.seed + 100)
    pairing, regular = paths

    async def look() -> AsyncIterator[Advert]:
        """Announce the device with the ports of the impaired path."""
        yield Advert(
            device_id=device.fingerprint.device_id,
            name="kitchen",
            addresses=(HOST,),
            port=regular.address.port,
            pairing_port=pairing.address.port,
            pairing_open=True,
            version=1,
            host="kitchen.local.",
        )

    limits = replace(
        device.app.settings.limits, step_seconds=TIMEOUT_SECONDS, connect_seconds=TIMEOUT_SECONDS
    )
    client = Client(home=home / "client", look=look, limits=limits)
    kit.at_end(client.close)

    async def yes(question: Comparison) -> bool:
        return question.device == device.fingerprint

    asking = asyncio.create_task(client.pair("kitchen", name="anna", confirm=yes))
    pending = asyncio.create_task(
        device.event(PairingEventKind.PENDING, timeout_seconds=TIMEOUT_SECONDS)
    )
    await asyncio.wait({asking, pending}, return_when=asyncio.FIRST_COMPLETED)
    if pending.done():
        assert device.pending().fingerprint == client.identity.fingerprint
        device.decide(accept=True)
    pending.cancel()
    paired = await asking
    assert paired.is_new
    # The settings for other networks are fetched in the background.
    await until(lambda: client.remote.find(device.fingerprint) is not None)
    # The device reported its own port; replace it by that of the impaired path.
    client.book.update(
        device.fingerprint,
        lambda one: replace(one, port=regular.address.port, last_seen=str(regular.address)),
    )
    return client


@pytest.mark.parametrize("seed", [8, 12])
async def test_pairing_requests_and_an_observation_succeed_on_an_impaired_path(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("client_app.remote_refresh.REMOTE_FETCH_SECONDS", TIMEOUT_SECONDS)
    # The answer to a ping gets lost for longer than usual, and no session is to be given up.
    monkeypatch.setattr("client_app.observation.PROBE_SECONDS", TIMEOUT_SECONDS)
    device = await kit.device(limits=persistent_limits())
    tally, paths = add_tally(device), list[Proxy]()
    client = await paired_through(kit, device, tmp_path, replace(BAD, seed=seed), paths)
    [user] = device.users.users.values()
    assert (user.name, user.role) == ("anna", "user")
    assert user.fingerprints == {client.identity.fingerprint.hex}
    started = [
        record.event
        for record in device.app.access.store.audit.iterate()
        if record.event.kind in {"ceremony-started", "paired"}
    ]
    assert [event.kind for event in started] == ["ceremony-started", "paired"]

    kitchen = await client.connect("kitchen")
    bodies = [f"{number}".encode() for number in range(REQUESTS)]
    posts = await asyncio.gather(
        *(kitchen.post("/tally", body, timeout=TIMEOUT_SECONDS) for body in bodies)
    )
    assert [reply.payload for reply in posts] == bodies, "each answer belongs to its request"
    gets = await asyncio.gather(
        *(kitchen.get(f"/tally?{number}", timeout=TIMEOUT_SECONDS) for number in range(REQUESTS))
    )
    assert {reply.payload for reply in gets} == {b"0"}
    large = "x" * 1500
    assert (await kitchen.post("/tally", large, timeout=TIMEOUT_SECONDS)).payload == large.encode()
    assert sorted(tally.posted) == sorted([*bodies, large.encode()]), "each handler ran once"
    assert sorted(tally.gotten) == sorted(str(number) for number in range(REQUESTS))

    seen = []
    async with asyncio.timeout(TIMEOUT_SECONDS), aclosing(kitchen.observe("/tally")) as states:
        async for reply in states:
            seen.append(int(reply.payload))
            if seen[-1] == 5:
                break
            tally.set(seen[-1] + 1)
    assert seen == sorted(seen), "no older state after a newer one"
    assert seen[0] == 0
    assert len(paths[0].towards_device()) > 5, "the pairing used the impaired path"
    assert len(paths[1].towards_device()) > 2 * REQUESTS, "the requests used the impaired path"
    for path in paths:
        path.close()


def persistent_limits() -> Any:
    """Limits with earlier and more retransmissions, so that hardly any request times out."""
    from peer.limits import DEFAULT_LIMITS  # noqa: PLC0415

    return replace(
        DEFAULT_LIMITS, ack_timeout_seconds=0.2, max_retransmit=10, window_linger_seconds=60
    )
