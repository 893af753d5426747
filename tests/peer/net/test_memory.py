"""The same stack on a simulated network in memory, with and without impairment."""

from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.identity import Identity
from peer.limits import Limits
from peer.net.client import CoapsClient
from peer.testing import Impairment, MemoryNet

HASTY = Limits(ack_timeout_seconds=0.05)
BAD = Impairment(loss=0.3, duplicate=0.2, reorder=0.2, seed=5)


def post(number: int) -> aiocoap.Message:
    return aiocoap.Message(code=Code.POST, uri_path=("echo",), payload=str(number).encode())


async def test_every_request_runs_once_on_an_impaired_network(serve: Any, client: Identity) -> None:
    net = MemoryNet()
    served = await serve(limits=HASTY, net=net)
    async with CoapsClient(client, limits=HASTY, net=net) as caller:
        connection = await caller.connect(served.address, pinned=served.identity.fingerprint)
        assert connection.peer.fingerprint == served.identity.fingerprint
        (session,) = served.server.sessions()
        assert session.is_local
        net.change(BAD)
        for number in range(20):
            answer = await connection.request(post(number))
            assert answer.payload == str(number).encode()
        assert served.echo.bodies == [str(number).encode() for number in range(20)]
        net.change(Impairment())


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_handshake_completes_on_an_impaired_network(serve: Any, client: Identity) -> None:
    net = MemoryNet(BAD)
    served = await serve(limits=HASTY, net=net)
    async with CoapsClient(client, limits=HASTY, net=net) as caller:
        connection = await caller.connect(served.address, pinned=None, timeout=200)
        assert (await connection.request(post(1))).payload == b"1"
    assert served.echo.bodies == [b"1"]
