"""GET /events: the audit trail, for those who may read it (protocol §9; regular port, CBOR).

An observer is told after each commit that wrote events. A notification has to fit one datagram, so
it holds the newest events that do; whoever then misses numbers asks for them with `since`. Several
commits in a row may become one notification (RFC 7641 §1.3).

An answer is made once for all who ask the same until the trail grows.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import aiocoap
from aiocoap.resource import ObservableResource

from device_app.access.error_answers import malformed
from device_app.access.records import RecordView, record_view
from device_app.resources.payloads import CBOR, reply_encoded, whole_number_untrusted
from iam.store import Store
from peer import cbor
from peer.bounded_dict import BoundedDict

ACTIONS = {"GET": "Events:Read"}
MOST = 100
USUAL = 50
_NUMBERS = {"since": 2**63 - 1, "last": MOST}  # query → the highest number it may have
_KEPT_ANSWERS = 8
_LEAST_EVENT_BYTES = 128  # an event has two digests of 64 hex digits
_ARRAY_HEAD_BYTES = 1  # what the head of a longer array takes more than that of an empty one


@dataclass(frozen=True, slots=True)
class _Query:
    """What is asked for; `room` is the size of a notification in bytes, or None for an answer."""

    since: int | None
    last: int | None
    room: int | None


class Events(ObservableResource):
    """/events."""

    ct = CBOR
    rt = "handfast.events"

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._made: BoundedDict[_Query, bytes] = BoundedDict(_KEPT_ANSWERS)
        self._head = (-1, "")  # of the trail that `_made` is about
        store.on_events(lambda _seq: self.updated_state())

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """{head, digest, events}: the newest, or with `since` those after it; oldest first."""
        return reply_encoded(request, self._answer(_read_untrusted(request)))

    def _answer(self, query: _Query) -> bytes:
        head = self._store.audit.head
        if head != self._head:
            self._head = head
            self._made.clear()
        made = self._made.get(query)
        if made is None:
            made = self._made[query] = self._make(query)
        return made

    def _make(self, query: _Query) -> bytes:
        seq, digest = self._head
        view: dict[str, Any] = {"head": seq, "digest": digest, "events": []}
        if query.room is None:
            view["events"] = self._events(query)
        else:
            room = query.room - len(cbor.encode(view)) - _ARRAY_HEAD_BYTES
            view["events"] = self._newest(query, room)
        return cbor.encode(view)

    def _events(self, query: _Query) -> list[RecordView]:
        trail = self._store.audit
        if query.since is None:
            last = USUAL if query.last is None else query.last
            return [record_view(one) for one in trail.latest(last)]
        most = MOST if query.last is None else query.last
        return [record_view(one) for one in islice(trail.iterate(query.since), most)]

    def _newest(self, query: _Query, room: int) -> list[RecordView]:
        """The newest events that fit, one at least. Each is encoded once to learn its size."""
        most = min(MOST if query.last is None else query.last, room // _LEAST_EVENT_BYTES + 1)
        found: list[RecordView] = []
        for record in reversed(self._store.audit.latest(most)):
            view = record_view(record)
            room -= len(cbor.encode(view))
            if record.seq <= (query.since or 0) or (found and room < 0):
                break
            found.append(view)
        return found[::-1]


def _read_untrusted(request: aiocoap.Message) -> _Query:
    found: dict[str, int] = {}
    for query in request.opt.uri_query:
        key, _, value = str(query).partition("=")
        if key not in _NUMBERS or key in found:
            raise malformed(f"the query {key[:20]!r} means nothing here", "Give since=SEQ, last=N.")
        number = whole_number_untrusted(value, most=_NUMBERS[key])
        if number is None:
            raise malformed(f"{key} is no number", f"Give one up to {_NUMBERS[key]}.")
        found[key] = number
    room = request.remote.maximum_payload_size if request.opt.observe == 0 else None
    return _Query(found.get("since"), found.get("last"), room)
