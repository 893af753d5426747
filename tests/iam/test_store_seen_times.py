"""Last-seen times, which are stored with other changes, and watchers of events."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from iam import Rules, State, Store
from iam import changes as to
from iam.errors import StoreWriteFailed
from tests.iam.store_files import HELLO, Fp, connect, filled, traced


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


# ---------------------------------------------- times that are not worth a write of their own


def wal_size(path: Path) -> int:
    return path.with_name("state.db-wal").stat().st_size


def test_seen_times_are_stored_with_the_next_commit(path: Path, house: State, fp: Fp) -> None:
    filled(path, house)
    with closing(Store.open(path)) as store:
        store.note_seen(fp("anna"), 10.0)
        store.note_seen(fp("anna"), 9.0)  # a second session, recorded late
        store.note_seen(fp("an unpaired client"), 10.0)
        store.note_time(11.0)
        assert (dict(store.seen), store.time_floor) == ({fp("anna"): 10.0}, 11.0)
        assert on_disk(path) == ({}, 0.0)
        store.commit(store.state, HELLO)
        assert on_disk(path) == ({fp("anna"): 10.0}, 11.0)
        store.note_seen(fp("bert"), 12.0)
        store.close()
    assert on_disk(path) == ({fp("anna"): 10.0, fp("bert"): 12.0}, 11.0)
    with closing(Store.open(path)) as store:
        assert dict(store.seen) == {fp("anna"): 10.0, fp("bert"): 12.0}
        assert store.time_floor == 11.0


def on_disk(path: Path) -> tuple[dict[str, float], float]:
    with closing(connect(path)) as db:
        seen = dict(db.execute("SELECT fingerprint, at FROM seen"))
        return seen, db.execute("SELECT floor FROM clock").fetchone()[0]


def test_seen_times_are_written_at_most_once_an_hour(path: Path, house: State, fp: Fp) -> None:
    """One request a second for a day, each followed by a flush, to protect flash memory."""
    with closing(Store.open(path)) as store:
        store.commit(house)
        writes, size = 0, wal_size(path)
        for second in range(86_400):
            store.note_seen(fp("anna"), 1e6 + second)
            store.note_time(1e6 + second)
            store.flush_seen()
            if (now := wal_size(path)) != size:
                writes, size = writes + 1, now
        assert writes == 23
        assert on_disk(path)[1] == 1e6 + 23 * 3600 + 22
        store.close()
    assert on_disk(path) == ({fp("anna"): 1e6 + 86_399}, 1e6 + 86_399)


def test_the_seen_time_of_a_removed_key_is_removed(
    path: Path, house: State, rules: Rules, fp: Fp
) -> None:
    filled(path, house)
    with closing(Store.open(path)) as store:
        for who in ("anna", "carl", "dora"):
            store.note_seen(fp(who), 10.0)
        store.commit(to.rename(store.state, None, "carl", "charles", rules=rules))
        store.commit(to.remove_user(store.state, None, "dora", rules=rules))
        assert dict(store.seen) == on_disk(path)[0] == {fp("anna"): 10.0, fp("carl"): 10.0}


def test_a_time_floor_that_is_too_high_can_be_reset(path: Path, house: State, fp: Fp) -> None:
    filled(path, house)
    with closing(Store.open(path)) as store:
        store.note_time(9e9)
        store.note_seen(fp("anna"), 9e9)
        store.note_seen(fp("bert"), 5.0)
        store.commit(store.state, HELLO)
        store.note_time(8.0)
        assert store.time_floor == 9e9
        store.reset_time_floor(10.0)
        assert (dict(store.seen), store.time_floor) == on_disk(path)
        assert on_disk(path) == ({fp("anna"): 10.0, fp("bert"): 5.0}, 10.0)
        store.note_seen(fp("anna"), 11.0)
        assert store.seen[fp("anna")] == 11.0
    with closing(Store.open(path)) as store:  # the mark does not restore it
        assert store.time_floor == 10.0


def test_seen_times_survive_a_full_disk(
    path: Path,
    house: State,
    fp: Fp,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    filled(path, house)
    with traced(monkeypatch) as (db, _), closing(Store.open(path)) as store:
        for now in (10.0, 4000.0):
            store.note_seen(fp("anna"), now)
        db[-1].execute("PRAGMA query_only = ON")
        for change in (store.flush_seen, lambda: store.reset_time_floor(1.0)):
            with pytest.raises(StoreWriteFailed):
                change()
        assert (store.seen[fp("anna")], store.time_floor) == (4000.0, 0.0)
        db[-1].execute("PRAGMA query_only = OFF")
        store.flush_seen()
        assert on_disk(path)[0] == {fp("anna"): 4000.0}
        store.note_seen(fp("anna"), 4001.0)
        db[-1].execute("PRAGMA query_only = ON")
        store.close()  # the loss is only logged
    assert "last seen" in caplog.text
    with closing(Store.open(path)) as store:
        assert dict(store.seen) == {fp("anna"): 4000.0}


def test_the_seen_time_of_an_unknown_key_is_ignored(path: Path, house: State) -> None:
    filled(path, house)
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO seen VALUES (?, 1.0)", ("f" * 64,))
        db.commit()
    with closing(Store.open(path)) as store:
        assert dict(store.seen) == {}


def test_event_watchers_receive_the_newest_number(path: Path, house: State) -> None:
    heard: list[int] = []
    with closing(Store.open(path)) as store:
        end = store.on_events(heard.append)
        store.commit(house)  # no event
        store.commit(house, HELLO, HELLO)
        # If a state watcher commits, no event watcher gets an older number.
        again = store.subscribe(lambda _old, new: store.commit(new, HELLO))
        store.commit(State(), HELLO)
        again()
        end()
        store.commit(house, HELLO)
    assert heard == [2, 4]
