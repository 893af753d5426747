"""STUN servers that report the mappings that a test names, as a NAT would make them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from aioice import stun

LOOPBACK = "127.0.0.1"


class _StunServer(asyncio.DatagramProtocol):
    """Answers requests from one address, and no others."""

    def __init__(
        self, mapping: tuple[str, int], served: str, on_answer: Callable[[], None]
    ) -> None:
        self._mapping = mapping
        self._served = served
        self._on_answer = on_answer
        self._socket: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._socket = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr[0] == self._served:
            request = stun.parse_message(data)
            answer = stun.Message(
                request.message_method, stun.Class.RESPONSE, request.transaction_id
            )
            answer.attributes["XOR-MAPPED-ADDRESS"] = self._mapping
            self._socket.sendto(bytes(answer), addr)
            self._on_answer()


@contextlib.asynccontextmanager
async def stun_servers(
    *mappings: tuple[str, int],
    served: str = LOOPBACK,
    on_answer: Callable[[], None] = lambda: None,
) -> AsyncIterator[list[str]]:
    """Run a server per mapping, and yield their addresses as "host:port".

    They call `on_answer` when they have sent an answer.
    """
    loop = asyncio.get_running_loop()
    made = []
    for mapping in mappings:
        transport, _ = await loop.create_datagram_endpoint(
            lambda mapping=mapping: _StunServer(mapping, served, on_answer),  # type: ignore[misc]
            local_addr=("0.0.0.0", 0),
        )
        made.append(transport)
    try:
        yield [f"{LOOPBACK}:{one.get_extra_info('sockname')[1]}" for one in made]
    finally:
        for transport in made:
            transport.close()
