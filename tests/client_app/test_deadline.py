"""Deadlines of calls, and what a call is waiting for."""

import asyncio
import math

import pytest

from client_app.deadline import (
    Deadline,
    DefaultSeconds,
    explain_timeout,
    report_waits,
    seconds_left,
    waiting_for,
)
from peer.errors import TimedOut, UsageError


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_deadline_ends_what_takes_too_long_and_says_what_that_was() -> None:
    async def work() -> None:
        with waiting_for("searching"):
            pass
        with waiting_for("connecting to kitchen"):
            await forever()

    with pytest.raises(TimedOut, match=r"^timed out after 0.01 s while connecting to kitchen$"):
        async with Deadline(0.01):
            await work()


async def test_the_innermost_wait_is_named() -> None:
    async def work() -> None:
        with waiting_for("pairing"):
            with waiting_for("connecting"):
                pass
            with waiting_for("asking for the code"):
                await forever()

    with pytest.raises(TimedOut, match=r"while asking for the code$"):
        async with Deadline(0.01):
            await work()


async def test_a_wait_in_a_task_of_the_call_is_named() -> None:
    async def work() -> None:
        with waiting_for("searching"):
            await forever()

    with pytest.raises(TimedOut, match=r"while searching$"):
        async with Deadline(0.01):
            await asyncio.gather(work())


async def test_all_reasons_of_a_wait_without_a_result_are_reported() -> None:
    async def work() -> None:
        with waiting_for("searching", advice="Search on."):
            try:
                await forever()
            finally:
                explain_timeout("no host")
                explain_timeout("no broker", advice="Set one up.")

    with pytest.raises(TimedOut, match=r"while searching: no host; no broker$") as caught:
        async with Deadline(0.01):
            await work()
    assert caught.value.advice == "Set one up."


async def test_the_earliest_of_nested_deadlines_applies_and_its_owner_reports_it() -> None:
    async with Deadline(60):
        with pytest.raises(TimedOut, match=r"after 0.01 s"):
            async with Deadline(0.01):
                await forever()
        assert 50 < seconds_left() <= 60
    with pytest.raises(TimedOut, match=r"after 0.01 s"):
        async with Deadline(0.01), Deadline(60):
            await forever()
    async with Deadline(1), Deadline(60):
        assert seconds_left() <= 1


async def test_a_default_does_not_apply_within_a_deadline_of_the_caller() -> None:
    async with Deadline(60), Deadline(DefaultSeconds(0.0)):
        assert seconds_left() > 50
        await asyncio.sleep(0)
    async with Deadline(None), Deadline(DefaultSeconds(0.0)):
        assert seconds_left() == math.inf
        await asyncio.sleep(0)
    with pytest.raises(TimedOut):
        async with Deadline(DefaultSeconds(0.0)):
            await forever()


async def test_an_error_of_the_call_passes_a_deadline_unchanged() -> None:
    with pytest.raises(TimeoutError):
        async with Deadline(60):
            raise TimeoutError
    assert seconds_left() == math.inf


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "2", []])
def test_what_is_no_timeout_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match=r"is not a timeout"):
        Deadline(seconds)


async def test_waits_are_reported_with_their_ends() -> None:
    seen: list[str] = []

    def begin(what: str, seconds: float) -> "object":
        seen.append(f"{what} {seconds:g}")
        return lambda: seen.append(f"end {what}")

    async def verb() -> None:
        report_waits(begin)  # type: ignore[arg-type]
        with waiting_for("one"):
            await asyncio.gather(part())

    async def part() -> None:
        with waiting_for("two", seconds=5):
            await asyncio.sleep(0)

    await asyncio.create_task(verb())
    assert seen == ["one 0", "two 5", "end two", "end one"]
