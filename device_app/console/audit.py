"""The audit trail as the console sees it: over the control socket, and in the file."""

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Any

from device_app.access.records import record_view
from device_app.console.control_messages import Tell
from device_app.errors import AppError, Exit
from device_app.paths import Paths
from iam.store import Store

SHOWN = 100  # events, if nobody says how many
_PAGE = 100  # told before anything else in the daemon has its turn


def read(places: Paths, *, since: int | None, last: int | None) -> dict[str, Any]:
    """What the file holds, also while a daemon writes to it: the last so many of those after
    `since`. Raises `AppError` if there is no store, `StoreError` for one that cannot be read."""
    _require(places)
    with Store.read_audit(places.store) as trail:
        seq, digest = trail.head
        if since is None:
            found = trail.latest(SHOWN if last is None else last)
        else:
            found = list(trail.iterate(since))
            found = found if last is None else found[len(found) - min(last, len(found)) :]
    return {"head": seq, "digest": digest, "events": [record_view(one) for one in found]}


def verify(places: Paths) -> dict[str, Any]:
    """Walk the whole chain in the file. Raises like `read`."""
    _require(places)
    with Store.read_audit(places.store) as trail:
        broken = trail.verify()
        if broken is not None:
            return {"verified": False, "seq": broken.seq, "why": broken.why}
        seq, digest = trail.head
    return {"verified": True, "head": seq, "digest": digest}


async def follow(
    store: Store, args: Mapping[str, Any], tell: Tell[Mapping[str, object]]
) -> dict[str, Any]:
    """Tell what there is (like `read`), and then whatever comes, until the caller goes away.

    Records are read as fast as the caller reads, so a slow one costs no memory.
    """
    came = asyncio.Event()
    stop = store.on_events(lambda _seq: came.set())
    since = _start(store, args.get("since"), args.get("last"))
    try:
        while True:
            came.clear()
            while page := list(islice(store.audit.iterate(since), _PAGE)):
                for record in page:
                    await tell({"event": "trail", "record": record_view(record)})
                since = page[-1].seq
                await asyncio.sleep(0)
            await came.wait()
    finally:
        stop()


def _start(store: Store, since: int | None, last: int | None) -> int:
    head, _ = store.audit.head
    if since is None:
        return max(0, head - (SHOWN if last is None else last))
    return since if last is None else max(since, head - last)


def _require(places: Paths) -> None:
    if not places.store.exists():
        raise AppError(
            f"there is no device in {places.state}",
            advice="Make one: `handfast-device init` (with the same --home, if you gave one).",
            code=Exit.NOT_FOUND,
        )
