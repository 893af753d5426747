"""Message deduplication of one session (RFC 7252 §4.5), bounded in number and bytes.

A request is a repeat if its Message ID and all its bytes are those of a recent request. It gets the
same answer again. The Message ID alone is not enough: a fast client uses all 65,536 long before
EXCHANGE_LIFETIME (247 s) has passed, and a request with a reused one must not get the answer to
another request.

Bytes are compared before anything is parsed, and the answer is stored as it was sent. A parsed
message takes many times the memory of its bytes, and keeps alive what it refers to.
"""

from dataclasses import dataclass, replace
from hashlib import blake2b

from peer.bounded_dict import BoundedDict
from peer.limits import DEDUP_WHOLE_BYTES, Limits
from peer.net.outline import message_id_of

_ENTRY_BYTES = 350  # the memory of an entry besides its bytes: objects and a place in the table


@dataclass(frozen=True, slots=True)
class RecentRequest:
    """A request: its bytes or their digest, when it was received, and the answer if it was sent."""

    request: bytes
    at: float
    answer: bytes = b""

    @property
    def held_bytes(self) -> int:
        """The approximate memory of this entry."""
        return _ENTRY_BYTES + len(self.request) + len(self.answer)


class RecentRequests:
    """Maps a Message ID to its `RecentRequest`: at most `dedup_window`, and `dedup_bytes` in all.

    Times are monotonic seconds.
    """

    def __init__(self, limits: Limits) -> None:
        self._seconds = limits.exchange_seconds
        self._recent: BoundedDict[int, RecentRequest] = BoundedDict(
            limits.dedup_window,
            most_weight=limits.dedup_bytes,
            weigh=lambda recent: recent.held_bytes,
        )

    def __len__(self) -> int:
        return len(self._recent)

    @property
    def held_bytes(self) -> int:
        """The approximate memory of all entries."""
        return self._recent.weight

    def find(self, request: bytes, now: float) -> RecentRequest | None:
        """Return the earlier request of which this one is a repeat, or None."""
        known = self._recent.get(message_id_of(request))
        if known is None or now - known.at >= self._seconds:
            return None
        return known if known.request == _brief(request) else None

    def note(self, request: bytes, now: float) -> None:
        """Remember a new request."""
        self._recent[message_id_of(request)] = RecentRequest(_brief(request), now)

    def answered(self, message_id: int, answer: bytes) -> None:
        """Store the answer to a request, as it was sent. Only the first one counts."""
        known = self._recent.get(message_id)
        if known is not None and not known.answer:
            self._recent[message_id] = replace(known, answer=answer)


def _brief(request: bytes) -> bytes:
    return (
        request if len(request) <= DEDUP_WHOLE_BYTES else blake2b(request, digest_size=16).digest()
    )
