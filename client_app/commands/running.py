"""Runs the verbs that use a network: their event loop, their deadline, signals and the log."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine

from client_app.commands.invocation import Invocation
from client_app.deadline import Deadline, report_waits
from client_app.terminal.screen import Screen
from peer.terminal.log_format import EscapingFormatter

Show = Callable[[Invocation, object], int]
"""Prints a value and returns the exit code."""


def run(
    invocation: Invocation,
    value: Coroutine[object, object, object] | AsyncIterator[object],
    show: Show,
) -> int:
    """Run what a verb returns, and show its value, or each of its values. Return the exit code."""
    _log_to_stderr(invocation)
    if isinstance(value, Coroutine):
        return _run(_show_later(invocation, value, show), invocation.screen)
    return _run(_show_each(invocation, value, show), invocation.screen)


def _run(work: Coroutine[object, object, int], screen: Screen) -> int:
    """Run a verb. SIGTERM and SIGHUP end it as Ctrl-C does: sessions are closed first.

    Returns the exit code; 128 and the number of the signal if one ended it, as shells do.
    """
    received: list[int] = []

    async def main() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) ignores SIGHUP
                loop.add_signal_handler(number, stop, number)
        report_waits(screen.begin_wait)
        return await work

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0]


async def _show_later(
    invocation: Invocation, work: Coroutine[object, object, object], show: Show
) -> int:
    try:
        if (seconds := invocation.seconds_left()) is None:
            value = await work
        else:
            async with Deadline(seconds):
                value = await work
    finally:
        invocation.screen.done()
    return show(invocation, value)


async def _show_each(invocation: Invocation, values: AsyncIterator[object], show: Show) -> int:
    first_failure = 0
    try:
        async for value in values:
            invocation.screen.done()
            first_failure = first_failure or show(invocation, value)
    finally:
        invocation.screen.done()
        close = getattr(values, "aclose", None)
        if close is not None:
            await close()
    return first_failure


def _log_to_stderr(invocation: Invocation) -> None:
    level = logging.ERROR if invocation.quiet else logging.WARNING
    level = {0: level, 1: logging.INFO}.get(invocation.verbose, logging.DEBUG)
    handler = logging.StreamHandler()
    handler.setFormatter(EscapingFormatter("%(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
