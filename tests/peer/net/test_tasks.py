"""Tasks that end together with their owner."""

import asyncio

import pytest

from peer.net.tasks import cancel_all, run_until_one_ends


async def test_tasks_have_ended_when_they_were_cancelled() -> None:
    steps: list[str] = []

    async def end_slowly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("closed")

    async def fail() -> None:
        raise ZeroDivisionError

    tasks = [asyncio.create_task(end_slowly()), asyncio.create_task(fail())]
    await asyncio.sleep(0)
    cancelled, failed = await cancel_all(tasks)
    assert steps == ["closed"]
    assert isinstance(cancelled, asyncio.CancelledError)
    assert isinstance(failed, ZeroDivisionError)
    assert await cancel_all([]) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_the_first_end_ends_the_others(fails: bool) -> None:
    ended = asyncio.Event()

    async def last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def first() -> None:
        await asyncio.sleep(0)
        if fails:
            raise ZeroDivisionError

    if fails:
        with pytest.raises(ZeroDivisionError):
            await run_until_one_ends(last(), first())
    else:
        await run_until_one_ends(last(), first())
    assert ended.is_set()
