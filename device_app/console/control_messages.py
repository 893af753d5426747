"""Messages of the control socket: one JSON object a line, the same for both ends.

    → {"verb": "open", "args": {"seconds": 120}}
    ← {"event": "pending", …}                                 any number, from verbs that wait
    ← {"event": "rows", "field": "users", "rows": [{…}, …]}   any number, before a long answer
    ← {"ok": true, "result": {"users": [{…}]}}
    ← {"ok": false, "exit": 3, "error": "…", "advice": "…", "kind": "…"}

A list of an answer that is longer than `CONTROL_ROWS_BYTES` is split: its rows are sent ahead in
lines of that size, and the result has the last of them. So no line grows with the number of users.
A single row that is longer has a line of its own.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from device_app.limits import CONTROL_ROWS_BYTES

_SUN_PATH: Final = 108  # of a path, with the zero at its end (unix(7))

JsonObject = dict[str, Any]
"""A decoded JSON object. Only the two ends of the socket handle one."""

_EventT = TypeVar("_EventT", bound=Mapping[str, object])
Tell = Callable[[_EventT], Awaitable[None]]
"""Send an event to the client; waits while the client does not read."""


async def send(writer: asyncio.StreamWriter, message: Mapping[str, object]) -> None:
    """Send one message, and wait while the other end does not read."""
    await _send_text(writer, json.dumps(message))


async def send_result(writer: asyncio.StreamWriter, result: Mapping[str, object]) -> None:
    """Send an answer; its lists may be iterators, whose rows are made while they are sent."""
    fields = []
    for field, value in result.items():
        if not isinstance(value, list | Iterator):
            fields.append(f"{json.dumps(field)}: {json.dumps(value)}")
            continue
        pages = _pages(value)
        page = next(pages, "")
        for following in pages:
            event = f'{{"event": "rows", "field": {json.dumps(field)}, "rows": [{page}]}}'
            await _send_text(writer, event)
            await asyncio.sleep(0)  # other tasks of the daemon take their turn
            page = following
        fields.append(f"{json.dumps(field)}: [{page}]")
    await _send_text(writer, f'{{"ok": true, "result": {{{", ".join(fields)}}}}}')


def _pages(rows: Iterable[object]) -> Iterator[str]:
    """JSON of the rows, as many at a time as fit in `CONTROL_ROWS_BYTES`."""
    page: list[str] = []
    size = 0
    for row in rows:
        text = json.dumps(row)
        if page and size + len(text) > CONTROL_ROWS_BYTES:
            yield ", ".join(page)
            page, size = [], 0
        page.append(text)
        size += len(text) + len(", ")
    if page:
        yield ", ".join(page)


async def _send_text(writer: asyncio.StreamWriter, line: str) -> None:
    writer.write(line.encode() + b"\n")
    await writer.drain()


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for `path` that fits in the 108 bytes of a socket address (unix(7))."""
    if len(os.fsencode(path)) < _SUN_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
