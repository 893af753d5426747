"""Paired clients are served during floods of unknown clients and of malformed datagrams.

The tests do not measure speed. They check that the limits hold during the flood, that the owner
keeps session, requests and observation, and that `status` counts the rejected input.
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
from tests.kit.floods import is_refused_a_session
from tests.kit.internals import half_open, partial_transfers, rated_sources

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

HOST = "127.0.0.1"


async def connect_repeatedly(caller: Caller, times: int) -> int:
    """Connect and send requests repeatedly, also after an eviction; the number of answers."""
    answers = 0
    for _ in range(times):
        try:
            await caller.connect(fresh=True)
            for path in ("/hello", "/iam/users", "/board"):
                answers += (await caller.ask("GET", path)).reason == "not-paired"
        except PeerError:
            continue
    return answers


async def test_an_owner_is_served_during_a_flood_of_unknown_clients(
    kit: Kit, device: Device, owner: Caller
) -> None:
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    first_session = await owner.connect()
    unknown_clients = [kit.caller(device) for _ in range(12)]
    most = 0
    async with aclosing(owner.observe("/board/load")) as readings:
        await anext(readings)
        flood = asyncio.gather(*(connect_repeatedly(one, 5) for one in unknown_clients))
        requests = 0
        while not flood.done():
            assert (await owner.ask("GET", "/hello")).code == "2.05"
            most = max(most, len(device.sessions("regular")))
            requests += 1
        answers = sum(await flood)
        load: Any = device.app.site.paths()["board", "load"]
        load.updated_state()
        assert (await anext(readings)).code == "2.05"
    assert first_session.is_open, "the owner's first session is still the same"
    assert requests > 5
    assert answers > 0, "no unknown client got an answer"
    assert most <= 1 + device.app.settings.limits.unpaired_sessions
    rejected = device.counters()["sessions-refused"] + device.counters().get("sessions-evicted", 0)
    assert rejected > 0, "the limit of sessions was never reached"
    assert device.counters()["handshakes"] > 12


async def test_a_flood_of_clients_at_the_pairing_port_does_not_stop_a_ceremony(kit: Kit) -> None:
    """Unknown clients connect and read the offer. The ceremony continues and its client pairs."""
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
            assert await is_refused_a_session(one, pairing=True)
        assert len(device.sessions("pairing")) <= 1 + most
    device.decide(accept=True)
    assert (await caller.send_tag(started, caller.tags(started).client_tag)).code == "2.04"


GARBAGE = [
    b"\x00",
    b"\xff" * 1400,
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x40\x01\x00\x01",  # CoAP in clear
    b"\x16\xfe\xfd" + bytes(8) + b"\xff\xff" + bytes(20),  # a length above that of the datagram
    b"\x16\xfe\xfd" + bytes(8) + b"\x00\x10" + bytes(16),  # a handshake message of zeros
    b"\x16\xfe\xff" + bytes(8) + b"\x00\x30" + b"\x01" + bytes(47),  # a ClientHello of zeros
    b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28",  # an alert without a session
    b"\x14\xfe\xfd" + bytes(8) + b"\x00\x01\x01",  # change_cipher_spec
    b"\x17\xfe\xfd\x00\x01"
    + bytes(6)
    + b"\x00\x20"
    + bytes(32),  # an encrypted record without a session
    b"\x16\x03\x01\x00\x05hello",  # TLS over UDP
    b"\x19" * 60,
]


@pytest.mark.parametrize("port", ["regular", "pairing"])
async def test_malformed_datagrams_are_counted_and_leave_no_state(
    kit: Kit, device: Device, owner: Caller, port: str
) -> None:
    await device.open(role="user")
    number = device.port(pairing=port == "pairing")
    before = sum(device.counters(port).values())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((HOST, number))
        sender.setblocking(False)
        sent = 0
        for _ in range(20):
            for datagram in (*GARBAGE, secrets.token_bytes(40), secrets.token_bytes(1200)):
                sender.send(datagram)
                sent += 1
            assert (await owner.ask("GET", "/hello")).code == "2.05"
        # After a round trip on the same port, all earlier datagrams have been processed.
        probe = kit.caller(device)
        await probe.connect(pairing=port == "pairing")
        heard = 0
        while True:
            try:
                heard += len(sender.recv(65536))
            except BlockingIOError:
                break
    counted = sum(device.counters(port).values()) - before
    # A ClientHello that does not parse is not counted; two of the kinds above are such.
    assert counted >= sent * 0.7, (counted, sent, device.counters(port))
    assert device.counters(port)["dtls-malformed"] > 0
    assert device.counters(port)["dtls-no-session"] > 0
    assert heard == 0, "a malformed datagram was answered"
    server = device.app.server if port == "regular" else device.app.pairing.port.server
    assert server is not None
    assert not half_open(server)
    assert rated_sources(server) <= 5, "the rate limit stores sources that only sent garbage"


async def test_a_missing_certificate_and_a_wrong_pin_fail_the_handshake(
    kit: Kit, device: Device, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both fail with a clear error and are counted; no request is sent to a wrong device."""
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
    unknown = kit.caller(device)
    with pytest.raises(PinMismatch) as swapped:
        await unknown.client.connect(proxy.address, pinned=Identity.create().fingerprint)
    assert swapped.value.actual == device.fingerprint.hex
    assert all(datagram[0] != 23 for datagram in proxy.towards_device())
    proxy.close()
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert len(device.sessions("regular")) == 1


async def test_a_post_with_an_observe_option_runs_once(kit: Kit, device: Device) -> None:
    """RFC 7641 §2 defines Observe for GET (and RFC 8132 for FETCH). On other methods it is ignored;
    otherwise each change of the resource would execute the request again."""
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


async def test_a_guest_cannot_evict_an_incomplete_body_of_an_owner(
    device: Device, owner: Caller, guest: Caller
) -> None:
    """A client that fills the table of partly received bodies loses its own first."""
    first = await owner.ask("POST", "/iam/users", raw=bytes(64), block1=(0, True, 2))
    assert first.code == "2.31"
    for number in range(device.app.settings.limits.block_assemblies + 10):
        await guest.ask("GET", f"/hello?{number}", raw=bytes(16), block1=(0, True, 0))
    more = await owner.ask("POST", "/iam/users", raw=bytes(64), block1=(1, True, 2))
    assert more.code == "2.31", "the owner's body was discarded"


async def test_incomplete_bodies_are_discarded_when_their_session_ends(
    device: Device, owner: Caller
) -> None:
    """No one can complete them any more, and they would keep the keys of the session alive."""
    partial = await owner.ask("POST", "/iam/users", raw=bytes(64), block1=(0, True, 2))
    assert partial.code == "2.31"
    assert partial_transfers() == 1
    await owner.client.close()
    await device.until(lambda: not device.sessions("regular"))
    await device.until(lambda: partial_transfers() == 0)
