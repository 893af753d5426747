"""No full garbage collection stalls clients: none while policies are read."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING
from weakref import ref

import pytest

from device_app import daemon
from device_app.access.policies import PolicySet
from device_app.errors import ConfigError
from device_app.limits import BACKGROUND_SWITCH_SECONDS, POLICY_WARNINGS_LOGGED
from device_app.process import collector
from tests.kit.internals import replace_end_of_run
from tests.kit.lamps import policy
from tests.kit.waiting import block_until, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from device_app.console.views import StatusAnswer
    from tests.kit.device import Kit


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """Have the collector run after every few objects, and leave it as it was."""
    thresholds = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    yield
    gc.set_threshold(*thresholds)
    assert gc.isenabled()


def collections() -> list[int]:
    return [generation["collections"] for generation in gc.get_stats()]


async def test_no_collection_begins_by_itself_while_policies_are_read(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await kit.device()
    kit.policy("\n".join(policy(f"role{n}", "Allow Board:Read") for n in range(20)))
    counted: list[tuple[list[int], list[int]]] = []
    read = PolicySet.read

    def counting(*args: object) -> PolicySet:
        before = collections()
        found = read(*args)  # type: ignore[arg-type]
        counted.append((before, collections()))
        return found

    monkeypatch.setattr(PolicySet, "read", counting)
    await device.app.reloader.reload()
    [(before, after)] = counted
    assert (before[0], before[2]) == (after[0], after[2])  # those of the helper are of generation 1
    PolicySet.read(kit.home / "policy.d", {})  # outside of a reload, several begin
    before, after = counted[-1]
    assert after[0] > before[0]


async def test_a_thread_that_reads_policies_gives_way_to_the_event_loop(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = sys.getswitchinterval()
    seen: list[float] = []
    device = await kit.device()
    read = PolicySet.read

    def noting(*args: object) -> PolicySet:
        seen.append(sys.getswitchinterval())
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(PolicySet, "read", noting)
    await device.app.reloader.reload()
    kit.policy("[[policy]]\n")
    with pytest.raises(ConfigError):
        await device.app.reloader.reload()
    assert seen == [pytest.approx(BACKGROUND_SWITCH_SECONDS)] * 2
    assert sys.getswitchinterval() == usual


def test_new_objects_are_collected_beside_a_thread_that_makes_many() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.own = self

    with collector.in_background():
        before = collections()  # the collector may run fully until it is off, and once it is on
        lost = ref(Cycle())
        block_until(lambda: lost() is None)
        assert not gc.isenabled()
        assert collections()[2] == before[2]


async def test_a_reload_that_fails_lets_the_collector_go_on(kit: Kit) -> None:
    device = await kit.device()
    kit.policy("[[policy]]\n")
    with pytest.raises(ConfigError):
        await device.app.reloader.reload()
    assert gc.isenabled()


def test_a_pause_keeps_a_collector_that_was_off() -> None:
    gc.disable()
    try:
        with collector.paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


async def test_a_running_daemon_collects_only_what_is_new(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collections leave out the objects that existed at its start, until it ends."""
    device = await kit.device()
    paths, settings = device.app.paths, device.app.settings
    await device.app.close()
    frozen: list[int] = []

    async def stopped(stop: asyncio.Event, _was_reset: asyncio.Event) -> None:
        frozen.append(gc.get_freeze_count())
        stop.set()

    def ready(_status: StatusAnswer) -> None:
        frozen.append(gc.get_freeze_count())

    replace_end_of_run(monkeypatch, stopped)
    await daemon.run(paths, settings, pair=False, quiet=True, on_ready=ready)
    before, running = frozen
    assert running > before + 1_000  # the test runner may have left out its own objects
    assert gc.get_freeze_count() == 0


async def test_a_new_set_of_policies_is_left_out_of_collections_and_an_old_one_is_freed(
    kit: Kit,
) -> None:
    """The first collection after a reload would stall clients for as long as the set is large."""
    device = await kit.device()
    with collector.settled():
        without = gc.get_freeze_count()
        kit.policy("\n".join(policy(f"role{n}", "Allow Board:Read") for n in range(100)))
        await device.app.reloader.reload()
        size = gc.get_freeze_count() - without
        assert size > 1_000
        for _ in range(5):
            await device.app.reloader.reload()
        await until(lambda: gc.get_freeze_count() < without + 2 * size)


async def test_the_log_has_the_first_warnings_and_how_many_are_left(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    device = await kit.device()
    statements = [f"Allow Nothing{n}:Get" for n in range(POLICY_WARNINGS_LOGGED + 7)]
    kit.policy(policy("late", *statements))
    caplog.clear()
    view = await device.app.reloader.reload()
    assert len(view["warnings"]) == POLICY_WARNINGS_LOGGED + 7
    said = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len([text for text in said if "no resource asks" in text]) == POLICY_WARNINGS_LOGGED
    assert any(text.startswith("7 more warnings; `handfast-device policy check`") for text in said)
