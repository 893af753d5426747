"""Events of the audit trail, as `handfast-device` prints them."""

from typing import Final

from device_app.access.records import RecordView
from peer.terminal.durations import format_time
from peer.terminal.text import on_one_line

_FIELDS: Final = (
    *("actor", "user", "role", "method", "action", "result", "detail"),
    *("fingerprint", "address", "interface", "hop_limit"),
)


def event_line(record: RecordView) -> str:
    """One event: number, time, kind, and the fields that it has."""
    fields = " ".join(f"{name}={_quoted(record[name])}" for name in _FIELDS if name in record)
    when = format_time(record["wall"], with_seconds=True)
    return f"{record['seq']:>6}  {when}  {on_one_line(record['kind'])}  {fields}"


def _quoted(value: object) -> str:
    text = on_one_line(str(value))
    return f'"{text}"' if " " in text or not text else text
