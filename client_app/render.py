"""Output of verbs as text and as JSON, and the terminal.

Results go to stdout, messages and questions to stderr. Text that comes from a peer or a file is
escaped by `peer.terminal.text` before it is printed; JSON output is printable ASCII.
"""

import asyncio
import contextlib
import json
import math
import os
import sys
import termios
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import singledispatch

import click

from client_app.addresses import Place
from client_app.answers import exit_code
from client_app.devices import KnownDevice
from client_app.moments import shown
from client_app.reply import Reply
from client_app.setting import Setting
from client_app.values import Check, Paired, Seen, Verdict, Whoami
from peer.errors import PeerError, UsageError
from peer.identity import Fingerprint
from peer.pairing.methods import BUTTON
from peer.terminal.text import json_text, on_lines, on_one_line

SCHEMA = 1
_FORMATS: Mapping[int | None, str] = {0: "text", 40: "links", 42: "octets", 50: "json", 60: "cbor"}
_COLOURS = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.FAILED: "red"}
_END = "\x04"  # stands for the end of input
_WIDE = 160  # characters of a value that is printed on one line


# -- JSON -----------------------------------------------------------------------------------------


@singledispatch
def as_json(value: object) -> dict[str, object]:
    """A result as a JSON object, without the field `schema`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in asdict(value).items()}
    raise TypeError(f"no JSON for {type(value).__name__}")


@as_json.register
def _(value: list) -> dict[str, object]:  # type: ignore[type-arg]  # singledispatch reads it
    return {"devices": [as_json(one) for one in value]}


@as_json.register
def _(value: KnownDevice) -> dict[str, object]:
    return value.record()


@as_json.register
def _(value: Paired) -> dict[str, object]:
    return {**value.device.record(), "new": value.is_new, "until": value.until}


@as_json.register
def _(value: Reply) -> dict[str, object]:
    return {
        "code": value.code,
        "format": _FORMATS.get(value.format, value.format),
        "value": plain(_value_of(value)),
    }


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


@as_text.register
def _(value: list) -> str:  # type: ignore[type-arg]  # singledispatch reads it
    return "\n".join(as_text(one) for one in value)


@as_text.register
def _(value: bytes) -> str:
    return on_lines(value.decode("utf-8", "replace")).removesuffix("\n")


@as_text.register
def _(value: KnownDevice) -> str:
    where = ", ".join(filter(None, (value.last_seen, *value.addresses)))
    who = f"{value.user} ({value.role})" if value.role else value.user
    how = f"by {value.method}" + (", *unverified*" if value.method == BUTTON else "")
    words = (value.alias, value.fingerprint.device_id, who, where, how)
    # With one leading space, a fingerprint just fits into 80 columns.
    return f"{on_one_line('  '.join(filter(None, words)))}\n {value.fingerprint.grouped}"


def halves(before: str, fingerprint: Fingerprint) -> list[str]:
    """A fingerprint on two lines, so that the terminal does not wrap it."""
    groups = fingerprint.grouped.split()
    return [f"{before}{' '.join(groups[:8])}", f"{' ' * len(before)}{' '.join(groups[8:])}"]


@as_text.register
def _(value: Seen) -> str:
    known = f"  (known as {value.known_as})" if value.known_as else ""
    if not value.present:
        return on_one_line(f"{value.name}  {value.id}  left{known}")
    window = "open for pairing" if value.pairing_open else "closed"
    where = ", ".join(str(Place(host, value.port)) for host in value.addresses)
    return on_one_line(f"{value.name}  {value.id}  {where}  {window}{known}")


@as_text.register
def _(value: Paired) -> str:
    device = value.device
    word = "paired with" if value.is_new else "already paired with"
    until = f", until {shown(value.until)}" if value.until is not None else ""
    # A device does not tell every role its user name.
    who = f" as user {device.user}, role {device.role}" if device.user else ""
    return on_one_line(f"{word} {device.alias}{who}{until}")


@as_text.register
def _(value: Whoami) -> str:
    until = f"until {shown(value.until)}" if value.until is not None else "no expiry"
    lines = [
        f"user   {value.user}",
        f"role   {value.role}, {until}",
        f"key    {'  '.join(filter(None, (value.key, value.fingerprint)))}",
        f"path   {value.path}",
        f"may    {', '.join(value.actions) or 'nothing'}",
    ]
    if value.conditional:
        sometimes = ", ".join(value.conditional)
        lines.append(
            f"also   {sometimes} (at other times, from other places, or for some requests only)"
        )
    return "\n".join(map(on_one_line, lines))


@as_text.register
def _(value: Check) -> str:
    line = on_one_line(f"{value.verdict:<6} {value.name}: {value.said}")
    advice = f"\n       {on_one_line(value.advice)}" if value.advice else ""
    return _coloured(line, _COLOURS[value.verdict]) + advice


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
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return click.style(text, fg=colour)


# -- printing -------------------------------------------------------------------------------------


def put_out(setting: Setting, value: object) -> None:
    """Print a result to stdout and flush it, since a pipe may be waiting for it."""
    if setting.raw and isinstance(value, Reply):
        click.echo(value.payload, nl=False)
    elif setting.json and not isinstance(value, bytes):
        click.echo(json_line(as_json(value)))
    elif text := as_text(value):
        click.echo(text)
    elif isinstance(value, Reply):
        setting.screen.say(f"done ({value.code})")
    elif not isinstance(value, bytes):
        setting.screen.say("none")
    sys.stdout.flush()


def put_error(setting: Setting, error: PeerError) -> None:
    """Print an error and its advice to stderr."""
    if setting.json:
        said = {
            "kind": type(error).__name__,
            "exit": exit_code(error),
            "message": str(error),
            "advice": error.advice,
        }
        click.echo(json_line({"error": said}), err=True)
        return
    click.echo(f"handfast: {on_one_line(str(error))}", err=True)
    if error.advice and not setting.quiet:
        click.echo(f"  {on_one_line(error.advice)}", err=True)


class Terminal:
    """Messages and questions on stderr. Progress is animated only if stderr is a terminal."""

    def __init__(self) -> None:
        self.quiet = False
        self._task: asyncio.Task[None] | None = None
        self._last = ""

    @property
    def can_ask(self) -> bool:
        """Whether a person can be asked: stdin and stderr are both a terminal."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Print a message, unless `-q` is given."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print a message, also with `-q`."""
        self.done()
        click.echo(on_one_line(text), err=True)

    def draw(self, picture: str) -> None:
        """Print lines without escaping; they must not contain text from a peer."""
        self.done()
        click.echo(picture, err=True)

    def progress(self, text: str, *, seconds: float = 0.0) -> None:
        """Show what the command is waiting for, with a countdown, until `done` or the next call."""
        self.done()
        if self.quiet:
            return
        if not sys.stderr.isatty():
            self._once(text, seconds)
            return
        self._task = asyncio.get_running_loop().create_task(_tick(text, seconds))

    def done(self) -> None:
        """Remove the progress line."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            click.echo("\r\x1b[K", err=True, nl=False)

    async def ask(self, question: str, *, also: str = "") -> bool:
        """Ask a yes-or-no question; `also`, typed with or without spaces, counts as yes.

        The end of input counts as no. Raises `UsageError` without a terminal.
        """
        while True:
            answer = (await self.read(f"{question} ")).strip().lower()
            if answer in {"y", "yes"} or (also and answer.replace(" ", "") == also):
                return True
            if answer in {"n", "no", _END}:
                return False
            if (
                also and answer.replace(" ", "").isdecimal()
            ):  # a different number is a no, not a typing error
                return False

    async def read(self, question: str) -> str:
        """Ask for a line of text. Raises `UsageError` without a terminal."""
        if not self.can_ask:
            raise UsageError(
                "this command needs a terminal to ask a question",
                advice="Run it in a terminal, or give the answer as an option.",
            )
        self.done()
        with contextlib.suppress(termios.error):  # drop what was typed before the question
            termios.tcflush(0, termios.TCIFLUSH)
        click.echo(on_one_line(question), err=True, nl=False)
        try:
            return await _line()
        except asyncio.CancelledError:
            click.echo(err=True)  # end the line of the withdrawn question
            raise

    def _once(self, text: str, seconds: float) -> None:
        """Without a terminal: print one line, and only for a wait of more than 10 s."""
        if seconds > 10 and text != self._last:
            self._last = text
            click.echo(f"{on_one_line(text)}, for up to {seconds:.0f} s", err=True)


async def _tick(text: str, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    for turn in "|/-\\" * 10_000:
        left = f" {max(0.0, until - loop.time()):.0f} s" if seconds else ""
        click.echo(f"\r\x1b[K{turn} {on_one_line(text)} …{left}", err=True, nl=False)
        await asyncio.sleep(0.25)


async def _line() -> str:
    """Read a line from the terminal without a thread, so that it can be cancelled."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()
    heard: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        if not heard.done():
            heard.set_result(os.read(descriptor, 1024))

    loop.add_reader(descriptor, read)
    try:
        typed = await heard
    finally:
        loop.remove_reader(descriptor)
    return typed.decode("utf-8", "replace") if typed else _END
