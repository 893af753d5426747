"""Events of the audit trail, as `handfast-device` prints them."""

from typing import Final

from device_app.access.records import RecordView
from peer.digit_groups import in_groups
from peer.terminal.durations import format_time
from peer.terminal.reasons import reason_in_words
from peer.terminal.text import on_one_line

_FIELDS: Final = (
    *("actor", "user", "role", "method", "action", "result", "detail"),
    *("fingerprint", "address", "interface", "hop_limit"),
)


def event_line(record: RecordView) -> str:
    """One event: number, time, kind, and the fields that it has."""
    fields = " ".join(
        f"{name}={_quoted(_for_people(name, str(record[name])))}"
        for name in _FIELDS
        if name in record
    )
    when = format_time(record["wall"], with_seconds=True)
    return f"{record['seq']:>6}  {when}  {on_one_line(record['kind'])}  {fields}"


def _for_people(name: str, value: str) -> str:
    """A reason in words, and a fingerprint in groups."""
    match name:
        case "result":
            return reason_in_words(value)
        case "fingerprint":
            return in_groups(value)
        case _:
            return value


def _quoted(value: str) -> str:
    text = on_one_line(value)
    return f'"{text}"' if " " in text or not text else text
