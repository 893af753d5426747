"""A store whose writer is killed at any point has the old or the new state.

The writer is killed by SIGKILL before each statement, by the kernel's signal in the middle of a
write, or by a loss of power that leaves any part of the write-ahead log.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from iam import Access, Event, Key, Rules, State, Store, User, schema, store
from iam import changes as to
from iam.mark import Mark
from iam.model import Invite
from iam.recovery import Reason
from iam.storefile import StoreFile

pytestmark = pytest.mark.timeout(600)  # some tests start a hundred processes, one after the other

Fp = Callable[[object], str]
EVENT = Event(kind="paired", boot="b", monotonic=1.0, wall=2.0, user="eve")
RULES = Rules(Access().roles)
ANNA = sha256(b"anna").hexdigest()

# argv: path, change, the number of the statement before which or of the byte at which the process
# is killed, and the key whose use is recorded.
WRITER = """
import os, resource, signal, sqlite3, sys
from pathlib import Path
from iam import Access, Event, Key, Rules, State, Store, User, changes, schema
from iam.model import Invite

path, change_name, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
real, seen = sqlite3.connect, 0
rules = Rules(Access().roles)

def tick(statement):
    global seen
    seen += 1
    if seen == last and not change_name.endswith("bytes"):
        os.kill(os.getpid(), signal.SIGKILL)

def connect(*args, **options):
    db = real(*args, **options)
    db.set_trace_callback(tick)
    return db

def swap(state):
    users = [user for user in state.users.values() if user.name != "dora"]
    return State.of([*users, User("eve", "guest", (Key("e" * 64), *state.users["dora"].keys))])

def invite(state):
    new = Invite("2" * 32, "finn", "user", 100.0, uses=3)
    bert = Access().subject(state, state.users["bert"].keys[0].fingerprint, 50.0)
    return changes.add_invite(state, bert, new, now=50.0, rules=rules)

def redeem(state):
    return changes.redeem(state, "1" * 32, fingerprint="e" * 64, now=50.0, rules=rules)[0]

def withdraw(state):
    return changes.remove_user(state, None, "bert", rules=rules)

CHANGES = {"swap": swap, "invite": invite, "redeem": redeem, "withdraw": withdraw}

sqlite3.connect = connect
book = Store.open(path)
change = CHANGES.get(change_name.removesuffix(" bytes"))
anna = sys.argv[4]
if change:
    seen = 0
    if change_name.endswith("bytes"):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (last, last))
    event = Event(kind="paired", boot="b", monotonic=1.0, wall=2.0, user="eve")
    book.note_seen(anna, 60.0)
    book.note_time(60.0)
    book.commit(change(book.state), event, event, attempts={"failures": 0})
elif change_name == "flush":
    seen = 0
    for now in (60.0, 4000.0):
        book.note_seen(anna, now)
        book.note_time(now)
    book.flush_seen()
else:
    book.close()
os._exit(0)
"""
CHANGE_NAMES = ("swap", "invite", "redeem", "withdraw")


def run_writer(path: Path, change_name: str, last: int) -> bool:
    """Run the writer; True if it ended by itself, False if it was killed as intended."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), change_name, str(last), ANNA],
        cwd=Path(store.__file__).parents[1],
        env={"PATH": os.environ["PATH"]},  # without coverage, which a killed process cannot report
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL, -signal.SIGXFSZ), done.stderr.decode()
    return done.returncode == 0


@pytest.fixture
def old(house: State) -> State:
    """The household, and an invite by bert for two more."""
    return State.of(
        house.users.values(), [Invite("1" * 32, "eve", "guest", 100.0, 2, inviter="bert")]
    )


@pytest.fixture
def before(tmp_path: Path, old: State) -> Path:
    """The store on disk from which each writer starts."""
    folder = tmp_path / "before"
    folder.mkdir()
    with closing(Store.open(folder / "state.db")) as book:
        book.commit(old, EVENT, attempts={"failures": 3})
    return folder


def after(old: State, change_name: str) -> State:
    """The state after the change of the writer, built independently."""
    users, invites = dict(old.users), dict(old.invites)
    if change_name == "swap":
        users["eve"] = User("eve", "guest", (Key("e" * 64), *users.pop("dora").keys))
        invites.clear()
    elif change_name == "invite":
        invites["2" * 32] = Invite("2" * 32, "finn", "user", 100.0, uses=3, inviter="bert")
    elif change_name == "redeem":
        key = Key("e" * 64, method="invite", added=50.0, invite="1" * 32)
        users["eve"] = User("eve", "guest", (key,), created=50.0)
        invites["1" * 32] = Invite("1" * 32, "eve", "guest", 100.0, 1, inviter="bert", used=1)
    elif change_name == "withdraw":
        del users["bert"]
        invites.clear()
    return State.of(users.values(), invites.values())


def is_old_or_new(path: Path, old: State, new: State) -> bool:
    """Check that the store has the old or the new state completely; True for the new state."""
    with closing(Store.open(path)) as book:
        noted = (dict(book.seen), book.time_floor)
        found = (book.state, dict(book.attempts), book.audit.head[0], noted)
        assert book.audit.verify() is None
        assert found in (
            (old, {"failures": 3}, 1, ({}, 0.0)),
            (new, {"failures": 0}, 3, ({ANNA: 60.0}, 60.0)),
        )
        book.commit(book.state, EVENT)  # the store can be written
        return found[0] != old


