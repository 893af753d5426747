"""Output of the command line: results on stdout, messages and errors on stderr."""

import contextlib
import sys
from collections.abc import Iterable, Mapping
from typing import Final

from peer.terminal.text import json_text, on_lines

SCHEMA: Final = 1
"""The version of all JSON output."""


def json_line(value: Mapping[str, object]) -> None:
    """Print one JSON object to stdout."""
    print(json_text({"schema": SCHEMA, **value}), flush=True)


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
    message(f"warning: {on_lines(text)}")


def error(text: str, advice: str) -> None:
    """Print an error to stderr: what happened, and what to do next."""
    message(f"handfast-device: {on_lines(text)}")
    if advice:
        message(f"  {on_lines(advice)}")


def json_error(said: Mapping[str, object]) -> None:
    """Print an error to stderr as one JSON object: kind, exit, message, advice."""
    message(json_text({"schema": SCHEMA, "error": said}))


def can_confirm() -> bool:
    """Whether a person can be asked on standard input."""
    return sys.stdin.isatty()
