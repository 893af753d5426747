"""Behaviour 32: the writer is stopped anywhere, and the store holds the old or the new state.

Three ways to die: SIGKILL before each statement, the kernel's signal in the middle of a write, and
a power cut that leaves any part of the write-ahead log.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from iam import Event, Key, State, Store, User, store

Fp = Callable[[object], str]
EVENT = Event(kind="paired", boot="b", monotonic=1.0, wall=2.0, user="eve")

# argv: path, wish, and the number of the statement before which, or of the byte at which, to die.
WRITER = """
import os, resource, signal, sqlite3, sys
from pathlib import Path
from iam import Event, Key, State, Store, User, store

path, wish, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
real, seen = sqlite3.connect, 0

def tick(statement):
    global seen
    seen += 1
    if seen == last and wish != "bytes":
        os.kill(os.getpid(), signal.SIGKILL)

def connect(*args, **options):
    db = real(*args, **options)
    db.set_trace_callback(tick)
    return db

sqlite3.connect = connect
if wish == "migrate":
    more = ("ALTER TABLE users ADD COLUMN last_seen REAL", "UPDATE users SET last_seen = 1")
    store.MIGRATIONS = (*store.MIGRATIONS, more)
book = Store.open(path)
if wish in ("commit", "bytes"):
    seen = 0
    if wish == "bytes":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (last, last))
    users = [user for user in book.state.users.values() if user.name != "dora"]
    eve = User("eve", "guest", (Key("e" * 64), *book.state.users["dora"].keys))
    event = Event(kind="paired", boot="b", monotonic=1.0, wall=2.0, user="eve")
    book.commit(State.of([*users, eve]), event, event, attempts={"failures": 0})
else:
    book.close()
os._exit(0)
"""


def run_writer(path: Path, wish: str, last: int) -> bool:
    """Run it; True if it came to its end, False if it was killed as it should."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), wish, str(last)],
        cwd=Path(store.__file__).parents[1],
        env={"PATH": os.environ["PATH"]},  # nobody measures it: it has no end at which to report
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL, -signal.SIGXFSZ), done.stderr.decode()
    return done.returncode == 0


@pytest.fixture
def before(tmp_path: Path, house: State) -> Path:
    """A store on disk to start each life from."""
    folder = tmp_path / "before"
    folder.mkdir()
    with closing(Store.open(folder / "state.db")) as book:
        book.commit(house, EVENT, attempts={"failures": 3})
    return folder


def after(house: State) -> State:
    users = {**house.users}
    eve = User("eve", "guest", (Key("e" * 64), *users.pop("dora").keys))
    return State.of([*users.values(), eve])


def is_old_or_new(path: Path, house: State) -> bool:
    """Opens and holds all of the old or all of the new, which is what True means."""
    with closing(Store.open(path)) as book:
        found = (book.state, dict(book.attempts), book.trail.head[0])
        assert book.trail.verify() is None
        assert found in ((house, {"failures": 3}, 1), (after(house), {"failures": 0}, 3))
        book.commit(book.state, EVENT)  # and it can be written
        return found[0] != house


def lives(before: Path, tmp_path: Path, wish: str, points: range) -> list[Path]:
    """One store per point, each written by a writer that died there; the last one came through."""
    found = []
    for last in points:
        folder = tmp_path / f"life-{last}"
        shutil.copytree(before, folder)
        found.append(folder / "state.db")
        if run_writer(found[-1], wish, last):
            return found
    pytest.fail("the writer never came to its end")


def test_killed_before_any_statement_of_a_commit(
    before: Path, tmp_path: Path, house: State
) -> None:
    stores = lives(before, tmp_path, "commit", range(1, 100))
    assert len(stores) > 10
    assert [is_old_or_new(path, house) for path in stores] == [False] * (len(stores) - 1) + [True]


def test_killed_in_the_middle_of_a_write(before: Path, tmp_path: Path, house: State) -> None:
    stores = lives(before, tmp_path, "bytes", range(1, 200_000, 2003))
    assert len(stores) > 10
    outcomes = [is_old_or_new(path, house) for path in stores]
    assert outcomes == sorted(outcomes)
    assert outcomes[-1]


def test_killed_while_the_store_is_made(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    stores = lives(nothing, tmp_path, "make", range(1, 100))
    assert len(stores) > 10
    for path in stores:
        with closing(Store.open(path)) as book:
            assert book.state == State()


def test_killed_while_it_is_migrated(before: Path, tmp_path: Path, house: State) -> None:
    stores = lives(before, tmp_path, "migrate", range(1, 100))
    assert len(stores) > 10
    for path in stores:
        assert run_writer(path, "migrate", 0)  # goes on from wherever it was
        with closing(Store.open(path.with_name("state.db.v1"))) as copy:
            assert copy.state == house


def test_a_power_cut_leaves_any_part_of_the_log(before: Path, tmp_path: Path, house: State) -> None:
    with closing(Store.open(before / "state.db")) as book:
        book.commit(after(house), EVENT, EVENT, attempts={"failures": 0})
        main = (before / "state.db").read_bytes()
        log = (before / "state.db-wal").read_bytes()
    outcomes = []
    for number, size in enumerate([*range(0, len(log), 997), len(log)]):
        path = tmp_path / f"cut-{number}" / "state.db"
        path.parent.mkdir()
        path.write_bytes(main)
        path.with_name("state.db-wal").write_bytes(log[:size])
        outcomes.append(is_old_or_new(path, house))
    assert outcomes == sorted(outcomes)
    assert outcomes[0] < outcomes[-1]
