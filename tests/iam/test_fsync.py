"""A commit that was reported as failed because of an fsync is not in the store after a restart.

SQLite writes a commit to its log and then syncs it. If the sync fails, the commit is reported as
failed, and is in the log: the next start would find it. The process ends at once after the
report, as if it had been killed, and its files are opened without the fault.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from iam import Key, State, Store, User
from iam.errors import StoreWriteFailed
from iam.recovery import Reason
from iam.storefile import StoreFile
from tests.iam.store_files import traced

pytestmark = pytest.mark.needs_tool("cc")
ROOT = Path(__file__).parents[2]

# argv: the library, the path, the change, the number of syncs that succeed, the number that fail
# after that, and options: "log" for a log that is not empty, "more" for another change afterwards
WRITER = """
import ctypes, logging, os, sys
from pathlib import Path
from iam import Access, Event, Key, Rules, Store, User, changes
from iam.errors import StoreWriteFailed

logging.disable(logging.CRITICAL)
fault = ctypes.CDLL(sys.argv[1])
path, what, skip, times = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
rules = Rules(Access().roles)
store = Store.open(path)
if what == "add":
    new = changes.add_user(store.state, None, User("zoe", "owner", (Key("e" * 64),)), rules=rules)
else:
    new = changes.remove_user(store.state, None, "bert", rules=rules)
if "log" in sys.argv[6:]:
    store.commit(store.state, Event(kind="hello", boot="b", monotonic=1.0, wall=2.0))
fault.arm(skip, times)
try:
    store.commit(new)
    output = "stored"
except StoreWriteFailed:
    output = "failed"
if "more" in sys.argv[6:]:
    fault.arm(0, 0)
    store.commit(changes.set_user(store.state, None, "anna", display_name="Anna", rules=rules))
print(output, flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def fault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("fault") / "sync_fault.so"
    source = Path(__file__).with_name("sync_fault.c")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True
    )
    return library


def life(fault: Path, path: Path, house: State, *args: object) -> str:
    """Make a store, and write to it in a process whose disk fails."""
    path.parent.mkdir()
    with closing(Store.open(path)) as store:
        store.commit(house)
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(fault), str(path), *map(str, args)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LD_PRELOAD": str(fault)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("what", ["add", "remove"])
@pytest.mark.parametrize("times", [1, 1000], ids=["once", "from then on"])
@pytest.mark.parametrize("log", ["", "log"], ids=["empty log", "used log"])
def test_a_commit_reported_as_failed_is_absent_after_a_restart(
    what: str, times: int, log: str, fault: Path, tmp_path: Path, house: State
) -> None:
    output = []
    for skip in range(12):
        path = tmp_path / str(skip) / "state.db"
        output.append(life(fault, path, house, what, skip, times, log))
        with closing(Store.open(path)) as store:
            if output[-1] == "stored":
                assert (store.state == house) is False
                assert ("zoe" in store.state.users) is (what == "add")
                assert ("bert" in store.state.users) is (what == "add")
                assert store.recovery is None
            elif store.recovery is None:
                assert store.state == house
            else:  # the disk refused the undo: only the rights in both states are in force
                assert store.recovery.reason is Reason.FAILED_WRITE
                assert times == 1000
                assert "zoe" not in store.state.users
                assert set(store.state.users) >= set(house.users) - {"bert"}
            assert store.audit.verify() is None
    assert "failed" in output
    assert output[-1] == "stored"


def test_the_next_change_does_not_include_a_failed_one(
    fault: Path, tmp_path: Path, house: State
) -> None:
    path = tmp_path / "device" / "state.db"
    assert life(fault, path, house, "add", 0, 1, "log", "more") == "failed"
    with closing(Store.open(path)) as store:
        assert store.state.users["anna"].display_name == "Anna"
        assert "zoe" not in store.state.users
        assert store.recovery is None


FAIL_AT_COMMIT = (
    "CREATE TEMP TABLE parents (id INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE children (id INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TEMP TRIGGER failing AFTER INSERT ON users BEGIN INSERT INTO children VALUES (1); END",
)


def test_a_failed_change_is_undone_before_the_next_change(
    tmp_path: Path, house: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is truncated before the next statement is written; no disk fails here."""

    def failing(_file: StoreFile) -> None:
        raise OSError(errno.EIO, "Input/output error")

    new = house.replaced(None, User("zoe", "guest", (Key("e" * 64),)))
    with traced(monkeypatch) as (db, done), closing(Store.open(tmp_path / "state.db")) as store:
        store.commit(house)
        for statement in FAIL_AT_COMMIT:
            db[-1].execute(statement)
        with monkeypatch.context() as patch:
            patch.setattr(StoreFile, "checkpoint", failing)
            with pytest.raises(StoreWriteFailed):
                store.commit(new)
        assert "may hold a change" in store.fault
        db[-1].execute("DROP TRIGGER failing")
        done.clear()
        store.commit(new)
        assert done.index("PRAGMA wal_checkpoint(TRUNCATE)") < done.index("BEGIN IMMEDIATE")
        assert store.fault == ""
