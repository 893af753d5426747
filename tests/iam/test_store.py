"""The guarantees of the store, and the files that it refuses to change."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam import Key, Rules, State, Store, StoreError, User, mark, schema, store
from iam import changes as to
from iam.errors import StoreBusy, StoreCorrupt, StoreTooNew, StoreWriteFailed
from iam.model import Invite
from iam.rights import Seal
from tests.iam.store_files import HELLO, Fp, filled, traced


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def files(folder: Path) -> dict[str, bytes]:
    """The content of the store's files, without the lock and SQLite's shared-memory index."""
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if not file.name.endswith((".lock", "-shm"))
    }


def refused(path: Path, why: type[StoreError]) -> StoreError:
    before = files(path.parent)
    with pytest.raises(why) as caught:
        Store.open(path)
    assert caught.value.advice
    assert files(path.parent) == before
    return caught.value


printable = st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" ")
texts = st.text(printable, max_size=64)
names = st.text(st.characters(codec="utf-8", categories=["L", "Nd", "Mn"]), max_size=64)
times = st.none() | st.floats(0, 1e10)
ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
some_keys = st.sets(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=3)


@st.composite
def states(draw: st.DrawFn) -> State:
    taken: set[str] = set()
    users = []
    for name in draw(st.sets(names.filter(bool), max_size=5)):
        prints = sorted(draw(some_keys) - taken)
        taken.update(prints)
        keys = tuple(
            Key(
                fp,
                draw(texts),
                draw(texts),
                draw(st.booleans()),
                draw(st.floats(0, 1e10)),
                draw(st.just("") | ids),
            )
            for fp in prints
        )
        end = draw(times)
        users.append(User(name, draw(texts.filter(bool)), keys, draw(texts), None, end, 1.5))
    inviters = st.sampled_from(["", *(user.name for user in users)])
    invites = [
        Invite(
            one,
            draw(names.filter(bool)),
            draw(texts.filter(bool)),
            draw(st.floats(0, 1e10)),
            draw(st.integers(1, 16)),
            draw(st.floats(0, 1e10)),
            draw(inviters),
            draw(st.just("") | st.just("a" * 64)),
            draw(times),
            draw(st.integers(0, 16)),
        )
        for one in draw(st.sets(ids, max_size=3))
    ]
    return State.of(users, invites)


@settings(max_examples=50)
@given(st.lists(states(), min_size=1, max_size=3))
def test_a_stored_state_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, lives: list[State]
) -> None:
    path = tmp_path_factory.mktemp("round") / "state.db"
    for state in lives:  # the states are unrelated and reuse names and keys
        with closing(Store.open(path)) as store:
            store.commit(state, attempts={"n": len(state.users), "until": 1.5})
            assert store.state == state
        with closing(Store.open(path)) as store:
            assert store.state == state
            assert dict(store.state.user_name_by_key) == dict(state.user_name_by_key)
            assert store.attempts == {"n": len(state.users), "until": 1.5}


def test_all_files_are_private(path: Path, house: State) -> None:
    with closing(Store.open(path)) as store:
        store.commit(house)
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_every_commit_is_synced_to_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced(monkeypatch) as (db, _), closing(Store.open(path)):
        assert db[-1].execute("PRAGMA synchronous").fetchone() == (2,)
        assert db[-1].execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_only_changed_rows_are_written(
    path: Path, rules: Rules, fp: Fp, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = State.of(User(f"u{n}", "guest", (Key(fp(n)),)) for n in range(200))
    filled(path, crowd)
    with traced(monkeypatch) as (db, statements), closing(Store.open(path)) as store:
        for change, rows in (
            (to.set_user(crowd, None, "u7", display_name="Seven", rules=rules), 2),
            (to.add_key(store.state, None, "u7", Key(fp("new")), rules=rules), 3),
            (to.rename(store.state, None, "u8", "eight", rules=rules), 8),
        ):
            before = db[-1].total_changes
            store.commit(change)
            assert db[-1].total_changes - before <= rows
        statements.clear()
        store.commit(store.state)
        assert statements == []


def test_keys_are_written_in_the_order_of_their_users(path: Path, fp: Fp) -> None:
    """So that a start reads a user and its key one after the other."""
    users = [User(f"u{n}", "guest", (Key(fp(n)),)) for n in range(200)]
    filled(path, State.of(users))
    with closing(sqlite3.connect(path)) as db:
        owners = [name for (name,) in db.execute("SELECT user FROM keys ORDER BY rowid")]
    assert owners == [user.name for user in users]


def test_watchers_are_notified_after_a_change_is_durable(
    path: Path, house: State, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[State, State]] = []
    with closing(Store.open(path)) as store:
        empty = store.state

        def broken(_old: State, _new: State) -> None:
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
    """Check that a failed commit changes nothing and that the next commit works."""
    old, attempts, head = store.state, store.attempts, store.audit.head
    heard: list[State] = []
    store.subscribe(lambda _, after: heard.append(after))
    with pytest.raises(StoreWriteFailed) as caught:
        store.commit(new, HELLO, attempts={"failures": 9})
    assert "disk" in caught.value.advice
    assert store.state is old
    assert (store.attempts, store.audit.head, heard) == (attempts, head, [])
    again()
    store.commit(new, HELLO)
    assert (store.state, heard) == (new, [new])
    assert store.audit.verify() is None


def test_a_read_only_store_refuses_a_commit_and_stays_usable(
    path: Path, house: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    with traced(monkeypatch) as (db, _), closing(Store.open(path)) as store:
        db[-1].execute("PRAGMA query_only = ON")
        fails_and_lives(store, house, again=lambda: db[-1].execute("PRAGMA query_only = OFF"))


def test_a_full_database_refuses_a_commit_and_stays_usable(
    path: Path, fp: Fp, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = State.of(User(f"u{n}", "guest", (Key(fp(n)),)) for n in range(200))
    with traced(monkeypatch) as (db, _), closing(Store.open(path)) as store:
        (pages,) = db[-1].execute("PRAGMA page_count").fetchone()
        db[-1].execute(f"PRAGMA max_page_count = {pages}")
        fails_and_lives(
            store, crowd, again=lambda: db[-1].execute("PRAGMA max_page_count = 1000000")
        )


@pytest.mark.parametrize("room", [0, 1, 24, 4000, 9000])
def test_a_full_disk_in_the_middle_of_a_write_changes_nothing(
    path: Path, house: State, room: int
) -> None:
    """The kernel limits the file size, so the log ends in the middle of a frame."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(Store.open(path)) as store:
        store.commit(store.state, HELLO)
        size = path.with_name("state.db-wal").stat().st_size
        # SQLite's shared-memory index (32 KiB) exists by now and does not grow.
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
def test_an_error_of_the_folder_is_not_reported_as_damage(obstacle: str, path: Path) -> None:
    """The advice to restore a copy would be wrong here."""
    path.with_name(obstacle).mkdir()
    with pytest.raises(StoreError) as caught:
        Store.open(path)
    assert not isinstance(caught.value, StoreCorrupt)
    assert "permissions" in caught.value.advice
    path.with_name(obstacle).rmdir()
    Store.open(path).close()


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
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


