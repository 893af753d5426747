"""Messages, progress and questions of `handfast`, on stderr.

Every command has a screen, so it imports what asks and waits when a verb does.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import click

from peer.errors import UsageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class _Wait:
    """A wait of the command; `until` is the loop's time of its end, 0 if that is unknown."""

    __slots__ = ("text", "until")

    def __init__(self, text: str, until: float) -> None:
        self.text = text
        self.until = until

    def line(self, turn: str, now: float) -> str:
        import shutil  # noqa: PLC0415 - see above

        from peer.terminal.text import on_one_line  # noqa: PLC0415 - see above

        left = f" {max(0.0, self.until - now):.0f} s" if self.until else ""
        most = shutil.get_terminal_size().columns - len(f"{turn}  …{left}") - 1
        return f"{turn} {on_one_line(self.text)[: max(most, 0)]} …{left}"


class Screen:
    """Messages and questions on stderr, and what the command waits for.

    A wait is shown on a terminal only, from its second second on, in a line that disappears.
    """

    def __init__(self) -> None:
        self.quiet = False
        self._waits: list[_Wait] = []
        self._end_progress: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_drawn = False
        self._is_asking = False

    @property
    def can_ask(self) -> bool:
        """Whether a person can be asked: stdin and stderr are both a terminal."""
        from peer.terminal import prompts  # noqa: PLC0415 - see above

        return prompts.can_ask()

    def say(self, text: str) -> None:
        """Print a message, unless `-q` is given."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print a message, also with `-q`."""
        from peer.terminal.layout import folded, width_of  # noqa: PLC0415 - see above
        from peer.terminal.text import on_one_line  # noqa: PLC0415 - see above

        self.done()
        for line in folded(on_one_line(text), indent="  ", width=width_of(sys.stderr)):
            click.echo(line, err=True)

    def draw(self, picture: str) -> None:
        """Print lines without escaping; they must not contain text from a peer."""
        self.done()
        click.echo(picture, err=True)

    def progress(self, text: str, *, seconds: float = 0.0) -> None:
        """Show what the command is waiting for, with a countdown, until `done` or the next call."""
        self.done()
        self._end_progress = self.begin_wait(text, seconds)

    def begin_wait(self, text: str, seconds: float = 0.0) -> Callable[[], None]:
        """Show what the command is waiting for; return a function that ends that.

        If there are several waits, the one that began last is shown.
        """
        import asyncio  # noqa: PLC0415 - see above

        loop = asyncio.get_running_loop()
        wait = _Wait(text, loop.time() + seconds if seconds else 0.0)
        self._waits.append(wait)
        if self._task is None and not self.quiet and sys.stderr.isatty():
            self._task = loop.create_task(self._show_waits())

        def end() -> None:
            if wait in self._waits:
                self._waits.remove(wait)
            if not self._waits and self._task is not None:
                self._task.cancel()
                self._task = None
                self._erase()

        return end

    def done(self) -> None:
        """End what `progress` shows, and remove the line."""
        end, self._end_progress = self._end_progress, None
        if end is not None:
            end()
        self._erase()

    def _erase(self) -> None:
        if self._is_drawn:
            self._is_drawn = False
            click.echo("\r\x1b[K", err=True, nl=False)

    async def _show_waits(self) -> None:
        import asyncio  # noqa: PLC0415 - see above

        from client_app.limits import SHOWN_AFTER_SECONDS, TURN_SECONDS  # noqa: PLC0415 - see above

        loop = asyncio.get_running_loop()
        await asyncio.sleep(SHOWN_AFTER_SECONDS)
        for turn in itertools.cycle("|/-\\"):
            if self._waits and not self._is_asking:
                line = self._waits[-1].line(turn, loop.time())
                click.echo(f"\r\x1b[K{line}", err=True, nl=False)
                self._is_drawn = True
            await asyncio.sleep(TURN_SECONDS)

    async def ask(self, question: str, *, also: str = "") -> bool:
        """Ask a yes-or-no question; `also`, six digits in any spelling, counts as yes.

        The end of input counts as no. Raises `UsageError` without a terminal.
        """
        from peer.pasted import compact  # noqa: PLC0415 - see above
        from peer.terminal.prompts import PLEASE_ANSWER, yes_or_no  # noqa: PLC0415 - see above

        line = await self.read(f"{question} ")
        while line is not None:
            number = compact(line)
            if also and number.isdecimal():
                return number == also  # a different number is a no, not a typing error
            answer = yes_or_no(line)
            if answer is not None:
                return answer
            line = await self.read(PLEASE_ANSWER)
        return False

    async def read(self, question: str) -> str | None:
        """Ask for a line of text; None at the end of input.

        Raises `UsageError` without a terminal.
        """
        import asyncio  # noqa: PLC0415 - see above

        from peer.terminal.prompts import discard_typed_input, read_line  # noqa: PLC0415 - see above
        from peer.terminal.text import on_one_line  # noqa: PLC0415 - see above

        if not self.can_ask:
            raise UsageError(
                "this command needs a terminal to ask a question",
                advice="Run it in a terminal, or give the answer as an option.",
            )
        self.done()
        discard_typed_input()
        click.echo(on_one_line(question), err=True, nl=False)
        self._is_asking = True
        try:
            return await read_line(sys.stdin.fileno())
        except asyncio.CancelledError:
            click.echo(err=True)  # end the line of the withdrawn question
            raise
        finally:
            self._is_asking = False
