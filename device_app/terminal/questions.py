"""Asks a person at a terminal, in place, while everything else goes on.

`handfast-device run` asks from within the daemon, `handfast-device open` from its own process over
the control socket; both show the same question. An answer given elsewhere, or too late, ends it.

A question that ends while a person may be answering it must not pass the answer on to the next one,
which can be about another client: that one is shown only after a line was typed for it.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TextIO

from peer.identity import Fingerprint
from peer.pairing.sas import grouped
from peer.terminal.layout import fingerprint_lines
from peer.terminal.prompts import YES_OR_NO, discard_typed_input, read_line

Decide = Callable[[str, bool], Awaitable[None]]


def question(ceremony: Mapping[str, Any], device: Fingerprint) -> str:
    """What the device's user has to compare. The name was checked, nothing in it moves a cursor."""
    where = f" at {ceremony['address']}" if "address" in ceremony else ""
    asked = f"A client wants to pair: {ceremony['name']!r}{where}, as {ceremony['role']}"
    if "number" in ceremony:
        return (
            f"\n{asked}\n  this device shows  {grouped(str(ceremony['number']))}\n"
            "Does the client show the same six digits? [yes/no] "
        )
    client = Fingerprint.parse(str(ceremony["fingerprint"]))
    lines = [
        "",
        asked,
        *fingerprint_lines("  its fingerprint    ", client),
        *fingerprint_lines("  this device's      ", device),
        "Compare both with what the client shows. The same, digit by digit? [yes/no] ",
    ]
    return "\n".join(lines)


class PersonAtTerminal:
    """Asks one question at a time and hands the answer to `decide`."""

    def __init__(
        self,
        decide: Decide,
        device: Fingerprint,
        *,
        out: TextIO = sys.stderr,
        descriptor: int = 0,
    ) -> None:
        self._decide = decide
        self._device = device
        self._out = out
        self._descriptor = descriptor
        self._task: asyncio.Task[None] | None = None
        self._is_answered = False
        self._was_unanswered = False  # a question has ended, and a line may still be typed for it

    def pending(self, ceremony: Mapping[str, Any]) -> None:
        """A ceremony waits: ask."""
        self.over("another client wants to pair")
        self._is_answered = False
        self._task = asyncio.create_task(self._ask(ceremony), name="question at the terminal")

    def over(self, why: str) -> None:
        """The question is no longer one; `why` is said if it has no answer from here."""
        task, self._task = self._task, None
        if task is None or task is asyncio.current_task():
            return
        if not self._is_answered:
            self._was_unanswered = True
            if why:  # the cursor still is behind the question
                self._say(f"\n({why})\n")
        task.cancel()

    async def _ask(self, ceremony: Mapping[str, Any]) -> None:
        discard_typed_input(self._descriptor)
        if self._was_unanswered:
            self._say("\nA client wants to pair. Press Enter to see which one. ")
            if await read_line(self._descriptor) is None:
                return
            self._was_unanswered = False
        self._say(question(ceremony, self._device))
        while True:
            line = await read_line(self._descriptor)
            if line is None:  # the terminal is closed: `accept` and `refuse` still work
                return
            answer = YES_OR_NO.get(line.strip().lower())
            if answer is not None:
                self._is_answered = True
                await self._decide(str(ceremony["id"]), answer)
                return
            self._say("Please answer yes or no: ")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal has gone
            self._out.write(text)
            self._out.flush()
