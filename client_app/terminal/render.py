"""Output of verbs as text and as JSON.

Results go to stdout. Text from a peer or a file is escaped by `peer.terminal.text` before it is
printed; JSON output is printable ASCII.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from functools import singledispatch
from typing import Any

import click

from client_app.content import Reply
from client_app.models import Check, CheckResult, Paired
from client_app.terminal.screen import Screen
from peer.errors import PeerError, PinMismatch
from peer.terminal.durations import format_time
from peer.terminal.exit_codes import exit_code_of
from peer.terminal.layout import allows_colour, comparison_lines, folded, width_of
from peer.terminal.text import json_text, on_lines, on_one_line

SCHEMA = 1
NEXT_STEPS: dict[type, str] = {}
"""The message for an empty result, by its type; modules that register types add theirs."""

lists: dict[type, Callable[[Any], str]] = {}
"""The text of a list of values, by their type; modules that register types add theirs."""

FORMATS: Mapping[int | None, str] = {0: "text", 40: "links", 42: "octets", 50: "json", 60: "cbor"}
_COLOURS = {CheckResult.OK: "green", CheckResult.NOTE: "yellow", CheckResult.FAILED: "red"}
_CHECKED = " " * 7  # below the result of a check
_WIDE = 160  # characters of a value that is printed on one line


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


@as_json.register
def _(value: Paired) -> dict[str, object]:
    return {**value.device.record(), "new": value.is_new, "until": value.until}


@as_json.register
def _(value: Reply) -> dict[str, object]:
    return {
        "code": value.code,
        "format": FORMATS.get(value.format, value.format),
        "value": plain(_value_of(value)),
    } | ({"gap": plain(asdict(value.gap))} if value.gap else {})


def _value_of(reply: Reply) -> object:
    """The body as a value; as bytes if it does not parse in its content format."""
    try:
        return reply.value
    except PeerError:
        return reply.payload


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


@as_text.register
def _(value: Paired) -> str:
    device = value.device
    word = "paired with" if value.is_new else "already paired with"
    until = f", until {format_time(value.until)}" if value.until is not None else ""
    # A device does not tell every role its user name.
    who = f" as user {device.user}, role {device.role}" if device.user else ""
    return on_one_line(f"{word} {device.alias}{who}{until}")


@as_text.register
def _(value: Check) -> str:
    kind, _, about = value.name.partition(" ")
    name = kind if about and about in value.said else value.name  # an address is named once
    lines = folded(on_one_line(f"{value.verdict:<6} {name}: {value.said}"), indent=_CHECKED)
    advice = folded(f"{_CHECKED}{on_one_line(value.advice)}", indent=_CHECKED)
    coloured = [_coloured(line, _COLOURS[value.verdict]) for line in lines]
    return "\n".join([*coloured, *(advice if value.advice else ())])


@as_text.register
def _(reply: Reply) -> str:
    value = _value_of(reply)
    match value:
        case str():
            return on_lines(value).removesuffix("\n")
        case bytes():
            return f"{len(value)} bytes: {value.hex(' ')}" if value else ""
        case _:
            return readable(value)


def readable(value: object) -> str:
    """A CBOR or JSON value as escaped text: on one line if it is short, bytes as h'…'."""
    shown = _shown(value)
    line = json.dumps(shown, ensure_ascii=False)
    if len(line) > _WIDE:
        line = json.dumps(shown, ensure_ascii=False, indent=2)
    return on_lines(line)


def _shown(value: object) -> object:
    match value:
        case bytes():
            return f"h'{value.hex()}'"
        case list():
            return [_shown(item) for item in value]
        case Mapping():
            return {str(key): _shown(item) for key, item in value.items()}
        case _:
            return value


def _coloured(text: str, colour: str) -> str:
    return click.style(text, fg=colour) if allows_colour(sys.stdout) else text


# -- printing -------------------------------------------------------------------------------------


def put_out(value: object, screen: Screen, *, is_json: bool, is_raw: bool) -> None:
    """Print a result to stdout and flush it, since a pipe may be waiting for it."""
    if is_raw and isinstance(value, Reply):
        click.echo(value.payload, nl=False)
    elif is_json and not isinstance(value, bytes):
        click.echo(json_line(as_json(value)))
    elif text := as_text(value):
        click.echo(text)
    elif isinstance(value, Reply):
        screen.say(f"done ({value.code})")
    elif not isinstance(value, bytes):
        screen.say(NEXT_STEPS.get(type(value), "none"))
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
