"""GET /events: the audit trail, for those who may read it (protocol §9; regular port, CBOR).

An observer is told after each commit that wrote events. A notification has to fit one datagram, so
it holds the newest events that do; whoever then misses numbers asks for them with `since`. Several
commits in a row may become one notification (RFC 7641 §1.3).
"""

from itertools import islice
from typing import Any

import aiocoap
from aiocoap.resource import ObservableResource

from device_app.guard import malformed
from device_app.resources.wire import CBOR, reply
from device_app.trail import record_view
from device_app.whitelist import Whitelist
from peer import cbor

ACTIONS = {"GET": "Events:Read"}
MOST = 100
USUAL = 50
_NUMBERS = {"since": 2**63 - 1, "last": MOST}  # query → the highest number it may have


class Events(ObservableResource):  # type: ignore[misc]  # aiocoap has no types
    """/events."""

    ct = CBOR
    rt = "handfast.events"

    def __init__(self, whitelist: Whitelist) -> None:
        super().__init__()
        self._whitelist = whitelist
        whitelist.store.on_events(lambda _seq: self.updated_state())

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """{head, digest, events}: the newest, or with `since` those after it; oldest first."""
        wanted = _query(request)
        seq, digest = self._whitelist.store.trail.head
        view: dict[str, Any] = {"head": seq, "digest": digest, "events": self._events(wanted)}
        if request.opt.observe == 0:
            room = request.remote.maximum_payload_size
            while len(view["events"]) > 1 and len(cbor.encode(view)) > room:
                del view["events"][0]
        return reply(request, view)

    def _events(self, wanted: dict[str, int]) -> list[dict[str, Any]]:
        trail = self._whitelist.store.trail
        if "since" not in wanted:
            return [record_view(one) for one in trail.latest(wanted.get("last", USUAL))]
        most = wanted.get("last", MOST)
        return [record_view(one) for one in islice(trail.iterate(wanted["since"]), most)]


def _query(request: aiocoap.Message) -> dict[str, int]:
    found: dict[str, int] = {}
    for query in request.opt.uri_query:
        key, _, value = str(query).partition("=")
        if key not in _NUMBERS or key in found:
            raise malformed(f"the query {key[:20]!r} means nothing here", "Give since=SEQ, last=N.")
        if not (value.isascii() and value.isdecimal() and int(value[:20]) <= _NUMBERS[key]):
            raise malformed(f"{key} is no number", f"Give one up to {_NUMBERS[key]}.")
        found[key] = int(value)
    return found
