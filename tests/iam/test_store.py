"""Behaviours 33-35: what the store promises, and what it refuses to touch."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam import Event, Key, Rules, State, Store, StoreError, User, store
from iam import changes as to
from iam.errors import StoreBusy, StoreCorrupt, StoreTooNew, StoreWriteFailed

Fp = Callable[[object], str]
HELLO = Event(kind="hello", boot="b", monotonic=1.0, wall=2.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def files(folder: Path) -> dict[str, bytes]:
    """Every byte of the store; the lock and SQLite's scratch index are not part of it."""
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if not file.name.endswith((".lock", "-shm"))
    }


def filled(path: Path, state: State) -> None:
    with closing(Store.open(path)) as store:
        store.commit(state, HELLO, attempts={"failures": 3})


def refused(path: Path, why: type[StoreError]) -> StoreError:
    before = files(path.parent)
    with pytest.raises(why) as caught:
        Store.open(path)
    assert caught.value.advice
    assert files(path.parent) == before
    return caught.value


texts = st.text(st.characters(codec="utf-8"), max_size=64)
times = st.none() | st.floats(0, 1e10)
some_keys = st.sets(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=3)


@st.composite
def states(draw: st.DrawFn) -> State:
    taken: set[str] = set()
    users = []
    for name in draw(st.sets(texts.filter(bool), max_size=5)):
        prints = sorted(draw(some_keys) - taken)
        taken.update(prints)
        keys = tuple(
            Key(fp, draw(texts), draw(texts), draw(st.booleans()), draw(st.floats(0, 1e10)))
            for fp in prints
        )
        end = draw(times)
        users.append(User(name, draw(texts.filter(bool)), keys, draw(texts), None, end, 1.5))
    return State.of(users)


@settings(deadline=None)
@given(st.lists(states(), min_size=1, max_size=3))
def test_what_is_stored_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, lives: list[State]
) -> None:
    path = tmp_path_factory.mktemp("round") / "state.db"
    for state in lives:  # any state may follow any other, whoever takes over whose name and key
        with closing(Store.open(path)) as store:
            store.commit(state, attempts={"n": len(state.users), "until": 1.5})
            assert store.state == state
        with closing(Store.open(path)) as store:
            assert store.state == state
            assert dict(store.state.owner_of_key) == dict(state.owner_of_key)
            assert store.attempts == {"n": len(state.users), "until": 1.5}


def test_all_files_are_private(path: Path, house: State) -> None:
    with closing(Store.open(path)) as store:
        store.commit(house)
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_every_commit_waits_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced(monkeypatch) as (db, _), closing(Store.open(path)):
        assert db[-1].execute("PRAGMA synchronous").fetchone() == (2,)
        assert db[-1].execute("PRAGMA journal_mode").fetchone() == ("wal",)


@contextmanager
def traced(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[list[sqlite3.Connection], list[str]]]:
    """The store's connections, and each statement they run."""
    connections: list[sqlite3.Connection] = []
    statements: list[str] = []
    real = sqlite3.connect

    def connect(name: str, *, uri: bool, isolation_level: None) -> sqlite3.Connection:
        db = real(name, uri=uri, isolation_level=isolation_level)
        db.set_trace_callback(statements.append)
        connections.append(db)
        return db

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        yield connections, statements


