"""close_notify is answered over UDP (RFC 5246 §7.2.1)."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from peer.identity import Identity
from peer.net.address import Address
from tests.kit.internals import half_open, layer_of
from tests.kit.openssl_peer import UdpPeer
from tests.kit.serve import HOST
from tests.kit.waiting import until

if TYPE_CHECKING:
    from peer.net.client import CoapsClient
    from tests.kit.interop import Keys, Run
    from tests.kit.serve import Serve, Served


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
        await asyncio.to_thread(client.receive)
        assert client.peer.connection.recv(1 << 14) == reset, "the first datagram of the device"
        assert len(served.server.sessions()) == 1


@pytest.mark.needs_tool("openssl")
async def test_a_device_answers_the_close_notify_of_s_client(
    serve: Serve, run: Run, theirs: Keys
) -> None:
    """s_client reads once more after its close_notify, and prints what it reads."""
    served = await serve()
    client = await run(
        "openssl", "s_client", "-dtls1_2", "-debug", "-connect", served.authority, *theirs.openssl
    )
    await client.until("Extended master secret: yes")
    client.type("Q")
    output = await client.end()
    after = output.partition("DONE")[2]
    directions = re.findall(r"^(write to|read from) .*\n0000 - 15 fe fd 00 01", after, re.MULTILINE)
    assert directions == ["write to", "read from"], "its alert, and the device's"
    assert nothing_is_left(served)


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
