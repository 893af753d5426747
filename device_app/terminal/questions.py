"""Asks a person at a terminal, in place, while everything else goes on.

`handfast-device run` asks from within the daemon, `handfast-device open` from its own process over
the control socket; both show the same question. An answer given elsewhere, or too late, ends it.

A question that ends while a person may be answering it must not pass the answer on to the next one,
which can be about another client: that one is shown only after a line was typed for it.
"""

import asyncio
import contextlib
import os
import sys
import termios
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TextIO

from device_app.terminal.render_pairing import halves
from peer.identity import Fingerprint
from peer.pairing.sas import grouped

Decide = Callable[[str, bool], Awaitable[None]]
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False}
_LINE_MAX = 1024


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
        *halves("  its fingerprint    ", client),
        *halves("  this device's      ", device),
        "Compare both with what the client shows. The same, digit by digit? [yes/no] ",
    ]
    return "\n".join(lines)


class PersonAtTerminal:
    """Asks one question at a time and hands the answer to `decide`."""

    def __init__(self, decide: Decide, device: Fingerprint, *, out: TextIO = sys.stderr) -> None:
        self._decide = decide
        self._device = device
        self._out = out
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
        _forget_typed()
        if self._was_unanswered:
            self._say("\nA client wants to pair. Press Enter to see which one. ")
            if await _line() is None:
                return
            self._was_unanswered = False
        self._say(question(ceremony, self._device))
        while True:
            line = await _line()
            if line is None:  # the terminal is closed: `accept` and `refuse` still work
                return
            answer = _ANSWERS.get(line.strip().lower())
            if answer is not None:
                self._is_answered = True
                await self._decide(str(ceremony["id"]), answer)
                return
            self._say("Please answer yes or no: ")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal has gone
            self._out.write(text)
            self._out.flush()


def _forget_typed(descriptor: int = 0) -> None:
    """What was typed before the question is no answer to it."""
    with contextlib.suppress(termios.error):
        termios.tcflush(descriptor, termios.TCIFLUSH)


async def _line(descriptor: int = 0) -> str | None:
    """The next line typed; None at the end of input. Cancelled, it reads nothing."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[bytes] = loop.create_future()

    def readable() -> None:
        if not typed.done():
            try:
                typed.set_result(os.read(descriptor, _LINE_MAX))
            except OSError:
                typed.set_result(b"")

    loop.add_reader(descriptor, readable)
    try:
        data = await typed
    finally:
        loop.remove_reader(descriptor)
    return data.decode("utf-8", "replace") if data else None
