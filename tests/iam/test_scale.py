"""With 100,000 users, a change costs as much as with few: no work is done for each user.

Nothing here looks at a clock. What could grow is counted: rows written, users that are looked at,
and calls of the interpreter; how long it takes is for `tests/bench/test_iam.py`.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from math import inf
from pathlib import Path
from types import FrameType

import pytest

from iam import Access, Event, Key, Rules, State, Store, User, changed_keys
from iam import changes as to
from iam.limits import IamLimits
from iam.mark import path_of
from iam.model import Invite, differing

Fp = Callable[[object], str]
CROWD = 100_000
RULES = Rules(Access().roles, IamLimits(users=CROWD + 10))


def crowd(count: int) -> State:
    users = [User(f"u{n}", "guest", (Key(f"{n:064x}"),)) for n in range(count)]
    return State.of([*users, User("anna", "owner", (Key("a" * 64),)), User("bert", "admin")])


@pytest.fixture(scope="module")
def few() -> State:
    return crowd(10)


@pytest.fixture(scope="module")
def many() -> State:
    return crowd(CROWD)


def calls_of(work: Callable[[], object]) -> int:
    """The number of function calls and returns, including those of libraries."""
    count = 0

    def tick(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal count
        count += 1

    gc.disable()  # a collection would call its watchers
    sys.setprofile(tick)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


INVITE = Invite("1" * 32, "eve", "guest", 100.0)
NEW = User("eve", "guest", (Key("e" * 64),))
CHANGES: dict[str, Callable[[State], State]] = {
    "add": lambda s: to.add_user(s, None, NEW, rules=RULES),
    "remove": lambda s: to.remove_user(s, None, "u7", rules=RULES),
    "rename": lambda s: to.rename(s, None, "u7", "eve", rules=RULES),
    "demote": lambda s: to.set_user(s, None, "bert", role="user", rules=RULES),
    "limit": lambda s: to.set_user(s, None, "u7", not_after=9.0, rules=RULES),
    "key": lambda s: to.add_key(s, None, "u7", Key("e" * 64), rules=RULES),
    "invite": lambda s: to.add_invite(s, None, INVITE, now=0.0, rules=RULES),
}


@pytest.mark.parametrize("change_name", CHANGES)
def test_the_work_of_a_change_does_not_depend_on_the_number_of_users(
    change_name: str, few: State, many: State
) -> None:
    def life(state: State) -> Callable[[], object]:
        def work() -> None:
            new = CHANGES[change_name](state)
            changed_keys(state, new)
            list(differing(state, new))
            to.has_owner(new)

        return work

    CHANGES[change_name](many)  # initialization that happens once
    assert calls_of(life(many)) == calls_of(life(few))


@pytest.mark.parametrize("change_name", CHANGES)
def test_the_rows_of_a_commit_do_not_depend_on_the_number_of_users(
    change_name: str, few: State, many: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, calls, pages, marked = [], [], [], []
    for number, state in enumerate((few, many if change_name == "add" else crowd(300))):
        path = tmp_path / f"{number}.db"
        connections = opened(monkeypatch)
        with closing(Store.open(path)) as store:
            store.commit(state)
            db = connections[-1]
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            new, before = CHANGES[change_name](store.state), db.total_changes
            mark_bytes = path_of(path).stat().st_size
            calls.append(calls_of(partial(store.commit, new)))
            rows.append(db.total_changes - before)
            marked.append(path_of(path).stat().st_size - mark_bytes)
            pages.append(path.with_name(f"{number}.db-wal").stat().st_size // 4096)
    assert rows[0] == rows[1] <= 5  # including the seal over the rights
    assert calls[0] == calls[1]
    assert marked[0] == marked[1] > 0  # one line is appended to the mark
    assert pages[1] <= pages[0] + 12  # the B-trees of the tables are two levels higher


def test_users_and_keys_are_counted_without_iterating_over_them(few: State, many: State) -> None:
    def report(state: State) -> tuple[int, int, int, int]:
        return len(state.users), state.key_count, state.count_in("guest"), state.count_in("none")

    assert report(many) == (CROWD + 2, CROWD + 1, CROWD, 0)
    assert calls_of(partial(report, many)) == calls_of(partial(report, few))


def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    connections: list[sqlite3.Connection] = []
    real = sqlite3.connect

    def connect(name: str, *, uri: bool, isolation_level: None) -> sqlite3.Connection:
        connections.append(real(name, uri=uri, isolation_level=isolation_level))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", connect)
    return connections


def test_a_change_does_not_modify_the_old_state(many: State) -> None:
    new = CHANGES["remove"](many)
    assert "u7" in many.users
    assert "u7" not in new.users
    assert len(many.users) == len(new.users) + 1 == CROWD + 2


def compared(old: State, new: State) -> set[tuple[str, ...]]:
    """The names in each pair of users; an empty text stands for no user."""
    return {tuple(user.name if user else "" for user in pair) for pair in differing(old, new)}


def test_related_states_are_compared_by_their_changes() -> None:
    """The result equals that of comparing all users: forwards, backwards and between branches."""
    start = crowd(2000)
    left = CHANGES["remove"](CHANGES["limit"](start))
    right = to.rename(CHANGES["add"](start), None, "eve", "eva", rules=RULES)
    for old, new in ((start, left), (left, start), (left, right), (start, start)):
        unrelated = State.of(new.users.values())  # equal, but unrelated
        assert compared(old, new) == compared(old, unrelated)
        assert calls_of(partial(compared, old, new)) < 200
        assert calls_of(partial(compared, old, unrelated)) > 2000


def test_states_many_changes_apart_are_compared_by_all_users() -> None:
    state = start = crowd(3)
    for number in range(200):
        name = state.user_name_by_key["0" * 64]
        state = to.rename(state, None, name, f"n{number}", rules=RULES)
    assert compared(start, state) == {("u0", ""), ("", "n199")}
    assert len(state.steps) <= 64  # the recorded history is bounded


def test_states_many_changes_apart_are_compared_by_what_was_changed_since(many: State) -> None:
    state = many
    for number in range(200):
        name = state.user_name_by_key["0" * 64]
        state = to.rename(state, None, name, f"n{number}", rules=RULES)
    assert calls_of(partial(compared, many, state)) < 5_000
    assert compared(many, state) == {("u0", ""), ("", "n199")}


def test_opening_a_store_calls_few_functions_for_each_user(tmp_path: Path) -> None:
    calls = []
    for count in (1_000, 3_000):
        path = tmp_path / f"{count}.db"
        with closing(Store.open(path)) as store:
            store.commit(crowd(count))
        with closing(Store.open(path)):
            pass  # initialization that happens once
        calls.append(calls_of(lambda path=path: Store.open(path).close()))  # type: ignore[misc]
    assert (calls[1] - calls[0]) / 2_000 < 40  # calls and returns; two are digests of rows


def test_users_with_an_end_of_access_are_found_without_the_others(many: State) -> None:
    some = CHANGES["limit"](many)
    assert [user.name for user in some.limited_users()] == ["u7"]
    assert list(some.access_periods()) == [("u7", (-inf, 9.0))]
    assert calls_of(lambda: list(some.access_periods())) < 20
    assert calls_of(lambda: to.has_owner(some)) < 20
    freed = to.set_user(some, None, "u7", not_after=None, rules=RULES)
    assert list(freed.limited_users()) == []
    assert list(CHANGES["remove"](some).limited_users()) == []


def test_a_commit_writes_a_bounded_number_of_last_seen_times(tmp_path: Path) -> None:
    """The rest is written by a flush of its own or when the store closes."""
    path = tmp_path / "state.db"
    event = Event(kind="hello", boot="b", monotonic=1.0, wall=2.0)
    with closing(Store.open(path)) as store:
        store.commit(crowd(1000))
        for number in range(1000):
            store.note_seen(f"{number:064x}", 10.0)
        for commits in (1, 2):
            store.commit(store.state, event)
            assert seen_on_disk(path) == commits * 32
        store.flush_seen()
        assert seen_on_disk(path) == 64
        store.note_seen("a" * 64, 3610.0)
        store.flush_seen()
        assert seen_on_disk(path) == 1001


def seen_on_disk(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM seen").fetchone()[0])


def test_all_users_are_stored_and_read_back(many: State, tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "state.db")) as store:
        store.commit(many)
    with closing(Store.open(tmp_path / "state.db")) as store:
        assert store.state == many
        assert len(store.state.user_name_by_key) == CROWD + 1
