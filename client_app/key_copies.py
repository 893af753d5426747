"""Whether one key answers at two places: the SD card of a device was copied.

Both devices prove the key, so no check of the key tells them apart. Their processes differ: a
device accepts a session ticket that it has issued itself (RFC 5077 §3.3), and no other one. A
ticket from one address that is accepted at the other means one device with two addresses.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from client_app.limits import COPY_ROUNDS
from peer.errors import PeerError
from peer.net.connection import CoapsConnection

PlaceT = TypeVar("PlaceT")
Connect = Callable[[PlaceT], Awaitable[CoapsConnection]]
"""Opens a session with the pinned key, resuming the last one of this client."""


async def other_place(
    connect: "Connect[PlaceT]", first: PlaceT, others: Sequence[PlaceT]
) -> PlaceT | None:
    """Return a place where another device with the same key answers than at `first`, or None.

    Places that do not answer, or with another key, are left out.
    """
    for other in others:
        with suppress(PeerError):
            if await _is_other(connect, first, other):
                return other
    return None


async def _is_other(connect: "Connect[PlaceT]", first: PlaceT, other: PlaceT) -> bool:
    """Whether each device accepts its own ticket, and not that of the other, each time."""
    for _ in range(COPY_ROUNDS):
        for place, its_own in ((other, first), (first, other)):
            await _resumes(connect, its_own)  # the last ticket is now of this device
            if not await _resumes(connect, its_own):
                return False  # tickets tell nothing here: it restarted, or issues none
            if await _resumes(connect, place):
                return False
    return True


async def _resumes(connect: "Connect[PlaceT]", place: PlaceT) -> bool:
    connection = await connect(place)
    try:
        return connection.resumed
    finally:
        await connection.close()
