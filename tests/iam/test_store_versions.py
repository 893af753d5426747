"""Stores of earlier versions: migrated in one step, with one copy, and the way back is named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from iam import Key, State, Store, User, database, mark, schema, staged_store
from iam.errors import StoreCorrupt, StoreTooNew
from iam.schema import APPLICATION_ID
from tests.iam.store_files import HELLO

if TYPE_CHECKING:
    from pathlib import Path

LATEST = len(schema.MIGRATIONS)
STATE = State.of([User("anna", "owner", (Key("a" * 64, "phone", "compare", added=1.0),))])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def store_of(version: int, path: Path) -> None:
    """Create a store as an earlier version wrote it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for step in schema.MIGRATIONS[:version]:
            for statement in step:
                db.execute(statement)
        db.execute("INSERT INTO users VALUES ('anna', 'owner', '', NULL, NULL, 0.0)")
        names = "fingerprint, user, name, method, verified, added"
        values = ("a" * 64, "anna", "phone", "compare", 1, 1.0)
        db.execute(f"INSERT INTO keys ({names}) VALUES (?, ?, ?, ?, ?, ?)", values)
        db.execute(f"PRAGMA user_version = {version}")


def copies(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir() if ".db.v" in one.name)


@pytest.mark.parametrize("version", range(1, LATEST))
def test_a_store_of_each_version_is_migrated_after_one_copy(path: Path, version: int) -> None:
    store_of(version, path)
    with closing(Store.open(path)) as store:
        assert store.state == STATE
        assert store.recovery is None
        store.commit(store.state, HELLO)
    assert copies(path) == [f"state.db.v{version}"]
    with closing(sqlite3.connect(path.with_name(f"state.db.v{version}"))) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (version,)
        assert db.execute("SELECT name FROM users").fetchall() == [("anna",)]
    with closing(Store.open(path)) as store:
        assert store.state == STATE
        assert store.audit.verify() is None


def test_only_the_copy_of_the_last_migration_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older copy holds users who were removed long ago."""
    store_of(1, path)
    for latest in (2, LATEST):
        with monkeypatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:latest])
            patch.setattr(schema, "SEALED_FROM", schema.SEALED_FROM if latest == LATEST else 0)
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                database.migrate(db, path)
    assert copies(path) == ["state.db.v2"]


def test_a_version_that_is_too_old_names_the_copy_of_before_the_upgrade(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store.open(path)) as store:
        store.commit(STATE)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE more (x)",)))
        Store.open(path).close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew) as caught:
        Store.open(path)
    assert str(path.with_name(f"state.db.v{LATEST}")) in caught.value.advice
    assert path.read_bytes() == before
    path.with_name(f"state.db.v{LATEST}").unlink()
    with pytest.raises(StoreTooNew) as caught:
        Store.open(path)
    assert ".v" not in caught.value.advice


@pytest.mark.parametrize("version", range(1, LATEST + 1))
def test_a_copy_of_each_version_becomes_a_store_with_a_mark(
    path: Path, tmp_path: Path, version: int
) -> None:
    old = tmp_path / "old.db"
    store_of(min(version, LATEST - 1), old)
    if version == LATEST:
        Store.open(old).close()
    head = staged_store.stage(path, staged_store.bytes_of(old), before=None)
    assert head == (0, "00" * 32)
    assert mark.load_untrusted(mark.path_of(path)) is not None
    with closing(Store.open(path)) as store:
        assert (store.state, store.recovery) == (STATE, None)


def test_a_copy_that_was_edited_becomes_no_store(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with closing(Store.open(old)) as store:
        store.commit(STATE)
    with closing(sqlite3.connect(old)) as db:
        db.execute("UPDATE users SET role = 'guest'")
        db.commit()
    with pytest.raises(StoreCorrupt, match="users and keys"):
        staged_store.stage(path, staged_store.bytes_of(old), before=None)


def test_a_trail_goes_on_only_if_it_continues_that_of_the_copy(path: Path, tmp_path: Path) -> None:
    device, other = tmp_path / "device.db", tmp_path / "other.db"
    for one in (device, other):
        with closing(Store.open(one)) as store:
            store.commit(STATE, HELLO, replace(HELLO, user=one.name))
    copy = staged_store.bytes_of(device)
    with closing(Store.open(other)) as store:
        store.commit(State.of(()), HELLO)
    with closing(Store.open(device)) as store:
        store.commit(STATE, HELLO, HELLO)
        newest = store.audit.head
    for before, seq in ((device, newest[0]), (other, 2), (None, 2)):
        staged_store.stage(path, copy, before=before)
        with closing(Store.open(path)) as store:
            assert store.audit.head[0] == seq
            assert store.audit.verify() is None
        for left in path.parent.glob("state.db*"):
            left.unlink()
