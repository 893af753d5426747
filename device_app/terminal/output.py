"""Output of the command line: results on stdout, messages and errors on stderr."""

import contextlib
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from device_app.process.log_destination import own_log, with_priority
from peer.terminal.text import json_text, on_lines

SCHEMA: Final = 1
"""The version of all JSON output."""


def json_line(value: Mapping[str, object]) -> None:
    """Print one JSON object to stdout."""
    print(json_text({"schema": SCHEMA, **value}), flush=True)


class JsonList:
    """Prints a JSON object with one list to stdout, as `json_line` does, row by row.

    Nothing is printed before the first rows, so that an error before them is all there is.
    """

    def __init__(self, field: str) -> None:
        self._begin = json_text({"schema": SCHEMA, field: []}).removesuffix("]}")
        self._separator = ""

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Print the next rows."""
        if text := ", ".join(map(json_text, rows)):
            print(self._begin + self._separator + text, end="", flush=True)
            self._begin, self._separator = "", ", "

    def end(self) -> None:
        """Print the end of the object."""
        print(f"{self._begin}]}}", flush=True)


def page(text: Sequence[str]) -> None:
    """Print some lines to stdout at once."""
    if text:
        print("\n".join(text), flush=True)


def lines(text: Iterable[str]) -> None:
    """Print lines to stdout."""
    for line in text:
        print(line, flush=True)


def message(text: str = "", *, end: str = "\n") -> None:
    """Print a message to stderr. If the terminal was closed, this does nothing."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, end=end, flush=True)


def warning(text: str) -> None:
    """Print a warning to stderr."""
    _complaint(f"warning: {on_lines(text)}", logging.WARNING)


def error(text: str, advice: str) -> None:
    """Print an error to stderr: what happened, and what to do next."""
    _complaint(f"handfast-device: {on_lines(text)}", logging.ERROR)
    if advice:
        _complaint(f"  {on_lines(advice)}", logging.ERROR)


def _complaint(text: str, level: int) -> None:
    """Print lines to stderr, in systemd's journal with their priority."""
    message(with_priority(text, level) if own_log()["kind"] == "journal" else text)


def json_error(said: Mapping[str, object]) -> None:
    """Print an error to stderr as one JSON object: kind, exit, message, advice."""
    message(json_text({"schema": SCHEMA, "error": said}))


def can_confirm() -> bool:
    """Whether a person can be asked on standard input."""
    return sys.stdin.isatty()
