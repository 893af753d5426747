"""Deadlines of calls, and what a call is waiting for.

A timeout is the time of a whole call: searching, connecting, a probe, a new session, a user who is
asked. `Deadline` ends the call then, by monotonic time. Inside of it, `waiting_for` says what is
being waited for: `TimedOut` names it, and a command line can show it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from peer.errors import TimedOut, UsageError

OnWait = Callable[[str, float], Callable[[], None]]
"""Called with what is waited for, and for how many seconds at most (0 if that is unknown); returns
a function that is called at the end of the wait."""


class DefaultSeconds(float):
    """The default of a timeout. It does not apply within a deadline that the caller has set."""


class SecondsLeft(float):
    """The seconds that are left of a timeout. Errors name `stated`, the whole timeout."""

    stated: float

    def __new__(cls, seconds: float, *, stated: float) -> Self:
        """Return the seconds that are left of `stated` seconds."""
        left = super().__new__(cls, seconds)
        left.stated = stated
        return left


class Deadline:
    """The time of a call, as an asynchronous context manager. It raises `TimedOut` at its end.

    Args:
        seconds: the time of the call; None for no limit of its own.

    Raises `UsageError` if `seconds` is not a number, or negative.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and not (
            isinstance(seconds, int | float)  # type: ignore[redundant-expr]  # from a script
            and 0 <= seconds < math.inf
        ):
            raise UsageError(
                f"{seconds!r} is not a timeout",
                advice="Give a number of seconds, or None for no limit.",
            )
        import asyncio  # noqa: PLC0415 - slow, and limits of commands without a network are here

        self._outer: Deadline | None = _deadline.get()
        is_void = isinstance(seconds, DefaultSeconds) and self._outer is not None
        self._seconds = None if is_void else seconds
        self._waiting_for = _Wait()
        self._timeout = asyncio.timeout(self._seconds)
        self._token: Token[Deadline | None] | None = None
        self.until: float = math.inf if self._outer is None else self._outer.until

    async def __aenter__(self) -> Self:
        import asyncio  # noqa: PLC0415 - as above

        if self._seconds is not None:
            self.until = min(self.until, asyncio.get_running_loop().time() + self._seconds)
        self._token = _deadline.set(self)
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._token is not None
        _deadline.reset(self._token)
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            wait, seconds = self._waiting_for, self._seconds or 0.0
            stated = seconds.stated if isinstance(seconds, SecondsLeft) else seconds
            doing = f" while {wait.what}{wait.detail}" if wait.what else ""
            raise TimedOut(
                f"timed out after {shown_seconds(stated)}{doing}",
                advice=wait.advice
                or "Check that the device is on and connected, or allow more time.",
            ) from error

    def note(self, wait: "_Wait") -> "_Wait":
        """Store what is waited for; return what was waited for before."""
        before, self._waiting_for = self._waiting_for, wait
        if self._outer is not None:
            self._outer.note(wait)
        return before

    def explain(self, detail: str, advice: str) -> None:
        """Add why the wait had no result, as far as it is known."""
        wait = self._waiting_for
        known = f"{wait.detail}; {detail}" if wait.detail else f": {detail}"
        self._waiting_for = replace(wait, detail=known, advice=advice or wait.advice)
        if self._outer is not None:
            self._outer.explain(detail, advice)


@dataclass(frozen=True, slots=True)
class _Wait:
    what: str = ""
    detail: str = ""
    advice: str = ""


def shown_seconds(seconds: float) -> str:
    """Return a time in words, rounded."""
    return f"{round(seconds, 1) or seconds:.4g} s"


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)
_on_wait: ContextVar[OnWait | None] = ContextVar("on_wait", default=None)


def seconds_left() -> float:
    """Return the seconds until the deadline of the present call; infinite without one."""
    import asyncio  # noqa: PLC0415 - as above

    deadline = _deadline.get()
    if deadline is None or deadline.until == math.inf:
        return math.inf
    return deadline.until - asyncio.get_running_loop().time()


@contextmanager
def waiting_for(what: str, *, seconds: float = 0.0, advice: str = "") -> Iterator[None]:
    """Say what is waited for, as in "connecting to kitchen".

    `seconds` is the longest wait. `advice` is for a user if the call times out meanwhile.
    """
    deadline, on_wait = _deadline.get(), _on_wait.get()
    before = deadline.note(_Wait(what, advice=advice)) if deadline is not None else _Wait()
    end = on_wait(what, seconds) if on_wait is not None else None
    try:
        yield
    finally:
        if end is not None:
            end()
    if deadline is not None:  # after an error, the deadline needs it
        deadline.note(before)


def explain_timeout(detail: str, *, advice: str = "") -> None:
    """Say, at the end of a deadline, why the wait had no result: `detail` follows what was awaited.

    Call it when the wait is cancelled. Several reasons are joined.
    """
    if (deadline := _deadline.get()) is not None:
        deadline.explain(detail, advice)


def report_waits(on_wait: OnWait) -> None:
    """Call a function for each wait of the present task, and of the tasks that it starts."""
    _on_wait.set(on_wait)


__all__: Final = [
    "Deadline",
    "DefaultSeconds",
    "OnWait",
    "explain_timeout",
    "report_waits",
    "seconds_left",
    "waiting_for",
]
