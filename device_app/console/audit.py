"""The audit trail for the console: read or verified in the file, or followed in the daemon.

Reading works while a daemon runs and while it does not.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, takewhile
from typing import NoReturn

from device_app.access.records import record_view
from device_app.console.answers import AuditEvent, EventsAnswer, VerifyAnswer
from device_app.console.control_messages import Tell
from device_app.errors import NoDevice
from device_app.limits import AUDIT_PAGE_EVENTS, EVENTS_SHOWN
from device_app.settings.paths import Paths
from iam import openfile
from iam.audit import AuditTrail
from iam.store import Store


def read(paths: Paths, *, since: int | None, last: int | None) -> EventsAnswer:
    """Return the last events in the file.

    Args:
        paths: the folders of the device.
        since: only events after this number.
        last: the largest number of events; all by default, or `EVENTS_SHOWN` without `since`.

    Raises:
        AppError: there is no device here.
        StoreError: the file cannot be read.
    """
    with _trail(paths) as trail:
        answer = listed(trail, since=since, last=last)
        return {**answer, "events": list(answer["events"])}


def listed(trail: AuditTrail, *, since: int | None, last: int | None) -> EventsAnswer:
    """Return the last events of a trail (see `read`); they are read as they are taken."""
    head, digest = trail.head
    records = trail.iterate(_start(head, since, last))
    events = (record_view(one) for one in takewhile(lambda one: one.seq <= head, records))
    return {"head": head, "digest": digest, "events": events}


def verify(paths: Paths) -> VerifyAnswer:
    """Verify the hash chain of the whole file. Raises the errors of `read`."""
    with _trail(paths) as trail:
        broken = trail.verify()
        if broken is not None:
            return {"verified": False, "seq": broken.seq, "why": broken.why}
        head, digest = trail.head
    return {"verified": True, "head": head, "digest": digest}


async def follow(
    store: Store, tell: Tell[AuditEvent], *, since: int | None, last: int | None
) -> NoReturn:
    """Tell the last events (see `read`), and every new one until it is cancelled.

    Records are read as fast as they are told, so a slow client costs no memory.
    """
    appended = asyncio.Event()
    unsubscribe = store.on_events(lambda _seq: appended.set())
    position = _start(store.audit.head[0], since, last)
    try:
        while True:
            appended.clear()
            while page := list(islice(store.audit.iterate(position), AUDIT_PAGE_EVENTS)):
                for record in page:
                    await tell({"event": "trail", "record": record_view(record)})
                position = page[-1].seq
                await asyncio.sleep(0)
            await appended.wait()
    finally:
        unsubscribe()


def _start(head: int, since: int | None, last: int | None) -> int:
    """The number of the event before the first one asked for.

    A number beyond the newest event means that one; SQLite takes no larger ones anyway.
    """
    if since is None:
        return max(0, head - max(0, EVENTS_SHOWN if last is None else last))
    since = min(max(0, since), head)
    return since if last is None else max(since, head - max(0, last))


@contextmanager
def _trail(paths: Paths) -> Iterator[AuditTrail]:
    if not paths.store.exists():
        raise NoDevice(paths.state)
    with openfile.read_audit(paths.store) as trail:
        yield trail
