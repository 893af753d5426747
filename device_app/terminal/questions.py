"""The question at a terminal whether to accept a client, while everything else continues.

`handfast-device run` asks from within the daemon, `handfast-device open` from its own process over
the control socket; both show the same question. An answer that was given elsewhere, or that comes
too late, ends it.

A question can end while a person is typing its answer. So that this answer is not taken for one to
the next question, which may be about another client, that one is shown only after another line was
typed.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TextIO

from device_app.console.views import CeremonyView
from peer.identity import Fingerprint
from peer.pairing.sas import grouped
from peer.terminal import prompts
from peer.terminal.layout import fingerprint_lines

Decide = Callable[[str, bool], Awaitable[None]]
"""Accept or refuse the ceremony with this ID."""


def question(ceremony: CeremonyView, device: Fingerprint) -> str:
    """The question about a client, with everything to compare; its name has been checked."""
    address = f" at {ceremony['address']}" if "address" in ceremony else ""
    client = f"A client wants to pair: {ceremony['name']!r}{address}, as {ceremony['role']}"
    if "number" in ceremony:
        return (
            f"\n{client}\n  this device shows  {grouped(ceremony['number'])}\n"
            "Does the client show the same six digits? [yes/no] "
        )
    lines = [
        "",
        client,
        *fingerprint_lines("  device's fingerprint  ", device),
        *fingerprint_lines("  client's fingerprint  ", Fingerprint.parse(ceremony["fingerprint"])),
        "Does the client show the same two fingerprints, every digit? [yes/no] ",
    ]
    return "\n".join(lines)


class TerminalQuestions:
    """Asks one question at a time, and passes the answer to `decide`."""

    def __init__(
        self,
        decide: Decide,
        device: Fingerprint,
        *,
        out: TextIO = sys.stderr,
        descriptor: int = 0,
    ) -> None:
        """Ask nothing yet.

        Args:
            decide: gets the ceremony's ID, and whether it is accepted.
            device: the fingerprint of this device.
            out: the terminal.
            descriptor: the file from which answers are read.
        """
        self._decide = decide
        self._device = device
        self._out = out
        self._descriptor = descriptor
        self._task: asyncio.Task[None] | None = None
        self._is_answered = False
        self._prompt = ""  # the line on which the cursor waits for an answer
        self._may_be_typing = False  # a question ended before it was answered

    def ask(self, ceremony: CeremonyView) -> None:
        """Ask about a client that waits; this ends the question before."""
        self.end("another client wants to pair")
        self._is_answered, self._prompt = False, ""
        self._task = asyncio.create_task(self._ask(ceremony), name="question at the terminal")

    def end(self, reason: str) -> None:
        """End the question. The reason is shown if there was no answer at this terminal."""
        task, self._task = self._task, None
        if task is None or task is asyncio.current_task():
            return
        if not self._is_answered:
            self._may_be_typing = True
            if reason:  # the cursor is still behind the question
                self._write(f"\n({reason})\n")
        task.cancel()

    @contextlib.contextmanager
    def interrupted(self) -> Iterator[None]:
        """While other lines are printed: begin them on a new line, then repeat an open question."""
        prompt = "" if self._task is None or self._is_answered else self._prompt
        if prompt:
            self._write("\n")
        yield
        if prompt:
            self._write(prompt)

    async def _ask(self, ceremony: CeremonyView) -> None:
        prompts.discard_typed_input(self._descriptor)
        if self._may_be_typing:
            self._write("\n")
            self._write_prompt("A client wants to pair. Press Enter to see which one. ")
            if await prompts.read_line(self._descriptor) is None:
                return
            self._may_be_typing = False
        *shown, prompt = question(ceremony, self._device).splitlines(keepends=True)
        self._write("".join(shown))
        self._write_prompt(prompt)
        while True:
            line = await prompts.read_line(self._descriptor)
            if line is None:  # the terminal was closed: `accept` and `refuse` still work
                return
            answer = prompts.yes_or_no(line)
            if answer is not None:
                self._is_answered = True
                await self._decide(ceremony["id"], answer)
                return
            self._write_prompt(prompts.PLEASE_ANSWER)

    def _write_prompt(self, text: str) -> None:
        self._prompt = text
        self._write(text)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            self._out.write(text)
            self._out.flush()
