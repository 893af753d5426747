"""Many strangers at once, and garbage at both ports: paired clients continue to work.

Nothing here is about speed. The tests show that the bounds hold while the flood runs, the owner's
session, requests and observation live through it, and `status` counts what came.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from OpenSSL import SSL

from peer.errors import HandshakeFailed, PeerError, PinMismatch
from peer.identity import Identity
from peer.net.address import Address
from peer.net.client import CoapsClient
from peer.testing import Proxy
from tests.kit.device import HASTY
from tests.kit.internals import half_open, partial_transfers, rated_sources

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

HOST = "127.0.0.1"


async def pester(caller: Caller, times: int) -> int:
    """Connect and ask, again and again; how many answers came. Being thrown out is part of it."""
    answers = 0
    for _ in range(times):
        try:
            await caller.connect(fresh=True)
            for path in ("/hello", "/iam/users", "/board"):
                answers += (await caller.ask("GET", path)).reason == "not-paired"
        except PeerError:
            continue
    return answers


async def test_an_owner_works_on_while_strangers_come_in_crowds(
    kit: Kit, device: Device, owner: Caller
) -> None:
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    mine = await owner.connect()
    strangers = [kit.caller(device) for _ in range(12)]
    most = 0
    async with aclosing(owner.observe("/board/load")) as readings:
        await anext(readings)
        crowd = asyncio.gather(*(pester(one, 5) for one in strangers))
        requests = 0
        while not crowd.done():
            assert (await owner.ask("GET", "/hello")).code == "2.05"
            most = max(most, len(device.sessions("regular")))
            requests += 1
        answers = sum(await crowd)
        load: Any = device.app.site.paths()["board", "load"]
        load.updated_state()
        assert (await anext(readings)).code == "2.05"
    assert mine.is_open, "the owner's first session is still the same"
    assert requests > 5
    assert answers > 0, "strangers were heard at all"
    assert most <= 1 + device.app.settings.limits.unpaired_sessions
    crowded = device.counters()["sessions-refused"] + device.counters().get("sessions-evicted", 0)
    assert crowded > 0, "there were never too many strangers"
    assert device.counters()["handshakes"] > 12


async def test_a_crowd_at_the_pairing_port_keeps_nobody_from_pairing_but_itself(kit: Kit) -> None:
    """Strangers who only connect and look: the one ceremony continues, and its client is stored."""
    device = await kit.device(limits=replace(HASTY, unpaired_kept_seconds=3600))
    await device.open(role="user")
    caller = kit.caller(device)
    started = await caller.start("anna")
    most = device.app.settings.limits.unpaired_sessions
    for number in range(most + 6):
        one = kit.caller(device)
        if number < most:
            assert (await one.pair_ask("GET", "/pair")).code == "2.05"
        else:
            with pytest.raises(HandshakeFailed, match="immediately"):
                await one.connect(pairing=True)
        assert len(device.sessions("pairing")) <= 1 + most
    device.decide(accept=True)
    assert (await caller.send_tag(started, caller.tags(started).client_tag)).code == "2.04"


GARBAGE = [
    b"\x00",
    b"\xff" * 1400,
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x40\x01\x00\x01",  # CoAP in clear
    b"\x16\xfe\xfd" + bytes(8) + b"\xff\xff" + bytes(20),  # a wrong length
    b"\x16\xfe\xfd" + bytes(8) + b"\x00\x10" + bytes(16),  # a handshake message of zeros
    b"\x16\xfe\xff" + bytes(8) + b"\x00\x30" + b"\x01" + bytes(47),  # a ClientHello of zeros
    b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28",  # an alert out of nowhere
    b"\x14\xfe\xfd" + bytes(8) + b"\x00\x01\x01",  # change_cipher_spec
    b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x20" + bytes(32),  # a sealed record of no session
    b"\x16\x03\x01\x00\x05hello",  # TLS over UDP
    b"\x19" * 60,
]


@pytest.mark.parametrize("port", ["regular", "pairing"])
async def test_garbage_at_a_port_is_counted_and_forgotten(
    kit: Kit, device: Device, owner: Caller, port: str
) -> None:
    await device.open(role="user")
    number = device.port(pairing=port == "pairing")
    before = sum(device.counters(port).values())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gun:
        gun.connect((HOST, number))
        gun.setblocking(False)
        sent = 0
        for _ in range(20):
            for shot in (*GARBAGE, secrets.token_bytes(40), secrets.token_bytes(1200)):
                gun.send(shot)
                sent += 1
            assert (await owner.ask("GET", "/hello")).code == "2.05"
        # A round trip on this very port: all that was sent before has been looked at.
        probe = kit.caller(device)
        await probe.connect(pairing=port == "pairing")
        heard = 0
        while True:
            try:
                heard += len(gun.recv(65536))
            except BlockingIOError:
                break
    counted = sum(device.counters(port).values()) - before
    # A ClientHello that does not parse leaves no trace at all; two of the kinds above are such.
    assert counted >= sent * 0.7, (counted, sent, device.counters(port))
    assert device.counters(port)["dtls-malformed"] > 0
    assert device.counters(port)["dtls-no-session"] > 0
    assert heard == 0, "garbage was answered"
    server = device.app.server if port == "regular" else device.app.pairing.port.server
    assert server is not None
    assert not half_open(server)
    assert rated_sources(server) <= 5, "more than our two callers' sources are remembered"


async def test_no_certificate_and_the_wrong_pin(
    kit: Kit, device: Device, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clear alert, a count, and not one byte of a request to a wrong device."""
    address = Address(HOST, device.port(pairing=False))
    with monkeypatch.context() as patch:
        patch.setattr(SSL.Context, "use_certificate", lambda *_: None)
        patch.setattr(SSL.Context, "use_privatekey", lambda *_: None)
        async with CoapsClient(Identity.create()) as bare:
            with pytest.raises(HandshakeFailed) as caught:
                await bare.connect(address, pinned=None, timeout=20)
    assert "alert" in str(caught.value) or "ended" in str(caught.value)
    await device.until(lambda: device.counters().get("handshakes-without-certificate"))

    proxy = await Proxy.start(address)
    stranger = kit.caller(device)
    with pytest.raises(PinMismatch) as swapped:
        await stranger.client.connect(proxy.address, pinned=Identity.create().fingerprint)
    assert swapped.value.actual == device.fingerprint.hex
    assert all(datagram[0] != 23 for datagram in proxy.towards_device())
    proxy.close()
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert len(device.sessions("regular")) == 1


