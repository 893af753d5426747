"""A store and its mark during operation: a full disk, removed files, a reset."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from iam import (
    Event,
    Key,
    Rules,
    State,
    Store,
    User,
    database,
    files,
    mark,
    rights,
)
from iam import changes as to
from iam.errors import StoreError, StoreWriteFailed
from iam.mark import Mark
from tests.iam.damaged_store import EVENT, NAME, Case, _fp, made_case, snapshot


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return made_case(tmp_path_factory.mktemp("case"))


# ------------------------------------------------------------------------ writing store and mark


class NoRoom:
    """A disk that is full when the mark is written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def fill(self, *, half: bool = False) -> None:
        def refuse(path: Path, data: bytes, *_: object) -> None:
            if half:
                with path.open("ab") as file:
                    file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        self._patch.setattr(files, "append_own", refuse)
        self._patch.setattr(files, "atomic_write", refuse)

    def empty(self) -> None:
        self._patch.undo()


@pytest.mark.parametrize("half", [False, True])
def test_a_full_disk_delays_the_mark_and_keeps_the_change(
    case: Case, tmp_path: Path, rules: Rules, monkeypatch: pytest.MonkeyPatch, *, half: bool
) -> None:
    """The change is stored and reported as unprotected until the mark can be written."""
    folder = shutil.copytree(case.closed, tmp_path / "device")
    path, disk = folder / NAME, NoRoom(monkeypatch)
    with closing(Store.open(path)) as store:
        store.commit(store.state.replaced(None, User("zoe", "guest", (Key("e" * 64),))))
        disk.fill(half=half)
        new = to.remove_user(store.state, None, "zoe", rules=rules)
        store.commit(new)
        assert store.state == new
        assert "No space" in store.fault
        with closing(Store.open(snapshot(path, tmp_path / "killed") / NAME)) as other:
            assert (other.state, other.recovery) == (new, None)
        disk.empty()
        store.flush_seen()
        assert store.fault == ""
    shutil.copy(case.older / NAME, path)
    with closing(Store.open(path)) as store:
        assert "bert" not in store.state.users
        assert store.recovery is not None


def test_the_log_is_empty_after_rights_were_revoked(
    case: Case, tmp_path: Path, rules: Rules
) -> None:
    folder = shutil.copytree(case.older, tmp_path / "device")
    path = folder / NAME
    with closing(Store.open(path)) as store:
        store.commit(store.state, EVENT)
        log = path.with_name(f"{NAME}-wal")
        assert log.stat().st_size > 0
        store.commit(to.remove_user(store.state, None, "bert", rules=rules))
        assert log.stat().st_size == 0
        marked = mark.load_untrusted(mark.path_of(path))
        assert marked is not None
        assert marked.rows == frozenset(rights.rows_of(store.state, store.attempts))
        assert marked.head == store.audit.head


def test_the_mark_is_rewritten_before_it_grows_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mark, "MARK_CHANGE_BYTES", 5000)
    path = tmp_path / NAME
    sizes = []
    with closing(Store.open(path)) as store:
        store.commit(State.of([User("anna", "owner", (Key("a" * 64),))]))
        for number in range(40):
            long = User("anna", "owner", (Key("a" * 64),), f"{number:064}")
            store.commit(store.state.replaced(store.state.users["anna"], long))
            sizes.append(mark.path_of(path).stat().st_size)
    assert max(sizes) < 2 * 5000
    assert any(after < before for before, after in pairwise(sizes))


