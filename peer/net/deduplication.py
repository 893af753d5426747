"""The memory for repeated requests of one session (RFC 7252 §4.5), bounded in bytes.

A request is a repeat if its Message ID and all its bytes are those of a recent request. It gets the
same answer again. A Message ID alone is not enough: a fast client has used all 65,536 long before
EXCHANGE_LIFETIME (247 s) is over, and a reused one must not get the answer to another request.

Bytes are compared before anything is parsed, and the answer is kept as it was sent. A message that
was parsed takes many times the memory of its bytes, and holds on to whatever it refers to.
"""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from peer.limits import Limits
from peer.net.outline import message_id_of

_WHOLE_BYTES = 256  # a longer request is kept as its digest
_ENTRY_BYTES = 350  # what an entry takes beside its bytes: objects and a place in the table


@dataclass(slots=True)
class RecentRequest:
    """A recent request: its bytes or their digest, when it came, and the answer's bytes so far."""

    request: bytes
    at: float
    answer: bytes = b""

    @property
    def held_bytes(self) -> int:
        """The memory this takes, roughly."""
        return _ENTRY_BYTES + len(self.request) + len(self.answer)


class RecentRequests:
    """Message ID → `RecentRequest`, at most `dedup_window` of them and `dedup_bytes` in all."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._recent: OrderedDict[int, RecentRequest] = OrderedDict()
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._recent)

    def find(self, request: bytes, now: float) -> RecentRequest | None:
        """The earlier request that this one repeats, if it does."""
        known = self._recent.get(message_id_of(request))
        if known is None or now - known.at >= self._limits.exchange_seconds:
            return None
        return known if known.request == _brief(request) else None

    def note(self, request: bytes, now: float) -> None:
        """Remember a new request. The oldest ones make way."""
        message_id = message_id_of(request)
        self._forget(message_id)
        noted = self._recent[message_id] = RecentRequest(_brief(request), now)
        self.held_bytes += noted.held_bytes
        self._shrink()

    def answered(self, message_id: int, answer: bytes) -> None:
        """Keep the answer to a request, as it was sent. Only the first one counts."""
        known = self._recent.get(message_id)
        if known is not None and not known.answer:
            known.answer = answer
            self.held_bytes += len(answer)
            self._shrink()

    def _shrink(self) -> None:
        limits = self._limits
        while len(self._recent) > limits.dedup_window or self.held_bytes > limits.dedup_bytes:
            self._forget(next(iter(self._recent)))

    def _forget(self, message_id: int) -> None:
        gone = self._recent.pop(message_id, None)
        if gone is not None:
            self.held_bytes -= gone.held_bytes


def _brief(request: bytes) -> bytes:
    return request if len(request) <= _WHOLE_BYTES else blake2b(request, digest_size=16).digest()
