"""Copies between a stream of a tunnel and a TCP connection, in both directions at once."""

import asyncio
import socket
import struct
from contextlib import suppress

from peer.remote.limits import COPY_BYTES
from peer.remote.stream_transport import StreamStopped

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with a time of 0: close() sends RST

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def join(one: Pair, other: Pair) -> None:
    """Copy in both directions until both have ended, then close both.

    The end of a direction (FIN) is passed on, and so is a reset. Cancelling it resets both.
    """
    copies = asyncio.gather(_copy(one[0], other[1]), _copy(other[0], one[1]))
    try:
        await copies
    except OSError:  # one side was reset
        _reset_both(one, other)
    except BaseException:
        _reset_both(one, other)
        raise
    finally:
        copies.cancel()
        for _reader, writer in (one, other):
            writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):  # it is closed already
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.transport.abort()


def _reset_both(one: Pair, other: Pair) -> None:
    for _reader, writer in (one, other):
        reset(writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the reader ends. A stream whose peer reads no more ends only this direction."""
    try:
        while data := await reader.read(COPY_BYTES):
            writer.write(data)
            await writer.drain()
    except StreamStopped:
        return
    if not writer.is_closing():
        writer.write_eof()
