"""Repeats of requests of one session (RFC 7252 §4.5), recognised before anything is parsed.

A request is a repeat if its Message ID and all its bytes are those of a recent request. It gets the
same answer again. The Message ID alone is not enough: a fast client uses all 65,536 long before
EXCHANGE_LIFETIME (247 s) has passed, and a request with a reused one must not get the answer to
another request.

The table is bounded in number and bytes. It holds the bytes of requests, or their digest if they
are long, and the answers as they were sent. A parsed message takes many times the memory of its
bytes, and keeps alive what it refers to.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from peer.limits import DEDUP_WHOLE_BYTES, Limits
from peer.net.outline import message_id_of

_ENTRY_BYTES: Final = 350  # the memory of an entry besides its bytes: objects and a place


class RecentRequest:
    """A request: its bytes or their digest, when it was received, and the answer if it was sent."""

    __slots__ = ("answer", "at", "held_bytes", "request")

    def __init__(self, request: bytes, at: float, answer: bytes) -> None:
        self.request = request
        self.at = at
        self.answer = answer
        #: The approximate memory of this entry.
        self.held_bytes = _ENTRY_BYTES + len(request) + len(answer)


class RecentRequests:
    """Maps a Message ID to its `RecentRequest`: at most `dedup_window`, and `dedup_bytes` in all.

    Times are monotonic seconds.
    """

    def __init__(self, limits: Limits) -> None:
        self._seconds = limits.exchange_seconds
        self._most = limits.dedup_window
        self._most_bytes = limits.dedup_bytes
        self._recent: OrderedDict[int, RecentRequest] = OrderedDict()
        #: The approximate memory of all entries.
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._recent)

    def find(self, request: bytes, now: float) -> RecentRequest | None:
        """Return the earlier request of which this one is a repeat, or None."""
        known = self._recent.get(message_id_of(request))
        if known is None or now - known.at >= self._seconds:
            return None
        brief = request if len(request) <= DEDUP_WHOLE_BYTES else _digest(request)
        return known if known.request == brief else None

    def note(self, request: bytes, now: float, answer: bytes = b"") -> None:
        """Remember a new request, and its answer if it was sent already."""
        message_id = message_id_of(request)
        if len(request) > DEDUP_WHOLE_BYTES:
            request = _digest(request)
        self._store(message_id, RecentRequest(request, now, answer))

    def answered(self, message_id: int, answer: bytes) -> None:
        """Store the answer to a request, as it was sent. Only the first one counts."""
        known = self._recent.get(message_id)
        if known is not None and not known.answer:
            self._store(message_id, RecentRequest(known.request, known.at, answer))

    def _store(self, message_id: int, entry: RecentRequest) -> None:
        """Add an entry as the newest one. It always stays; the oldest are dropped for it."""
        recent, held = self._recent, self.held_bytes + entry.held_bytes
        if (earlier := recent.pop(message_id, None)) is not None:
            held -= earlier.held_bytes
        recent[message_id] = entry
        while (held > self._most_bytes or len(recent) > self._most) and len(recent) > 1:
            held -= recent.popitem(last=False)[1].held_bytes
        self.held_bytes = held


def _digest(request: bytes) -> bytes:
    return blake2b(request, digest_size=16).digest()