def test_the_error_of_a_second_writer_names_the_process_of_the_first(
    path: Path, house: State
) -> None:
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
    with closing(Store.open(path)) as mine:  # the lock ended with its process
        assert mine.state == house
        refused(path, StoreBusy)
    mine.close()
    Store.open(path).close()


def test_a_refused_store_releases_the_lock(path: Path) -> None:
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    mark.path_of(path).unlink()
    refused(path, StoreTooNew)
    path.unlink()
    Store.open(path).close()


# ---------------------------------------------------------------- files that are not changed


def say_newer(path: Path) -> None:
    """Give the mark a later version as well; otherwise the number counts as damage."""
    newer = mark.Mark(path, schema=99)
    newer.write([], Seal(total=0, serial=1, had_owner=False), (0, "0" * 64), 0.0)


def test_a_newer_file_is_refused(path: Path, house: State) -> None:
    filled(path, house)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    say_newer(path)
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
    version = int.from_bytes((crashed / "state.db").read_bytes()[60:64])
    assert version == len(schema.MIGRATIONS)
    refused(crashed / "state.db", StoreTooNew)


# ------------------------------------------------------------------------------- migrations


# The schema of the first version, as a literal so that it does not change with the code.
FIRST_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1212567108;
PRAGMA user_version = 1;
CREATE TABLE users (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, display_name TEXT NOT NULL,
    not_before REAL, not_after REAL, created REAL NOT NULL) STRICT;
CREATE TABLE keys (
    fingerprint TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users (name),
    name TEXT NOT NULL, method TEXT NOT NULL,
    verified INTEGER NOT NULL, added REAL NOT NULL) STRICT;
CREATE INDEX keys_of_user ON keys (user);
CREATE TABLE attempts (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL);
INSERT INTO attempts VALUES (1, '{"failures": 3}');
CREATE TABLE events (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL);
CREATE TABLE ends (place TEXT PRIMARY KEY, seq INTEGER NOT NULL, digest BLOB NOT NULL);
INSERT INTO ends VALUES ('base', 0, zeroblob(32)), ('head', 0, zeroblob(32));
INSERT INTO users VALUES ('anna', 'owner', 'Anna', NULL, NULL, 1.0);
INSERT INTO users VALUES ('bert', 'guest', '', 2.0, 9e9, 2.0);
"""
FIRST_STATE = State.of(
    [
        User(
            "anna",
            "owner",
            (Key("a" * 64, "phone", "compare", True, 1.0),),
            "Anna",
            None,
            None,
            1.0,
        ),
        User("bert", "guest", (), "", 2.0, 9e9, 2.0),
    ]
)


@pytest.fixture
def first(path: Path) -> Path:
    """A store of the first version."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(FIRST_SCHEMA)
        key = ("a" * 64, "anna", "phone", "compare", 1, 1.0)
        db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", key)
        db.commit()
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_a_file_of_the_first_version_is_migrated_and_a_copy_kept(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eve = Invite("1" * 32, "eve", "guest", 9.0, inviter="anna")
    with closing(Store.open(first)) as store:
        assert (store.state, store.attempts) == (FIRST_STATE, {"failures": 3})
        assert (dict(store.seen), store.time_floor) == ({}, 0.0)
        assert store.audit.verify() is None
        store.commit(store.state.with_invite(eve), HELLO)
    with closing(Store.open(first)) as store:
        assert store.state == State.of(FIRST_STATE.users.values(), [eve])
    copy = first.with_name("state.db.v1")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert (version(first), version(copy)) == (len(schema.MIGRATIONS), 1)
    with monkeypatch.context() as patch:  # the first version accepts the copy
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        refused(first, StoreTooNew)
    mark.path_of(first).unlink()
    copy.replace(first)
    with closing(Store.open(first)) as store:
        assert store.state == FIRST_STATE


def test_a_failed_migration_leaves_the_old_file(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (*schema.MIGRATIONS, ("CREATE TABLE more (x)", "INSERT INTO nowhere VALUES (1)"))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", broken)
        with pytest.raises(StoreError):
            Store.open(first)
    assert version(first) == 1
    with closing(Store.open(first)) as store:
        assert store.state == FIRST_STATE
