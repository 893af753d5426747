"""A confirmable message under way, and the attempts that are left to its replacement."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import aiocoap
from aiocoap.numbers.constants import TransportTuning

from peer.net.outline import HEADER_BYTES
from peer.net.remote import CoapsRemote


def fits(message: aiocoap.Message) -> bool:
    """Whether a message fits one datagram of its session."""
    size = HEADER_BYTES + len(message.token) + len(message.opt.encode()) + len(message.payload)
    remote: CoapsRemote = message.remote
    return size < remote.association.session.cleartext_mtu  # 1 more: the payload marker


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