def test_only_rows_that_differ_are_written(
    path: Path, rules: Rules, fp: Fp, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = State.of(User(f"u{n}", "guest", (Key(fp(n)),)) for n in range(200))
    filled(path, crowd)
    with traced(monkeypatch) as (db, statements), closing(Store.open(path)) as store:
        for change, rows in (
            (to.set_user(crowd, None, "u7", display_name="Seven", rules=rules), 1),
            (to.add_key(store.state, None, "u7", Key(fp("new")), rules=rules), 2),
            (to.rename(store.state, None, "u8", "eight", rules=rules), 7),
        ):
            before = db[-1].total_changes
            store.commit(change)
            assert db[-1].total_changes - before <= rows
        statements.clear()
        store.commit(store.state)
        assert statements == []


def test_watchers_hear_of_changes_once_they_are_durable(
    path: Path, house: State, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[State, State]] = []
    with closing(Store.open(path)) as store:
        empty = store.state

        def broken(old: State, new: State) -> None:
            raise RuntimeError("watcher")

        store.subscribe(broken)
        end = store.subscribe(lambda old, new: heard.append((old, new)))
        store.commit(store.state, HELLO)
        store.commit(house)
        end()
        store.commit(empty)
    assert heard == [(empty, house)]
    assert "a watcher of the store failed" in caplog.text


# ------------------------------------------------------------------------- a disk that refuses


def fails_and_lives(store: Store, new: State, *, again: Callable[[], object]) -> None:
    """Behaviour 33: nothing changed in memory or on disk, and the next commit works."""
    old, attempts, head = store.state, store.attempts, store.trail.head
    heard: list[State] = []
    store.subscribe(lambda _, after: heard.append(after))
    with pytest.raises(StoreWriteFailed) as caught:
        store.commit(new, HELLO, attempts={"failures": 9})
    assert "disk" in caught.value.advice
    assert store.state is old
    assert (store.attempts, store.trail.head, heard) == (attempts, head, [])
    again()
    store.commit(new, HELLO)
    assert (store.state, heard) == (new, [new])
    assert store.trail.verify() is None


def test_read_only(path: Path, house: State, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced(monkeypatch) as (db, _), closing(Store.open(path)) as store:
        db[-1].execute("PRAGMA query_only = ON")
        fails_and_lives(store, house, again=lambda: db[-1].execute("PRAGMA query_only = OFF"))


def test_database_full(path: Path, fp: Fp, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = State.of(User(f"u{n}", "guest", (Key(fp(n)),)) for n in range(200))
    with traced(monkeypatch) as (db, _), closing(Store.open(path)) as store:
        (pages,) = db[-1].execute("PRAGMA page_count").fetchone()
        db[-1].execute(f"PRAGMA max_page_count = {pages}")
        fails_and_lives(
            store, crowd, again=lambda: db[-1].execute("PRAGMA max_page_count = 1000000")
        )


@pytest.mark.parametrize("room", [0, 1, 24, 4000, 9000])
def test_disk_full_in_the_middle_of_a_write(path: Path, house: State, room: int) -> None:
    """The kernel refuses bytes beyond a limit, so the log ends in the middle of a frame."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(Store.open(path)) as store:
        store.commit(store.state, HELLO)
        size = path.with_name("state.db-wal").stat().st_size
        # SQLite's scratch index (32 KiB) exists by now and does not grow.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
        try:
            fails_and_lives(
                store,
                house,
                again=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with closing(Store.open(path)) as store:
        assert store.state == house


@pytest.mark.parametrize("obstacle", ["state.db", "state.db.new", "state.db.lock"])
def test_what_is_no_damage_is_not_called_so(obstacle: str, path: Path) -> None:
    """Advice to put back a copy would be wrong where only the folder is."""
    path.with_name(obstacle).mkdir()
    with pytest.raises(StoreError) as caught:
        Store.open(path)
    assert not isinstance(caught.value, StoreCorrupt)
    assert "permissions" in caught.value.advice
    path.with_name(obstacle).rmdir()
    Store.open(path).close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        Store.open(tmp_path / "nowhere" / "state.db")


# ------------------------------------------------------------------------------- one writer

HOLDER = """
import sys
from pathlib import Path
from iam import Store
store = Store.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_the_second_is_told_who_holds_it(path: Path, house: State) -> None:
    filled(path, house)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(store.__file__).parents[1],
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        error = refused(path, StoreBusy)
        assert isinstance(error, StoreBusy)
        assert error.pid == holder.pid
        assert f"process {holder.pid}" in str(error)
        holder.send_signal(signal.SIGKILL)
    with closing(Store.open(path)) as mine:  # the lock died with its holder
        assert mine.state == house
        refused(path, StoreBusy)
    mine.close()
    Store.open(path).close()


def test_a_refused_store_gives_the_lock_back(path: Path) -> None:
    path.write_bytes(b"")
    refused(path, StoreCorrupt)
    path.unlink()
    Store.open(path).close()


# ----------------------------------------------------------------- files that are left alone


def fingerprint_of_dora() -> bytes:
    """It stands in two places of the file: in the table and in its index."""
    return sha256(b"dora").hexdigest().encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: b"",
        lambda good: b"not a database, but a letter to grandmother" * 100,
        lambda good: good[:100],
        lambda good: good[: len(good) // 2],
        lambda good: good[:4096] + bytes(len(good) - 4096),
        lambda good: good.replace(b"CREATE TABLE users", b"CREATE TABLE luser"),
        lambda good: good.replace(b"anna", b"an\xff\xfe"),
        lambda good: good.replace(b'{"failures": 3}', b'{"failures": 3 '),
        lambda good: good.replace(fingerprint_of_dora(), b"f" * 64, 1),
        lambda good: (b"f" * 64).join(good.rsplit(fingerprint_of_dora(), 1)),
    ],
    ids=[
        "empty",
        "letter",
        "header",
        "half",
        "zeroed",
        "schema",
        "text",
        "counters",
        "one place",
        "the other",
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(
    damage: Callable[[bytes], bytes], path: Path, house: State
) -> None:
    filled(path, house)
    path.write_bytes(damage(path.read_bytes()))
    refused(path, StoreCorrupt)


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE keys SET fingerprint = upper(fingerprint)",
        "UPDATE users SET not_after = -1, not_before = 1",
        "DELETE FROM users WHERE name = 'dora'",
        "DROP TABLE attempts",
        "PRAGMA application_id = 7",
    ],
)
def test_a_file_that_makes_no_sense_is_refused(edit: str, path: Path, house: State) -> None:
    filled(path, house)
    with closing(sqlite3.connect(path)) as db:
        db.execute(edit)
        db.commit()
    refused(path, StoreCorrupt)


def test_a_newer_file_is_refused(path: Path, house: State) -> None:
    filled(path, house)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    assert "schema 99" in str(refused(path, StoreTooNew))


def test_a_newer_schema_that_is_only_in_the_log_is_refused(path: Path, house: State) -> None:
    """A later version migrated and was killed: the main file still looks old."""
    filled(path, house)
    crashed = path.parent / "crashed"
    crashed.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
        for name in ("state.db", "state.db-wal"):
            shutil.copy(path.with_name(name), crashed / name)
    assert int.from_bytes((crashed / "state.db").read_bytes()[60:64]) == 1
    refused(crashed / "state.db", StoreTooNew)


def test_a_log_without_its_file_is_refused(path: Path, house: State) -> None:
    """Else a device that has lost its file would be anybody's for the asking."""
    path.with_name("state.db-wal").write_bytes(b"something")
    refused(path, StoreCorrupt)


# ------------------------------------------------------------------------------- migrations


def test_an_older_file_is_migrated_and_a_copy_kept(
    path: Path, house: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, house)
    later = (*store.MIGRATIONS, ("ALTER TABLE users ADD COLUMN last_seen REAL",))
    with monkeypatch.context() as patch:
        patch.setattr(store, "MIGRATIONS", later)
        with closing(Store.open(path)) as migrated:
            assert (migrated.state, migrated.attempts) == (house, {"failures": 3})
            assert migrated.trail.verify() is None
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (2,)
    refused(path, StoreTooNew)
    copy = path.with_name("state.db.v1")
    assert copy.stat().st_mode & 0o777 == 0o600
    copy.replace(path)
    with closing(Store.open(path)) as old:
        assert (old.state, old.attempts) == (house, {"failures": 3})


def test_a_migration_that_fails_leaves_the_old_file(
    path: Path, house: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, house)
    broken = (*store.MIGRATIONS, ("CREATE TABLE more (x)", "INSERT INTO nowhere VALUES (1)"))
    with monkeypatch.context() as patch:
        patch.setattr(store, "MIGRATIONS", broken)
        with pytest.raises(StoreError):
            Store.open(path)
    with closing(Store.open(path)) as old:
        assert old.state == house
