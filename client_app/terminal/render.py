"""Output of verbs as text and as JSON.

Results go to stdout. Text from a peer or a file is escaped by `peer.terminal.text` before it is
printed; JSON output is printable ASCII.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from functools import singledispatch
from typing import Any

import click

from client_app.terminal.screen import Screen
from peer.errors import PeerError, PinMismatch
from peer.terminal.exit_codes import exit_code_of
from peer.terminal.layout import comparison_lines, folded, width_of
from peer.terminal.text import json_text, on_lines, on_one_line

SCHEMA = 1
NEXT_STEPS: dict[type, str | Callable[[Any], str]] = {}
"""The message for an empty result, by its type; modules that register types add theirs."""

raw_bytes: dict[type, Callable[[Any], bytes]] = {}
"""The bytes that `--raw` prints, by the type of the result; modules add those of their types."""

parts: dict[type, Callable[[Any, bool], str]] = {}
"""The text of a part of a result, as JSON or for people, by its type; modules add theirs.

An empty text stands for an empty result.
"""

lists: dict[type, Callable[[Any], str]] = {}
"""The text of a list of values, by their type; modules that register types add theirs."""


# -- JSON -----------------------------------------------------------------------------------------


@singledispatch
def as_json(value: object) -> dict[str, object]:
    """A result as a JSON object, without the field `schema`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in asdict(value).items()}
    raise TypeError(f"no JSON for {type(value).__name__}")


@as_json.register(list)
def _(value: list[object]) -> dict[str, object]:
    return {"devices": [as_json(one) for one in value]}


def plain(value: object) -> object:
    """Convert a CBOR value to JSON: bytes become {"hex": …}, NaN and infinity become null."""
    match value:
        case bytes():
            return {"hex": value.hex()}
        case float() if not math.isfinite(value):
            return None
        case list() | tuple():
            return [plain(item) for item in value]
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case _:
            return value


def json_line(value: Mapping[str, object]) -> str:
    """JSON on one line of printable ASCII."""
    return json_text({"schema": SCHEMA, **value}, ascii_only=True)


# -- for people -----------------------------------------------------------------------------------


@singledispatch
def as_text(value: object) -> str:
    """A result as escaped lines of text; empty if there is nothing to print."""
    raise TypeError(f"no text for {type(value).__name__}")


@as_text.register(list)
def _(value: list[object]) -> str:
    form = lists.get(type(value[0])) if value else None
    return form(value) if form is not None else "\n".join(as_text(one) for one in value)


@as_text.register
def _(value: bytes) -> str:
    return on_lines(value.decode("utf-8", "replace")).removesuffix("\n")


# -- printing -------------------------------------------------------------------------------------


def put_out(value: object, screen: Screen, *, is_json: bool, is_raw: bool) -> None:
    """Print a result to stdout and flush it, since a pipe may be waiting for it."""
    part = parts.get(type(value))
    if part is not None and (text := part(value, is_json)):
        click.echo(text, nl=False)
    elif is_raw and (raw := raw_bytes.get(type(value))) is not None:
        click.echo(raw(value), nl=False)
    elif is_json and not isinstance(value, bytes):
        click.echo(json_line(as_json(value)))
    elif text := as_text(value):
        click.echo(text)
    elif not isinstance(value, bytes):
        step = NEXT_STEPS.get(type(value), "none")
        screen.say(step if isinstance(step, str) else step(value))
    sys.stdout.flush()


def _error_lines(error: PeerError) -> list[str]:
    """The text of an error; two keys that differ are lined up, with their differences marked."""
    if not (isinstance(error, PinMismatch) and error.is_of_fingerprints):
        return [f"handfast: {error}"]
    keys = comparison_lines(("expected", "received"), (error.expected, error.actual))
    where = f"They first differ in group {error.difference} of 16, as marked."
    return [f"handfast: {error.summary}", *keys, f"  {where}"]


def put_error(error: PeerError, *, is_json: bool, quiet: bool) -> None:
    """Print an error and its advice to stderr."""
    if is_json:
        said: dict[str, object] = {
            "kind": type(error).__name__,
            "exit": exit_code_of(error),
            "message": str(error),
            "advice": error.advice,
        }
        if isinstance(error, PinMismatch):
            keys = f"expected {error.expected}, received {error.actual}"
            said["message"] = f"{error.summary}: {keys}"  # programs search for whole digits
            said |= {"expected": error.expected, "actual": error.actual}
        click.echo(json_line({"error": said}), err=True)
        return
    width = width_of(sys.stderr)
    lines = [*_error_lines(error), *([f"  {error.advice}"] if error.advice and not quiet else [])]
    for line in lines:
        for part in folded(on_one_line(line), indent="  ", width=width):
            click.echo(part, err=True)
