"""Messages, progress and questions of `handfast`, on stderr."""

import asyncio
import sys

import click

from peer.errors import UsageError
from peer.pasted import compact
from peer.terminal import prompts
from peer.terminal.prompts import discard_typed_input, read_line, yes_or_no
from peer.terminal.text import on_one_line


class Screen:
    """Messages and questions on stderr. Progress is animated only if stderr is a terminal."""

    def __init__(self) -> None:
        self.quiet = False
        self._task: asyncio.Task[None] | None = None
        self._last = ""

    @property
    def can_ask(self) -> bool:
        """Whether a person can be asked: stdin and stderr are both a terminal."""
        return prompts.can_ask()

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
        """Ask a yes-or-no question; `also`, six digits in any spelling, counts as yes.

        The end of input counts as no. Raises `UsageError` without a terminal.
        """
        while (line := await self.read(f"{question} ")) is not None:
            number = compact(line)
            if also and number.isdecimal():
                return number == also  # a different number is a no, not a typing error
            answer = yes_or_no(line)
            if answer is not None:
                return answer
        return False

    async def read(self, question: str) -> str | None:
        """Ask for a line of text; None at the end of input.

        Raises `UsageError` without a terminal.
        """
        if not self.can_ask:
            raise UsageError(
                "this command needs a terminal to ask a question",
                advice="Run it in a terminal, or give the answer as an option.",
            )
        self.done()
        discard_typed_input()
        click.echo(on_one_line(question), err=True, nl=False)
        try:
            return await read_line(sys.stdin.fileno())
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
