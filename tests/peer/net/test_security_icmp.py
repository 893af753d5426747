"""ICMP errors can be forged, so an established session ignores them."""

from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.errors import TimedOut
from peer.net.client import CoapsClient
from tests.kit.internals import sockets_of


async def test_an_icmp_error_does_not_end_an_established_session(
    serve: Any, caller: CoapsClient
) -> None:
    """The socket of the device is closed, so the kernel answers with "port unreachable"."""
    served = await serve()
    connection = await caller.connect(served.address, pinned=served.identity.fingerprint)
    for socket in sockets_of(served.server):
        socket.close()
    with pytest.raises(TimedOut):
        await connection.request(aiocoap.Message(code=Code.GET, uri_path=("echo",)), timeout=0.5)
    assert caller.counters["socket-errors"] >= 1
    assert connection.is_open
