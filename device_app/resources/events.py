"""GET /events: the audit trail (protocol §9; regular port).

Observers are notified after each commit that wrote events. A notification has to fit one datagram,
so it holds the newest events that do; a client that misses numbers asks for them with `since`.
Several commits in a row may become one notification (RFC 7641 §1.3).

An encoded answer is cached until the trail grows, since several clients may ask the same.
"""

from dataclasses import dataclass
from itertools import islice

import aiocoap
from aiocoap.resource import ObservableResource

from device_app.access.error_answers import malformed
from device_app.access.records import RecordView, record_view
from device_app.limits import (
    EVENT_ANSWERS_CACHED,
    EVENTS_DEFAULT,
    EVENTS_MAX,
    QUOTED_QUERY_CHARACTERS,
)
from device_app.resources.payloads import CBOR, reply_encoded, whole_number_untrusted
from iam.store import Store
from peer import cbor
from peer.bounded_dict import BoundedDict

PATH = ("events",)
ACTIONS = {"GET": "Events:Read"}
_MOST = {"since": 2**63 - 1, "last": EVENTS_MAX}  # query → its highest number
_LEAST_EVENT_BYTES = 128  # an event has two digests of 64 hex digits
_ARRAY_HEAD_BYTES = 1  # of a longer array, beyond that of an empty one (RFC 8949 §3)


@dataclass(frozen=True, slots=True)
class EventsQuery:
    """A request: events after the number `since`, or the `last` ones.

    `room` is the size of a notification in bytes, or None for an answer in blocks.
    """

    since: int | None
    last: int | None
    room: int | None

    @classmethod
    def decode_untrusted(cls, request: aiocoap.Message) -> "EventsQuery":
        """Decode the queries. Raises `ProblemError` (4.00)."""
        found: dict[str, int] = {}
        for query in request.opt.uri_query:
            key, _, value = str(query).partition("=")
            if key not in _MOST or key in found:
                raise malformed(
                    f"the query {key[:QUOTED_QUERY_CHARACTERS]!r} is not known here",
                    "Give since=SEQ, last=N.",
                )
            number = whole_number_untrusted(value, most=_MOST[key])
            if number is None:
                raise malformed(f"{key} is not a number", f"Give a number up to {_MOST[key]}.")
            found[key] = number
        room = request.remote.maximum_payload_size if request.opt.observe == 0 else None
        return cls(found.get("since"), found.get("last"), room)


class Events(ObservableResource):
    """/events."""

    ct = CBOR
    rt = "handfast.events"

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._answers: BoundedDict[EventsQuery, bytes] = BoundedDict(EVENT_ANSWERS_CACHED)
        self._head = (-1, "")  # of the trail that the cached answers are about
        store.on_events(lambda _seq: self.updated_state())

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the head of the trail and the events of the query, oldest first."""
        return reply_encoded(request, self._answer(EventsQuery.decode_untrusted(request)))

    def _answer(self, query: EventsQuery) -> bytes:
        head = self._store.audit.head
        if head != self._head:
            self._head = head
            self._answers.clear()
        answer = self._answers.get(query)
        if answer is None:
            answer = self._answers[query] = self._encode(query)
        return answer

    def _encode(self, query: EventsQuery) -> bytes:
        seq, digest = self._head
        answer: dict[str, object] = {"head": seq, "digest": digest, "events": []}
        if query.room is None:
            answer["events"] = self._events(query)
        else:
            room = query.room - len(cbor.encode(answer)) - _ARRAY_HEAD_BYTES
            answer["events"] = self._newest(query, room)
        return cbor.encode(answer)

    def _events(self, query: EventsQuery) -> list[RecordView]:
        trail = self._store.audit
        if query.since is None:
            last = EVENTS_DEFAULT if query.last is None else query.last
            return [record_view(record) for record in trail.latest(last)]
        most = EVENTS_MAX if query.last is None else query.last
        return [record_view(record) for record in islice(trail.iterate(query.since), most)]

    def _newest(self, query: EventsQuery, room: int) -> list[RecordView]:
        """Return the newest events that fit, at least one; each is encoded to learn its size."""
        most = min(EVENTS_MAX if query.last is None else query.last, room // _LEAST_EVENT_BYTES + 1)
        found: list[RecordView] = []
        for record in reversed(self._store.audit.latest(most)):
            view = record_view(record)
            room -= len(cbor.encode(view))
            if record.seq <= (query.since or 0) or (found and room < 0):
                break
            found.append(view)
        return found[::-1]
