"""Values as people and scripts read them, and the terminal they go to.

Data goes to stdout, talk to stderr. What came from a peer or a file passes `peer.terminal.text`
before a person sees it; in JSON everything beyond printable ASCII is a number.
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
_END = "\x04"  # what an end of input is read as
_WIDE = 160  # characters of a value that still stay on one line


# -- JSON -----------------------------------------------------------------------------------------


@singledispatch
def as_json(value: object) -> dict[str, object]:
    """One value of a verb as a JSON object, without its `schema`."""
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
    """The body as a value; as bytes if it is not what its content format says."""
    try:
        return reply.value
    except PeerError:
        return reply.payload


def plain(value: object) -> object:
    """Any value of CBOR as one of JSON: bytes become {"hex": …}, not-a-number becomes null."""
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
    """One line, all of it printable ASCII."""
    return json_text({"schema": SCHEMA, **value}, ascii_only=True)


# -- for people -----------------------------------------------------------------------------------


@singledispatch
def as_text(value: object) -> str:
    """One value of a verb as lines, escaped; empty if there is nothing to show."""
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
    # With one blank before it a fingerprint just fits into 80 columns.
    return f"{on_one_line('  '.join(filter(None, words)))}\n {value.fingerprint.grouped}"


def halves(before: str, fingerprint: Fingerprint) -> list[str]:
    """A fingerprint on two lines, so that no terminal breaks it where it likes."""
    groups = fingerprint.grouped.split()
    return [f"{before}{' '.join(groups[:8])}", f"{' ' * len(before)}{' '.join(groups[8:])}"]


@as_text.register
def _(value: Seen) -> str:
    known = f"  (known as {value.known_as})" if value.known_as else ""
    if not value.present:
        return on_one_line(f"{value.name}  {value.id}  gone{known}")
    window = "open for pairing" if value.pairing_open else "closed"
    where = ", ".join(str(Place(host, value.port)) for host in value.addresses)
    return on_one_line(f"{value.name}  {value.id}  {where}  {window}{known}")


@as_text.register
def _(value: Paired) -> str:
    device = value.device
    word = "paired" if value.is_new else "was paired already"
    until = f", until {shown(value.until)}" if value.until is not None else ""
    who = f" as {device.user}, {device.role}" if device.user else ""  # some may not know
    return on_one_line(f"{word}: {device.alias} knows you{who}{until}")


@as_text.register
def _(value: Whoami) -> str:
    until = f"until {shown(value.until)}" if value.until is not None else "no end"
    lines = [
        f"user   {value.user}",
        f"role   {value.role}, {until}",
        f"key    {value.key}  {value.fingerprint}",
        f"path   {value.path}",
        f"may    {', '.join(value.actions)}",
    ]
    if value.conditional:
        sometimes = ", ".join(value.conditional)
        lines.append(f"if     {sometimes} (not now, not from here, or not everything)")
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
    """A value of CBOR or JSON: on one line if it is short, bytes as h'…', escaped."""
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
    """Print one value of a verb to stdout, and flush: a pipe may be waiting for it."""
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
    """Say on stderr what happened and what to do next."""
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
    """Talk on stderr, questions to the person there. Progress only where it can be wiped away."""

    def __init__(self) -> None:
        self.quiet = False
        self._task: asyncio.Task[None] | None = None
        self._last = ""

    @property
    def can_ask(self) -> bool:
        """Whether there is a person: what is typed and what is said both are a terminal."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """A line of talk, unless `-q`."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """A line of talk, also with `-q`."""
        self.done()
        click.echo(on_one_line(text), err=True)

    def draw(self, picture: str) -> None:
        """Lines that are shown as they are: nothing in them is a peer's."""
        self.done()
        click.echo(picture, err=True)

    def progress(self, text: str, *, seconds: float = 0.0) -> None:
        """What is being done or waited for, with a countdown, until `done` or the next one."""
        self.done()
        if self.quiet:
            return
        if not sys.stderr.isatty():
            self._once(text, seconds)
            return
        self._task = asyncio.get_running_loop().create_task(_tick(text, seconds))

    def done(self) -> None:
        """Wipe the line away."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            click.echo("\r\x1b[K", err=True, nl=False)

    async def ask(self, question: str, *, also: str = "") -> bool:
        """A yes or no; `also` typed in any grouping is a yes. Raises `UsageError` if nobody can
        answer; an end of input is a no."""
        while True:
            answer = (await self.read(f"{question} ")).strip().lower()
            if answer in {"y", "yes"} or (also and answer.replace(" ", "") == also):
                return True
            if answer in {"n", "no", _END}:
                return False
            if also and answer.replace(" ", "").isdecimal():  # other digits are a no, not a slip
                return False

    async def read(self, question: str) -> str:
        """A line from the person. Raises `UsageError` if there is nobody."""
        if not self.can_ask:
            raise UsageError("nobody is at this terminal to answer")
        self.done()
        with contextlib.suppress(termios.error):  # typed before the question: no answer to it
            termios.tcflush(0, termios.TCIFLUSH)
        click.echo(on_one_line(question), err=True, nl=False)
        try:
            return await _line()
        except asyncio.CancelledError:
            click.echo(err=True)  # the question is withdrawn: what follows is not its answer
            raise

    def _once(self, text: str, seconds: float) -> None:
        """Not a terminal: one line, and only if somebody will wait for a person."""
        if seconds > 10 and text != self._last:
            self._last = text
            click.echo(f"{on_one_line(text)}, at most {seconds:.0f} s", err=True)


async def _tick(text: str, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    for turn in "|/-\\" * 10_000:
        left = f" {max(0.0, until - loop.time()):.0f} s" if seconds else ""
        click.echo(f"\r\x1b[K{turn} {on_one_line(text)} …{left}", err=True, nl=False)
        await asyncio.sleep(0.25)


async def _line() -> str:
    """A line from the terminal, without a thread: a question may be withdrawn at any time."""
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
