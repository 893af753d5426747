"""`handfast-device open`: open the window, count down, ask in place, and say how it ended."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_app import render
from device_app.confirm.terminal import PersonAtTerminal
from device_app.control import call
from device_app.durations import spoken
from device_app.errors import AppError, Exit
from peer.identity import Fingerprint

_TICK_SECONDS = 1.0


class Waiting:
    """One `open` command while it waits."""

    def __init__(self, socket: Path, *, as_json: bool, quiet: bool) -> None:
        self._socket = socket
        self._as_json = as_json
        self._quiet = quiet
        self._person: PersonAtTerminal | None = None
        self._closes_at = 0.0
        self._asking = False
        self._counter: asyncio.Task[None] | None = None

    async def open(self, args: Mapping[str, Any]) -> Exit:
        """Open and wait. The exit code: paired, refused, or nobody came in time."""
        try:
            result = await call(self._socket, "open", {**args, "wait": True}, on_event=self._heard)
        finally:
            if self._counter is not None:
                self._counter.cancel()
            if self._person is not None:
                self._person.over("")
        return self._conclude(result)

    def _heard(self, event: Mapping[str, Any]) -> None:
        if self._as_json:
            render.data(event)
        match event["event"]:
            case "window":
                self._opened(event["window"])
            case "opened" if "window" in event:
                self._closes_at = self._now() + event["window"]["seconds_left"]
            case "code":
                self._tell_code(event["window"])
            case "pending":
                self._asking = True
                if self._person is not None:
                    self._person.pending(event["ceremony"])
                elif not self._as_json:
                    self._clear()
                    for line in render.pending_lines([event["ceremony"]]):
                        render.talk(line)
            case "decided":
                self._over("accepted; waiting for the client")
            case "ended":
                self._over(f"this pairing is over: {event['ceremony']['state'].lower()}")
            case _:
                pass  # "closed": the result says it

    def _opened(self, window: Mapping[str, Any]) -> None:
        self._closes_at = self._now() + window["seconds_left"]
        device = Fingerprint.parse(window["fingerprint"])
        if sys.stdin.isatty() and sys.stderr.isatty() and not self._as_json:
            self._person = PersonAtTerminal(self._decide, device)
        if self._quiet or self._as_json:
            return
        render.talk(
            f"The pairing window is open for {spoken(window['seconds_left'])}"
            f" (port {window['port']}, role {window['role']})."
        )
        for line in render.fingerprint_lines(window):
            render.talk(f"  {line}")
        self._tell_code(window)
        render.talk("On the client: handfast pair")
        if sys.stderr.isatty():
            self._counter = asyncio.create_task(self._count_down(), name="countdown")

    def _tell_code(self, window: Mapping[str, Any]) -> None:
        """The code to type at the client; another one for each try."""
        if self._quiet or self._as_json:
            return
        self._clear()
        for line in render.code_lines(window):
            render.talk(f"  {line}")

    async def _count_down(self) -> None:
        while (left := self._closes_at - self._now()) > 0:
            if not self._asking:
                render.talk(f"\r\x1b[K  {spoken(left)} left", end="")
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
        if sys.stderr.isatty():
            render.talk("\r\x1b[K", end="")

    def _conclude(self, result: Mapping[str, Any]) -> Exit:
        self._clear()
        paired = result["paired"]
        if self._as_json:
            render.data(result)
        elif paired:
            render.lines([f"paired {paired['name']} as {paired['role']}"])
        else:
            render.talk(f"The window has closed ({result['closed']}); nobody was paired.")
        if paired:
            return Exit.DONE
        return Exit.REFUSED if result["refused"] else Exit.TIMED_OUT

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
