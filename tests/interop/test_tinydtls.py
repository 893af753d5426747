"""tinydtls, a small DTLS for small devices that knows shared secrets only, against our server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from tests.kit.serve import Serve, Served

HANDSHAKE_FAILURE = (2, 40)  # level fatal, RFC 5246 §7.2
MAPPED = "::ffff:127.0.0.1"  # tinydtls knows IPv6 addresses only


class Tiny(asyncio.DatagramProtocol):
    """One client of tinydtls on a socket of the test; `alerts` is what it was told."""

    def __init__(self, served: Served) -> None:
        from DTLSSocket import dtls  # noqa: PLC0415 - it may not be there

        self.alerts: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.port = served.server.port
        self.dtls = dtls.DTLS(
            read=lambda _address, _data: 0,
            write=self._write,
            event=self._event,
            pskId=b"somebody",
            pskStore={b"somebody": b"a shared secret"},
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)
        self.session = self.dtls.connect(MAPPED, self.port)

    def datagram_received(self, data: bytes, _address: object) -> None:
        self.dtls.handleMessageAddr(MAPPED, self.port, data)

    def _write(self, _address: object, data: bytes) -> int:
        self.transport.sendto(data)
        return len(data)

    def _event(self, level: int, code: int) -> int:
        if level:  # 0 is about its own progress
            self.alerts.put_nowait((level, code))
        return 0


@pytest.mark.needs_module("DTLSSocket")
async def test_tinydtls_is_told_that_no_suite_fits(serve: Serve) -> None:
    served = await serve()
    transport, tiny = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Tiny(served), remote_addr=("127.0.0.1", served.server.port)
    )
    assert await tiny.alerts.get() == HANDSHAKE_FAILURE
    transport.close()
    assert served.count("handshakes-failed") == 1
    assert served.server.sessions() == []
