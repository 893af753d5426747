"""The time of the device: a change of the system clock extends no access."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_app.access.clock import PLAUSIBLE_FROM, Clock, SystemClocks, TimeKeeper
from device_app.access.event_kind import EventKind
from device_app.console.status import health_of
from device_app.errors import AppError
from device_app.terminal.render_status import status_lines
from iam.errors import StoreWriteFailed
from iam.store import Store
from tests.kit.internals import database_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Device, Kit

YEAR = 365 * 86_400.0
START = PLAUSIBLE_FROM + YEAR


@dataclass
class Board:
    """The two clocks of a board: the wall clock, which can be set, and the monotonic one."""

    wall: float = START
    running: float = 100.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.running += seconds

    def clock(self, floor: float = 0.0) -> Clock:
        return Clock(self.clocks(), floor=floor)

    def clocks(self) -> SystemClocks:
        return SystemClocks(lambda: self.wall, lambda: self.running, "b")


jumps = st.floats(-3 * YEAR, 3 * YEAR, allow_nan=False)
steps = st.lists(st.tuples(st.floats(0, YEAR, allow_nan=False), jumps, st.booleans()), max_size=30)


@given(steps)
def test_the_time_never_decreases_and_follows_the_monotonic_clock(
    moves: list[tuple[float, float, bool]],
) -> None:
    board = Board()
    clock = board.clock()
    last = clock.now()
    for passed, jump, reboot in moves:
        board.passes(passed)
        board.wall += jump
        if reboot:  # the floor is the time that was stored last
            board.running = 0.0
            clock = board.clock(last)
            passed = 0.0  # noqa: PLW2901  # the time before the reboot was not stored
        now = clock.now()
        assert now >= last + passed - 1e-3
        assert now >= board.wall
        last = now


def test_the_time_is_known_if_the_clock_is_set_and_not_behind_the_floor() -> None:
    board = Board()
    clock = board.clock()
    known = [clock.known]
    for back in (119, 2):
        board.wall -= back
        known.append(clock.known)
    assert known == [True, True, False]
    board.wall = 0.0
    assert not board.clock().known
    board.wall = START
    assert not board.clock(START + 121).known
    assert board.clock(START + 119).known


async def start_device(kit: Kit, board: Board) -> Device:
    return await kit.device(clocks=board.clocks())


async def test_setting_the_clock_back_extends_no_access(kit: Kit) -> None:
    board = Board()
    device = await start_device(kit, board)
    kit.known(device, "olga", "owner")
    guest = kit.known(device, "gustav", "guest", not_after=START + 3600)
    assert (await guest.ask("GET", "/hello")).code == "2.05"
    board.wall -= YEAR
    board.passes(3599)
    assert (await guest.ask("GET", "/hello")).code == "2.05"
    board.passes(2)
    refused = await guest.ask("GET", "/hello")
    assert (refused.code, refused.reason) == ("4.03", "not-paired")
    assert "ended" in refused.text
    # Events record the wall clock as it is; their order comes from the monotonic clock.
    assert device.events("denied")[-1].wall == board.wall


@pytest.mark.parametrize("wall", [0.0, START - YEAR, START - 200])
async def test_the_time_does_not_go_back_after_a_reboot(kit: Kit, wall: float) -> None:
    board = Board()
    device = await start_device(kit, board)
    guest = kit.known(device, "gustav", "guest", not_after=START + 3600)
    board.passes(1800)
    await device.app.close()
    board.wall, board.running = wall, 0.0
    device = await start_device(kit, board)
    again = kit.caller(device, guest.identity)
    assert device.app.access.clock.now() == pytest.approx(START + 1800)
    assert not device.app.access.clock.known
    assert (await again.ask("GET", "/hello")).code == "2.05"
    board.passes(1801)
    assert (await again.ask("GET", "/hello")).reason == "not-paired"


def floor_after_a_power_cut(home: Path, scratch: Path) -> float:
    """The time floor in a copy of the files of a running device."""
    shutil.copytree(home, scratch, ignore=shutil.ignore_patterns("*.sock", "*.lock"))
    store = Store.open(scratch / "device.db")
    try:
        return store.time_floor
    finally:
        store.close()


async def test_the_time_floor_is_stored_with_commits_and_every_hour(
    kit: Kit, tmp_path: Path
) -> None:
    board = Board()
    device = await start_device(kit, board)
    control = device.app.access
    board.passes(10)
    control.audit.append(control.audit.event(EventKind.WINDOW_OPENED))
    assert floor_after_a_power_cut(kit.home, tmp_path / "a") == START + 10
    for _ in range(7):
        board.passes(600)
        control.writer.keep()
    stored = floor_after_a_power_cut(kit.home, tmp_path / "b")
    assert control.clock.now() - stored <= 3600
    assert stored > START + 10


async def test_the_time_keeper_stores_the_floor_periodically_and_when_closed() -> None:
    asked: list[int] = []
    enough = asyncio.Event()

    def keep() -> None:
        asked.append(len(asked))
        if len(asked) == 3:
            enough.set()

    keeper = TimeKeeper(keep, seconds=0.01)
    await asyncio.wait_for(enough.wait(), 60)
    before = len(asked)
    keeper.close()
    assert len(asked) == before + 1


async def test_the_console_can_reset_a_time_that_is_ahead(kit: Kit) -> None:
    board = Board()
    device = await start_device(kit, board)
    control = device.app.access
    guest = kit.known(device, "gustav", "guest", not_after=START + 3600)
    board.wall += 5 * YEAR
    assert (await guest.ask("GET", "/hello")).reason == "not-paired"
    board.wall -= 5 * YEAR
    assert (await guest.ask("GET", "/hello")).reason == "not-paired"
    clock = device.app.status()["clock"]
    assert (clock["now"], clock["known"]) == (int(START + 5 * YEAR), False)
    control.registry.trust_system_clock()
    assert control.clock.known
    assert control.clock.now() == START
    assert (await guest.ask("GET", "/hello")).code == "2.05"
    [event] = device.events("clock-trusted")
    assert (event.actor, event.detail) == ("@console", f"{-5 * YEAR:.0f} s")
    await device.app.close()
    device = await start_device(kit, board)
    assert device.app.access.clock.now() == START


async def test_a_time_that_is_years_ahead_is_reported_until_it_is_reset(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board()
    device = await start_device(kit, board)
    control = device.app.access

    def reported() -> int:
        control.writer.keep()  # the device calls it every ten minutes
        problems = health_of(device.app.status())[0]["problems"]
        lines = [line for line in status_lines(device.app.status()) if "problem" in line]
        assert len(problems) == len(lines)
        assert all("--trust-system" in one for one in problems)
        return len(problems)

    def logged() -> list[str]:
        return [one.getMessage() for one in caplog.records if "clock --trust" in one.getMessage()]

    assert reported() == 0
    board.passes(2 * YEAR)  # no jump, since both clocks advance
    assert reported() == 0
    board.wall += 300 * 86_400  # a jump as after a power-off or a clock synchronization
    assert reported() == 0
    assert not logged()
    board.wall += 2 * YEAR
    assert reported() == 1
    [line] = logged()
    assert "went ahead from 2029-10-27T00:00:00Z to 2031-10-27T00:00:00Z at once" in line
    board.wall -= 2 * YEAR  # the clock is corrected, and the device's time stays ahead
    assert reported() == 1
    assert "ahead of the system's" in device.app.status()["clock"]["trouble"]
    assert len(logged()) == 1
    control.registry.trust_system_clock()
    assert reported() == 0
    board.wall -= YEAR
    assert reported() == 1
    assert len(logged()) == 2
    board.wall = 0.0  # a clock that is not set is no problem by itself
    assert reported() == 0


async def test_setting_an_unset_clock_is_not_reported_as_a_jump(kit: Kit) -> None:
    board = Board(wall=5.0)
    device = await start_device(kit, board)
    assert health_of(device.app.status())[0]["healthy"]
    board.wall = START
    assert device.app.access.clock.now() == START
    assert health_of(device.app.status())[0]["healthy"]


async def test_iam_me_returns_the_time_of_the_device(kit: Kit) -> None:
    board = Board()
    device = await start_device(kit, board)
    kit.known(device, "olga", "owner")
    guest = kit.known(device, "gustav", "guest")
    board.wall -= YEAR
    board.passes(10)
    assert (await guest.ask("GET", "/iam/me")).body["now"] == START + 10


async def test_a_system_clock_that_is_not_set_cannot_be_trusted(kit: Kit) -> None:
    board = Board()
    device = await start_device(kit, board)
    board.wall = 5.0
    with pytest.raises(AppError, match="not set"):
        device.app.access.registry.trust_system_clock()
    assert device.app.access.clock.now() == START


async def test_a_reset_of_the_time_that_cannot_be_stored_changes_nothing(kit: Kit) -> None:
    board = Board()
    device = await start_device(kit, board)
    board.wall -= YEAR
    store = device.app.access.store
    database_of(store).execute("PRAGMA query_only = ON").fetchall()
    with pytest.raises(StoreWriteFailed):
        device.app.access.registry.trust_system_clock()
    assert device.app.access.clock.now() == START
    database_of(store).execute("PRAGMA query_only = OFF").fetchall()
    assert not device.events("clock-trusted")


WORKING_HOURS = f"""
[[policy]]
id = "until-then"
[[policy.statement]]
effect = "Allow"
actions = ["Hello:Get"]
conditions = [{{ DateLessThan = {{ "Clock:Now" = ["{int(START + 100)}"] }} }}]
[[policy]]
id = "not-then"
[[policy.statement]]
effect = "Allow"
actions = ["Board:Read"]
[[policy.statement]]
effect = "Deny"
actions = ["Board:Read"]
conditions = [{{ DateGreaterThan = {{ "Clock:Now" = ["{int(START + 100)}"] }} }}]
[[role]]
id = "fair"
rank = 12
policies = ["until-then", "not-then"]
"""


async def test_a_condition_on_an_unknown_time_grants_no_right(kit: Kit) -> None:
    kit.policy(WORKING_HOURS)
    board = Board()
    device = await start_device(kit, board)
    caller = kit.known(device, "fred", "fair")
    for path in ("/hello", "/board"):
        assert (await caller.ask("GET", path)).code == "2.05"
    board.wall = 5.0  # before both dates, but not trusted
    for path in ("/hello", "/board"):
        refused = await caller.ask("GET", path)
        assert refused.reason == "denied", path
    board.wall = START + 99
    for path in ("/hello", "/board"):
        assert (await caller.ask("GET", path)).code == "2.05"
    board.wall = START + 101
    for path in ("/hello", "/board"):
        assert (await caller.ask("GET", path)).reason == "denied"
