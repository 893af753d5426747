"""`handfast-device open`: open the window, count down, ask in place, and say how it ended."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from device_app.console.control_client import call
from device_app.errors import AppError, Exit
from device_app.terminal import render
from device_app.terminal.questions import PersonAtTerminal
from device_app.terminal.render_pairing import (
    closed_lines,
    code_lines,
    ended_lines,
    pending_lines,
    window_lines,
)
from peer.identity import Fingerprint
from peer.pairing.ceremony import State
from peer.pairing.window_timer import CloseReason
from peer.terminal.durations import format_duration
from peer.terminal.prompts import can_ask

_TICK_SECONDS = 1.0


class Waiting:
    """One `open` command while it waits."""

    def __init__(self, socket: Path, *, as_json: bool, quiet: bool) -> None:
        self._socket = socket
        self._as_json = as_json
        self._quiet = quiet
        self._person: PersonAtTerminal | None = None
        self._closes_at = 0.0
        self._failures = 0
        self._reason = ""  # why the last try failed
        self._asking = False
        self._counter: asyncio.Task[None] | None = None

    async def open(self, args: Mapping[str, Any]) -> Exit:
        """Open and wait. The exit code: paired, refused, too many failures, or nobody came."""
        try:
            result = await call(self._socket, "open", {**args, "wait": True}, on_event=self._heard)
        finally:
            if self._counter is not None:
                self._counter.cancel()
                self._clear()
                self._counter = None
            if self._person is not None:
                self._person.over("")
        return self._conclude(result)

    def _heard(self, event: Mapping[str, Any]) -> None:
        if self._as_json:
            render.data(event)
        if "window" in event:
            self._closes_at = self._now() + event["window"]["seconds_left"]
            self._failures = event["window"]["failures"]
        match event["event"]:
            case "window":
                self._opened(event["window"])
            case "code":
                self._tell(code_lines(event["window"]))
            case "pending":
                self._pending(event["ceremony"])
            case "decided":
                self._over("accepted elsewhere")
                self._tell(["Accepted; the client's user is next."])
            case "ended":
                self._ended(event["ceremony"])
            case _:
                pass  # "closed": the result says it

    def _opened(self, window: Mapping[str, Any]) -> None:
        device = Fingerprint.parse(window["fingerprint"])
        if can_ask() and not self._as_json:
            self._person = PersonAtTerminal(self._decide, device)
        self._tell([*window_lines(window), *render.fingerprint_lines(window)])
        if sys.stderr.isatty() and not self._quiet and not self._as_json:
            self._counter = asyncio.create_task(self._count_down(), name="countdown")

    def _pending(self, ceremony: Mapping[str, Any]) -> None:
        self._clear()
        self._asking = True
        if self._person is not None:
            self._person.pending(ceremony)
        elif not self._as_json:
            for line in pending_lines([ceremony]):  # also with -q: somebody has to answer
                render.talk(line)

    def _ended(self, ceremony: Mapping[str, Any]) -> None:
        if ceremony["state"] == State.REGISTERED:
            self._over("")
            return
        self._failures += 1
        self._reason = ceremony.get("reason", "")
        self._over("this question is void")
        self._tell(ended_lines(ceremony, failures=self._failures))

    def _tell(self, lines: Sequence[str]) -> None:
        """Talk, in the place of the countdown."""
        if self._quiet or self._as_json:
            return
        self._clear()
        for line in lines:
            render.talk(line)

    async def _count_down(self) -> None:
        while (left := self._closes_at - self._now()) > 0:
            if not self._asking:
                render.talk(f"\r\x1b[K  {format_duration(left)} left", end="")
            await asyncio.sleep(_TICK_SECONDS)

    async def _decide(self, ceremony_id: str, accept: bool) -> None:
        try:
            await call(self._socket, "accept" if accept else "refuse", {"id": ceremony_id})
        except AppError as error:
            render.failure(str(error), error.advice)

    def _over(self, why: str) -> None:
        self._asking = False
        if self._person is not None:
            self._person.over(why)

    def _clear(self) -> None:
        """Wipe the countdown away. There is none while a question stands."""
        if self._counter is not None and not self._asking:
            render.talk("\r\x1b[K", end="")

    def _conclude(self, result: Mapping[str, Any]) -> Exit:
        paired, closed = result["paired"], result["closed"]
        self._asking = False
        self._clear()
        if self._as_json:
            render.data(result)
        elif paired:
            render.lines([f"paired {paired['name']} as {paired['role']}, by {paired['method']}"])
        else:
            for line in closed_lines(closed):
                render.talk(line)
        if paired:
            return Exit.DONE
        if self._reason in {"refused", "overlap"}:
            return Exit.REFUSED
        return Exit.WRONG_CODE if closed == CloseReason.FAILURES else Exit.TIMED_OUT

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
