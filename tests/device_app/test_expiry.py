"""Sessions end when access ends, and a change looks only at the users that it touches."""

from __future__ import annotations

import gc
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from device_app.access.clock import Clock, SystemClocks
from device_app.access.expiry import Expiry
from device_app.limits import EXPIRY_TURNS_SPARE
from iam.model import Key, State, User
from iam.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

START = 1_800_000_000.0


def user(number: int, start: float | None = None, end: float | None = None) -> User:
    return User(f"u{number}", "guest", (Key(f"{number:064x}"),), not_before=start, not_after=end)


def fingerprints(*numbers: int) -> frozenset[str]:
    return frozenset(f"{number:064x}" for number in numbers)


class Watched:
    """An Expiry on a store, with a clock that a test sets."""

    def __init__(self, store: Store, *users: User) -> None:
        self.store = store
        self.wall = START
        self.clock = Clock(SystemClocks(lambda: self.wall, lambda: 0.0, "b"))
        self.ended: list[frozenset[str]] = []
        self.begun: list[frozenset[str]] = []
        store.commit(State.of(users))
        self.expiry = Expiry(store, self.clock, self.ended.append, on_begin=self.begun.append)

    def at(self, seconds: float) -> list[frozenset[str]]:
        """Check at this time after the start; return what ended since the last call."""
        self.wall = START + seconds
        self.expiry.check()
        return self.taken()

    def taken(self) -> list[frozenset[str]]:
        found, self.ended[:] = [*self.ended], []
        return found

    def change(self, who: str, **fields: object) -> list[frozenset[str]]:
        before = self.store.state.user(who)
        self.store.commit(self.store.state.replaced(before, replace(before, **fields)))  # type: ignore[arg-type]
        return self.taken()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "device.db")) as store:
        yield store


async def test_sessions_end_when_access_ends_and_not_before(store: Store) -> None:
    watched = Watched(store, user(1, end=START + 10), user(2, START + 5, START + 20), user(3))
    found = {at: watched.at(at) for at in (0, 5, 9.9, 10, 10.1, 20, 30)}
    assert {at: ended for at, ended in found.items() if ended} == {
        10: [fingerprints(1)],
        20: [fingerprints(2)],
    }


async def test_a_check_that_comes_late_finds_all_that_ended(store: Store) -> None:
    watched = Watched(store, *(user(n, end=START + n) for n in range(1, 6)))
    assert watched.at(4) == [fingerprints(1, 2, 3, 4)]


async def test_an_end_that_was_moved_holds_and_the_old_one_does_not(store: Store) -> None:
    watched = Watched(store, user(1, end=START + 10), user(2, end=START + 10), user(3))
    assert watched.change("u1", not_after=START + 30) == []
    assert watched.change("u2", not_after=None) == []
    assert watched.change("u3", not_after=START + 20, name="x") == []
    assert watched.at(15) == []
    assert watched.at(20) == [fingerprints(3)]
    assert watched.at(30) == [fingerprints(1)]


async def test_a_change_that_ends_access_ends_the_sessions(store: Store) -> None:
    watched = Watched(store, user(1, end=START + 10), user(2, end=START + 10))
    watched.wall = START + 1
    assert watched.change("u1", not_after=START + 0.5) == [fingerprints(1)]
    assert watched.change("u2", keys=()) == [fingerprints(2)]


async def test_a_clock_that_is_set_back_ends_access_that_has_not_begun(store: Store) -> None:
    watched = Watched(store, user(1, START + 5), user(2, end=START + 20))
    assert watched.at(6) == []
    watched.clock.restart(START)
    assert watched.at(0) == [fingerprints(1)]
    assert watched.at(20) == [fingerprints(2)]
    watched.clock.restart(START)
    assert watched.at(1) == [fingerprints(1)]
    assert watched.at(20) == [fingerprints(2)]  # once more


async def test_the_begins_and_ends_in_memory_are_bounded(store: Store) -> None:
    watched = Watched(store, user(1, end=START + 10), user(2))
    for number in range(200):
        assert watched.change("u1", not_after=START + 20 + number) == []
        assert watched.expiry.waiting <= 4 + EXPIRY_TURNS_SPARE
    assert watched.at(210) == []
    assert watched.at(219) == [fingerprints(1)]


def calls_of_a_change(watched: Watched) -> int:
    count = 0

    def tick(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal count
        count += 1

    before = watched.store.state.user("u1")
    new = watched.store.state.replaced(before, replace(before, not_after=START + 30))
    gc.disable()  # a collection would call its watchers
    sys.setprofile(tick)
    try:
        watched.store.commit(new)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


async def test_the_work_of_a_change_does_not_depend_on_the_number_of_limited_users(
    tmp_path: Path,
) -> None:
    calls = []
    for count in (10, 1_000):
        with closing(Store.open(tmp_path / f"{count}.db")) as store:
            watched = Watched(store, *(user(n, end=START + 10 + n) for n in range(count)))
            watched.change("u2", not_after=START + 5)  # initialization that happens once
            calls.append(calls_of_a_change(watched))
            watched.expiry.close()
    assert calls[1] <= calls[0] + 20  # a higher heap