def killed_stores(before: Path, tmp_path: Path, change_name: str, points: range) -> list[Path]:
    """One store per point at which its writer was killed; the last writer ended by itself."""
    found = []
    for last in points:
        folder = tmp_path / f"life-{last}"
        shutil.copytree(before, folder)
        found.append(folder / "state.db")
        if run_writer(found[-1], change_name, last):
            return found
    pytest.fail("the writer never came to its end")


@pytest.mark.parametrize("change_name", CHANGE_NAMES)
def test_a_kill_before_any_statement_of_a_commit_leaves_one_state(
    change_name: str, before: Path, tmp_path: Path, old: State
) -> None:
    stores = killed_stores(before, tmp_path, change_name, range(1, 100))
    assert len(stores) > 10
    outcomes = [is_old_or_new(path, old, after(old, change_name)) for path in stores]
    assert outcomes == sorted(outcomes)  # the last statements truncate the log after the commit
    assert outcomes.count(True) < 8
    assert outcomes[-1]


@pytest.mark.parametrize("change_name", CHANGE_NAMES)
def test_a_kill_in_the_middle_of_a_write_leaves_one_state(
    change_name: str, before: Path, tmp_path: Path, old: State
) -> None:
    step = 2003 if change_name == "swap" else 4001
    stores = killed_stores(before, tmp_path, f"{change_name} bytes", range(1, 200_000, step))
    assert len(stores) > 10
    outcomes = [is_old_or_new(path, old, after(old, change_name)) for path in stores]
    assert outcomes == sorted(outcomes)
    assert outcomes[-1]


def test_a_kill_while_last_seen_times_are_written_changes_no_rights(
    before: Path, tmp_path: Path, old: State
) -> None:
    """Only these times can be lost."""
    stores = killed_stores(before, tmp_path, "flush", range(1, 100))
    assert len(stores) > 4
    noted = []
    for path in stores:
        with closing(Store.open(path)) as book:
            assert (book.state, book.attempts) == (old, {"failures": 3})
            noted.append((dict(book.seen), book.time_floor))
    assert noted == [({}, 0.0)] * (len(stores) - 1) + [({ANNA: 4000.0}, 4000.0)]


def test_a_kill_while_the_store_is_created_leaves_a_usable_store(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    stores = killed_stores(nothing, tmp_path, "make", range(1, 200))
    assert len(stores) > 10
    for path in stores:
        with closing(Store.open(path)) as book:
            assert book.state == State()


@pytest.mark.usefixtures("old")
def test_a_kill_while_an_old_copy_is_replaced_restores_no_rights(
    before: Path, tmp_path: Path
) -> None:
    """No revoked right returns, and the file that was found is kept."""
    path = before / "state.db"
    found = path.read_bytes()
    with closing(Store.open(path)) as book:
        book.commit(to.remove_user(book.state, None, "bert", rules=RULES), EVENT)
        new = book.state
    path.write_bytes(found)
    stores = killed_stores(before, tmp_path, "make", range(1, 200))
    assert len(stores) > 40
    for one in stores:
        with closing(Store.open(one)) as book:
            assert book.state == new
            assert book.recovery is not None
            assert book.recovery.reason is Reason.OLDER
            assert book.had_owner
        assert one.with_name("state.db.aside").read_bytes() == found


def test_a_kill_during_a_migration_is_continued_at_the_next_start(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    with closing(sqlite3.connect(before / "state.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        for statement in schema.MIGRATIONS[0]:
            db.execute(statement)
        db.execute("INSERT INTO users VALUES ('anna', 'owner', '', NULL, NULL, 0.0)")
    stores = killed_stores(before, tmp_path, "migrate", range(1, 200))
    assert len(stores) > 20
    for path in stores:
        assert run_writer(path, "migrate", 0)  # continues the migration
        with closing(Store.open(path)) as book:
            assert book.state == State.of([User("anna", "owner")])
        with closing(sqlite3.connect(path.with_name("state.db.v1"))) as copy:
            assert copy.execute("PRAGMA user_version").fetchone() == (1,)
            assert copy.execute("SELECT name FROM users").fetchall() == [("anna",)]


def test_loss_of_power_with_any_part_of_the_log_leaves_one_state(
    before: Path, tmp_path: Path, old: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power is lost between the commit and the truncation of the log."""
    monkeypatch.setattr(StoreFile, "checkpoint", lambda _file: None)
    monkeypatch.setattr(Mark, "append", lambda *_: False)
    monkeypatch.setattr(Mark, "write", lambda *_: None)
    new, _ = to.redeem(old, "1" * 32, fingerprint="e" * 64, now=50.0, rules=RULES)
    with closing(Store.open(before / "state.db")) as book:
        book.note_seen(ANNA, 60.0)
        book.note_time(60.0)
        book.commit(new, EVENT, EVENT, attempts={"failures": 0})
        main = (before / "state.db").read_bytes()
        log = (before / "state.db-wal").read_bytes()
    monkeypatch.undo()
    outcomes = []
    for number, size in enumerate([*range(0, len(log), 997), len(log)]):
        path = tmp_path / f"cut-{number}" / "state.db"
        path.parent.mkdir()
        path.write_bytes(main)
        path.with_name("state.db-wal").write_bytes(log[:size])
        outcomes.append(is_old_or_new(path, old, new))
    assert outcomes == sorted(outcomes)
    assert outcomes[0] < outcomes[-1]