def test_a_reader_does_not_prevent_a_change_from_being_stored(
    case: Case, tmp_path: Path, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(case.older, tmp_path / "device")
    path = folder / NAME
    monkeypatch.setattr(database, "STORE_BUSY_MILLISECONDS", 0)
    with closing(Store.open(path)) as store:
        store.commit(store.state, EVENT)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM users").fetchone()
            store.commit(to.remove_user(store.state, None, "bert", rules=rules))
            assert "only in SQLite's log" in store.fault
            reader.execute("ROLLBACK")
        store.flush_seen()
        assert store.fault == ""
        assert path.with_name(f"{NAME}-wal").stat().st_size == 0


# --------------------------------------------------------------------- files taken away in use


def test_a_store_that_is_removed_in_use_is_written_again(
    case: Case, tmp_path: Path, rules: Rules
) -> None:
    folder = shutil.copytree(case.closed, tmp_path / "device")
    path = folder / NAME
    with closing(Store.open(path)) as store:
        store.commit(store.state, EVENT)
        for file in folder.iterdir():
            file.unlink()
        assert "removed" in store.fault
        store.flush_seen()
        assert store.fault == ""
        new = to.set_user(store.state, None, "carl", display_name="Carl", rules=rules)
        store.commit(new, EVENT)
        assert {file.name for file in folder.iterdir()} >= {NAME, f"{NAME}.mark", f"{NAME}.lock"}
        with pytest.raises(StoreError):
            Store.open(path)  # the new file is locked
        head = store.audit.head
    with closing(Store.open(path)) as store:
        assert (store.state, store.recovery, store.audit.head) == (new, None, head)
        assert store.audit.verify() is None


def test_a_store_that_is_replaced_in_use_is_not_changed(case: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(case.closed, tmp_path / "device")
    path = folder / NAME
    other = shutil.copy(case.older / NAME, tmp_path / "other.db")
    with closing(Store.open(path)) as store:
        Path(other).replace(path)
        assert "replaced" in store.fault
        with pytest.raises(StoreWriteFailed, match="replaced"):
            store.commit(store.state, EVENT)
    with closing(Store.open(path)) as store:
        assert case.revoked not in store.state.user_name_by_key


# ------------------------------------------------------------------------------ factory reset


def test_a_reset_removes_all_names_from_all_files(case: Case, tmp_path: Path, rules: Rules) -> None:
    folder = shutil.copytree(case.older, tmp_path / "device")
    path = folder / NAME
    database.create(path.with_name(f"{NAME}.v1"))
    with closing(Store.open(path)) as store:
        for number in range(30):
            name = f"formeruser{number}"
            user = User(name, "guest", (Key(_fp(name)),))
            store.commit(
                to.add_user(store.state, None, user, rules=rules),
                Event(
                    kind="user-added",
                    boot="b",
                    monotonic=1.0,
                    wall=2.0,
                    user=name,
                    fingerprint=_fp(name),
                ),
            )
            store.note_seen(_fp(name), 5.0)
        for number in range(20):
            store.commit(to.remove_user(store.state, None, f"formeruser{number}", rules=rules))
        store.end_recovery(EVENT, state=store.state)
        store.reset(Event(kind="factory-reset", boot="b", monotonic=1.0, wall=2.0), attempts={})
        assert (store.state, store.had_owner, store.audit.head[0]) == (State(), False, 1)
        for file in folder.iterdir():
            data = file.read_bytes()
            for trace in (
                b"formeruser",
                b"anna",
                b"bert",
                _fp("anna").encode(),
                _fp("formeruser7").encode(),
            ):
                assert trace not in data, (file.name, trace)
        assert store.fault == ""
    with closing(Store.open(path)) as store:
        assert (store.state, store.had_owner, store.recovery) == (State(), False, None)
        assert [record.event.kind for record in store.audit.iterate()] == ["factory-reset"]


def test_an_invalid_mark_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.mark"
    assert mark.load_untrusted(path) is None
    for data in (
        b"",
        b"\n",
        b"x\n",
        b"{}\n",
        b"0" * 64 + b" {}\n",
        b"[" * 90_000 + b"\n",
        bytes(100),
    ):
        path.write_bytes(data)
        assert mark.load_untrusted(path) is None
    writer = Mark(tmp_path / NAME, schema=3)
    seal = rights.Seal(rights.total_of(["a"]), 1, had_owner=True)
    writer.write(["a"], seal, (0, "0" * 64), 1.0)
    writer.void(2)
    found = mark.load_untrusted(path)
    assert found is not None
    assert (found.rows, found.void, found.seal, found.time_floor) == (frozenset("a"), 2, seal, 1.0)
    assert found.is_whole
    path.write_bytes(path.read_bytes() + b"half a line")
    found = mark.load_untrusted(path)
    assert found is not None
    assert found.is_whole
