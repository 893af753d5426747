"""close_notify is answered over UDP (RFC 5246 §7.2.1)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from peer.identity import Identity
from peer.net.address import Address
from peer.testing import Proxy
from tests.kit.internals import half_open, layer_of
from tests.kit.openssl_peer import UdpPeer
from tests.kit.serve import HOST
from tests.kit.waiting import until

if TYPE_CHECKING:
    from peer.net.client import CoapsClient
    from tests.kit.interop import Keys, Run
    from tests.kit.serve import Serve, Served


ENCRYPTED_ALERT = b"\x15\xfe\xfd\x00\x01"


def nothing_is_left(served: Served) -> bool:
    layer = layer_of(served.server)
    return not (served.server.sessions() or half_open(served.server) or layer.remotes)


async def test_a_device_answers_the_close_notify_of_openssl(serve: Serve) -> None:
    served = await serve()
    theirs = Identity.create()
    with UdpPeer.connected(theirs, (HOST, served.address.port)) as client:
        await asyncio.to_thread(client.shake_hands)
        assert [one.fingerprint for one in served.server.sessions()] == [theirs.fingerprint]
        await asyncio.to_thread(client.close)
        assert client.peer.connection.shutdown(), "both sides have closed"
        assert nothing_is_left(served)


async def test_a_forged_close_notify_gets_no_answer(serve: Serve) -> None:
    served = await serve()
    cleartext = b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x01\x00"
    sealed = b"\x15\xfe\xfd\x00\x01" + b"\x00\x00\x00\x00\x00\x63\x00\x1a" + bytes(26)
    ping, reset = b"\x40\x00\x12\x34", b"\x70\x00\x12\x34"
    with UdpPeer.connected(Identity.create(), (HOST, served.address.port)) as client:
        await asyncio.to_thread(client.shake_hands)
        for forged in (cleartext, sealed):
            client.send(forged)
        client.peer.connection.send(ping)
        client.flush()
        first = await asyncio.to_thread(client.receive_message)
        assert first == reset, "the first message of the device"
        assert len(served.server.sessions()) == 1


@pytest.mark.needs_tool("openssl")
async def test_a_device_answers_the_close_notify_of_s_client(
    serve: Serve, run: Run, theirs: Keys
) -> None:
    served = await serve()
    path = await Proxy.start(served.address)
    client = await run(
        "openssl", "s_client", "-dtls1_2", "-connect", str(path.address), *theirs.openssl
    )
    await client.until("Extended master secret: yes")
    before = len(path.towards_client())
    client.type("Q")
    # s_client waits half a second for the answer, which the device may be too busy to meet.
    await until(lambda: len(path.towards_client()) > before)
    assert path.towards_device()[-1].startswith(ENCRYPTED_ALERT)
    assert path.towards_client()[-1].startswith(ENCRYPTED_ALERT)
    assert nothing_is_left(served)
    await client.end()
    path.close()


async def test_a_client_answers_the_close_notify_of_openssl(caller: CoapsClient) -> None:
    theirs = Identity.create()
    with UdpPeer.listening(theirs) as server:
        shaken = asyncio.ensure_future(asyncio.to_thread(server.shake_hands))
        connection = await caller.connect(Address(HOST, server.port), pinned=theirs.fingerprint)
        await shaken
        await asyncio.to_thread(server.close)
        assert server.peer.connection.shutdown(), "both sides have closed"
        await until(lambda: not connection.is_open)
        assert not layer_of(caller).remotes