async def test_a_post_that_asks_to_be_observed_runs_once(kit: Kit, device: Device) -> None:
    """RFC 7641 §2: Observe means something on a GET (and FETCH). On anything else it is ignored,
    or a change of the resource would carry the request out again, and again."""
    await device.open(role="user")
    caller = kit.caller(device)
    answer = await caller.pair_ask(
        "POST", "/pair", {"method": "compare", "name": "anna"}, observe=0
    )
    assert answer.code == "2.01"
    first = device.pending().id
    pair: Any = device.app.pairing.port.site.paths()["pair",]
    pair.updated_state()
    for _ in range(5):
        assert (await caller.pair_ask("GET", f"/pair/{first}")).code == "2.05"
    assert device.pending().id == first
    assert device.app.pairing.budget.failures == 1
    assert answer.message.opt.observe is None


async def test_a_guest_cannot_push_out_the_half_body_of_an_owner(
    device: Device, owner: Caller, guest: Caller
) -> None:
    """Half-received bodies are bounded; a client that fills the table loses its own first."""
    first = await owner.ask("POST", "/iam/users", raw=bytes(64), block1=(0, True, 2))
    assert first.code == "2.31"
    for number in range(device.app.settings.limits.block_assemblies + 10):
        await guest.ask("GET", f"/hello?{number}", raw=bytes(16), block1=(0, True, 0))
    more = await owner.ask("POST", "/iam/users", raw=bytes(64), block1=(1, True, 2))
    assert more.code == "2.31", "the owner's half body is gone"


async def test_half_bodies_go_with_their_session(device: Device, owner: Caller) -> None:
    """No one can finish them any more, and they hold on to the session's keys."""
    half = await owner.ask("POST", "/iam/users", raw=bytes(64), block1=(0, True, 2))
    assert half.code == "2.31"
    assert partial_transfers() == 1
    await owner.client.close()
    await device.until(lambda: not device.sessions("regular"))
    await device.until(lambda: partial_transfers() == 0)
