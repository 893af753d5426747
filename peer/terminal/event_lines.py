"""Events of a device as people read them: one layout for both command lines."""

from collections.abc import Mapping
from typing import Final

from peer.digit_groups import in_groups
from peer.terminal.durations import format_time
from peer.terminal.layout import folded
from peer.terminal.reasons import reason_in_words
from peer.terminal.text import on_one_line

_FIELDS: Final = (
    *("actor", "user", "role", "method", "action", "result", "detail"),
    *("fingerprint", "address", "interface", "hop_limit"),
)
_INDENT: Final = " " * 8


def event_lines(
    seq: int, kind: str, wall: float, about: Mapping[str, object], *, width: int | None = None
) -> list[str]:
    """One event: number, time, kind, and its fields; folded to the width of the terminal.

    Args:
        seq: its number.
        kind: its kind.
        wall: its time, in seconds since 1970.
        about: its fields; those of the chain are not shown.
        width: columns of the terminal; see `layout.folded`.
    """
    line = f"{seq:<5} {format_time(wall, with_seconds=True)}  {event_text(kind, about)}"
    return folded(line, indent=_INDENT, width=width)


def event_text(kind: str, about: Mapping[str, object]) -> str:
    """Return the kind of an event and its fields, on one line."""
    shown = " ".join(
        f"{name}={_quoted(_for_people(name, str(about[name])))}"
        for name in _FIELDS
        if name in about
    )
    return f"{on_one_line(kind)}  {shown}".rstrip()


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
