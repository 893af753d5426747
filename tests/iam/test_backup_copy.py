"""A backup is read in one pass if the store agrees with its mark, and else compared by rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from iam import Key, State, Store, User, backup, mark, sound_store
from iam.errors import StoreCorrupt, StoreError, StoreTooNew
from iam.model import Invite

if TYPE_CHECKING:
    from pathlib import Path

STATE = State.of(
    [
        User("anna", "owner", (Key("a" * 64, "laptop", receipt=b"r" * 32), Key("b" * 64))),
        User("zoë", "guest", (), "Zoë", 3.0, 4.5, 2.0),
    ],
    [Invite("1" * 32, "eve", "guest", 9.0, inviter="anna")],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    with closing(Store.open(path)) as store:
        store.commit(STATE, attempts={"label": {"verifier": "x"}})
    return path


def changed(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


def test_both_ways_of_a_backup_hold_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    quick = sound_store.state_of_copy

    def noted(db: sqlite3.Connection, path: Path) -> State | None:
        found = quick(db, path)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(sound_store, "state_of_copy", noted)
    content, state = backup.copy_of(path, "note")
    assert taken == [True]
    monkeypatch.setattr(sound_store, "state_of_copy", lambda _db, _path: None)
    assert backup.copy_of(path, "note") == (content, state)
    assert state == STATE


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET role = 'owner' WHERE name = 'zoë'",
        "UPDATE keys SET verified = 0",
        "DELETE FROM keys WHERE fingerprint LIKE 'a%'",
        "UPDATE rights SET serial = serial + 1",
        "UPDATE rights SET seal = zeroblob(32)",
        "DELETE FROM invites",
    ],
)
def test_a_store_that_was_changed_behind_its_mark_is_not_backed_up(
    path: Path, statement: str
) -> None:
    backup.copy_of(path, "")
    changed(path, statement)
    with pytest.raises(backup.ChangesNow):
        backup.copy_of(path, "")


def test_a_store_with_a_mark_of_another_time_is_not_backed_up(path: Path) -> None:
    before = mark.path_of(path).read_bytes()
    with closing(Store.open(path)) as store:
        store.commit(store.state.replaced(store.state.user("zoë"), None))
    mark.path_of(path).write_bytes(before)
    with pytest.raises(backup.ChangesNow):
        backup.copy_of(path, "")


@pytest.mark.parametrize(("has_mark", "error"), [(True, StoreCorrupt), (False, StoreTooNew)])
def test_a_later_version_is_damage_if_the_mark_has_a_known_one(
    path: Path, has_mark: bool, error: type[StoreError]
) -> None:
    changed(path, "PRAGMA user_version = 99")
    if not has_mark:
        mark.path_of(path).unlink()
    with pytest.raises(error):
        backup.copy_of(path, "")
