"""tinydtls, a DTLS library for small devices with only pre-shared keys, against our server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from tests.kit.serve import Serve, Served

HANDSHAKE_FAILURE = (2, 40)  # level and description, RFC 5246 §7.2
MAPPED = "::ffff:127.0.0.1"  # tinydtls supports only IPv6 addresses


class TinyDtlsClient(asyncio.DatagramProtocol):
    """A client of tinydtls on a socket of the test; `alerts` holds the alerts that it received."""

    def __init__(self, served: Served) -> None:
        from DTLSSocket import dtls  # noqa: PLC0415 - an optional module

        self.alerts: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.port = served.server.port
        self.dtls = dtls.DTLS(
            read=lambda _address, _data: 0,
            write=self._write,
            event=self._event,
            pskId=b"user",
            pskStore={b"user": b"a shared secret"},
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
        if level:  # level 0 is an event of tinydtls, not an alert
            self.alerts.put_nowait((level, code))
        return 0


@pytest.mark.needs_module("DTLSSocket")
async def test_tinydtls_gets_a_handshake_failure_alert(serve: Serve) -> None:
    served = await serve()
    transport, tiny = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: TinyDtlsClient(served), remote_addr=("127.0.0.1", served.server.port)
    )
    assert await tiny.alerts.get() == HANDSHAKE_FAILURE
    transport.close()
    assert served.count("handshakes-failed") == 1
    assert served.server.sessions() == []
