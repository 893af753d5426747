"""A confirmable message under way, and the attempts that are left to its replacement."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import aiocoap
from aiocoap.numbers.constants import TransportTuning

from peer.net.aiocoap_seam.shared_messages import SharedMessage
from peer.net.outline import HEADER_BYTES
from peer.net.remote import CoapsRemote


def size_of(message: aiocoap.Message) -> int:
    """Return the size of a message that has no Message ID yet."""
    if isinstance(message, SharedMessage):
        return HEADER_BYTES + len(message.token) + len(message.encoded)
    marker = 1 if message.payload else 0
    options = len(message.opt.encode())
    return HEADER_BYTES + len(message.token) + options + marker + len(message.payload)


def fits(message: aiocoap.Message) -> bool:
    """Whether a message fits one datagram and one record of its session."""
    remote: CoapsRemote = message.remote
    return size_of(message) <= remote.association.session.message_bytes


class Remaining(TransportTuning):
    """The attempts that are left to the message that takes the place of another one."""

    ACK_RANDOM_FACTOR = 1.0  # the first timeout was random already
    reliability = True

    def __init__(self, timeout: float, retransmissions: int) -> None:
        self.ACK_TIMEOUT = timeout
        self.MAX_RETRANSMIT = retransmissions


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that a task waits for. `outcome` is None, or the attempts of another message."""

    is_stale: Callable[[], bool]
    outcome: asyncio.Future[TransportTuning | None]

    def replace(self, remaining: TransportTuning | None) -> None:
        """End the wait."""
        if not self.outcome.done():
            self.outcome.set_result(remaining)
