"""`handfast-device open`: show the window, count down, ask about clients, report the end."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from device_app.console.console import Console
from device_app.console.control_client import ControlClient
from device_app.console.views import CeremonyView, OpenAnswer, WindowEvent, WindowView
from device_app.terminal import output
from device_app.terminal.questions import TerminalQuestions
from device_app.terminal.render_pairing import (
    closed_lines,
    code_lines,
    failed_lines,
    pending_lines,
    window_lines,
)
from device_app.terminal.render_status import id_and_fingerprint_lines
from peer.identity import Fingerprint
from peer.pairing.ceremony import State
from peer.pairing.window_timer import CloseReason
from peer.terminal.durations import format_duration
from peer.terminal.exit_codes import ExitCode
from peer.terminal.prompts import can_ask

_TICK_SECONDS: Final = 1.0
_CLEAR_LINE: Final = "\r\x1b[K"


class WindowWatch:
    """One `open` command, while it waits."""

    def __init__(self, client: ControlClient, *, as_json: bool, quiet: bool) -> None:
        self._client = client
        self._as_json = as_json
        self._quiet = quiet
        self._questions: TerminalQuestions | None = None
        self._closes_at = 0.0
        self._failures = 0
        self._last_reason = ""  # why the last attempt failed
        self._is_asking = False
        self._countdown: asyncio.Task[None] | None = None

    async def open(
        self, *, seconds: float | None, role: str | None, methods: tuple[str, ...]
    ) -> ExitCode:
        """Open the window, and wait until it closes. Return the exit code of the command."""
        try:
            answer = await self._client.follow(
                Console.open, self._on_event, seconds=seconds, role=role, methods=methods, wait=True
            )
        finally:
            if self._countdown is not None:
                self._countdown.cancel()
                self._clear_countdown()
                self._countdown = None
            if self._questions is not None:
                self._questions.end("")
        return self._conclude(answer)

    def _on_event(self, event: WindowEvent) -> None:
        if self._as_json:
            output.json_line(event)
        if "window" in event:
            self._closes_at = self._now() + event["window"]["seconds_left"]
            self._failures = event["window"]["failures"]
        match event["event"]:
            case "window":
                self._show_window(event["window"])
            case "code":
                self._show(code_lines(event["window"]))
            case "pending":
                self._ask(event["ceremony"])
            case "decided":
                self._end_question("accepted elsewhere")
                self._show(["Accepted. Waiting for the client's user."])
            case "ended":
                self._show_end(event["ceremony"])
            case _:
                pass  # "closed" is in the answer, too

    def _show_window(self, window: WindowView) -> None:
        if can_ask() and not self._as_json:
            device = Fingerprint.parse(window["fingerprint"])
            self._questions = TerminalQuestions(self._decide, device)
        self._show([*window_lines(window), *id_and_fingerprint_lines(window["fingerprint"])])
        if sys.stderr.isatty() and not self._quiet and not self._as_json:
            self._countdown = asyncio.create_task(self._count_down(), name="countdown")

    def _ask(self, ceremony: CeremonyView) -> None:
        self._clear_countdown()
        self._is_asking = True
        if self._questions is not None:
            self._questions.ask(ceremony)
        elif not self._as_json:
            for line in pending_lines([ceremony]):  # also with --quiet: it needs an answer
                output.message(line)

    def _show_end(self, ceremony: CeremonyView) -> None:
        if ceremony["state"] == State.REGISTERED:
            self._end_question("")
            return
        self._failures += 1
        self._last_reason = ceremony.get("reason", "")
        self._end_question("this client is no longer waiting")
        self._show(failed_lines(ceremony, failures=self._failures))

    def _show(self, lines: Sequence[str]) -> None:
        """Print messages, in place of the countdown."""
        if self._quiet or self._as_json:
            return
        self._clear_countdown()
        for line in lines:
            output.message(line)

    async def _count_down(self) -> None:
        while (left := self._closes_at - self._now()) > 0:
            if not self._is_asking:
                output.message(f"{_CLEAR_LINE}  {format_duration(left)} left", end="")
            await asyncio.sleep(_TICK_SECONDS)

    async def _decide(self, ceremony_id: str, accept: bool) -> None:
        failure, advice = await self._client.decide(ceremony_id, accept=accept)
        if failure:
            output.error(failure, advice)

    def _end_question(self, reason: str) -> None:
        self._is_asking = False
        if self._questions is not None:
            self._questions.end(reason)

    def _clear_countdown(self) -> None:
        if self._countdown is not None and not self._is_asking:
            output.message(_CLEAR_LINE, end="")

    def _conclude(self, answer: OpenAnswer) -> ExitCode:
        paired, closed = answer["paired"], answer["closed"]
        self._is_asking = False
        self._clear_countdown()
        if self._as_json:
            output.json_line(answer)
        elif paired is not None:
            output.lines(
                [f"paired {paired['name']} as {paired['role']}, method {paired['method']}"]
            )
        else:
            for line in closed_lines(closed):
                output.message(line)
            if closed == CloseReason.REPLACED:
                output.message("It is open now. To follow it: handfast-device open")
        if paired is not None:
            return ExitCode.DONE
        if self._last_reason in {"refused", "overlap"}:
            return ExitCode.REFUSED
        return ExitCode.WRONG_CODE if closed == CloseReason.FAILURES else ExitCode.TIMED_OUT

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
