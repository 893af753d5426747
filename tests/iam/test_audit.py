"""The audit trail is chained and bounded, and a change is found at its record."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from io import FileIO
from pathlib import Path

import pytest

from iam import Break, Event, State, Store, audit, openfile, salvage
from iam.errors import StoreCorrupt, StoreError, StoreTooNew


def event(number: int) -> Event:
    return Event(kind="attempt", boot="boot-1", monotonic=number, wall=9.5, hop_limit=0, user="é")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A store with ten events in ten commits, of which the last five are kept."""
    with closing(Store.open(path, keep_events=5)) as store:
        for number in range(1, 11):
            store.commit(State(), event(number))
        yield store


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def test_the_trail_keeps_the_newest_events_and_stays_verifiable(store: Store) -> None:
    records = list(store.audit.iterate())
    assert [record.seq for record in records] == [6, 7, 8, 9, 10]
    assert [record.event for record in records] == [event(n) for n in range(6, 11)]
    assert [record.previous for record in records[1:]] == [r.digest for r in records[:-1]]
    assert store.audit.head == (10, records[-1].digest)
    assert store.audit.verify() is None
    assert [record.seq for record in store.audit.iterate(8)] == [9, 10]
    assert list(store.audit.iterate(10)) == []


def test_a_restart_continues_the_chain_with_a_smaller_bound(store: Store, path: Path) -> None:
    store.close()
    with closing(Store.open(path, keep_events=2)) as again:
        again.commit(State(), event(11), event(12), event(13))
        assert [record.seq for record in again.audit.iterate()] == [12, 13]
        assert again.audit.verify() is None


def test_events_of_a_failed_commit_are_not_stored(store: Store) -> None:
    wrong = Event(kind="attempt", boot="b", monotonic=float("nan"), wall=1.0)
    with pytest.raises(ValueError, match="JSON"):
        store.commit(State(), event(11), wrong)
    assert store.audit.head[0] == 10
    assert store.audit.verify() is None


def test_every_flipped_byte_of_the_file_is_found_in_its_record(store: Store, path: Path) -> None:
    """Flips each byte of the body and digest of record 8 in the file."""
    store.close()
    good = path.read_bytes()
    (body,) = rows(path, "SELECT body FROM events WHERE seq = 8")
    (digest,) = rows(path, "SELECT digest FROM events WHERE seq = 8")
    assert isinstance(body, bytes)
    assert isinstance(digest, bytes)
    assert good.count(body + digest) == 1
    start = good.index(body + digest)
    with path.open("r+b", buffering=0) as file:
        for place in range(start, start + len(body) + len(digest)):
            for flip in (0x01, 0xFF):
                put(file, place, good[place] ^ flip)
                with openfile.read_audit(path) as found:
                    assert found.verify() == Break(8, "the record was changed")
            put(file, place, good[place])
    with openfile.read_audit(path) as found:
        assert found.verify() is None
    put_back = path.read_bytes()
    assert put_back == good


def put(file: FileIO, place: int, value: int) -> None:
    file.seek(place)
    file.write(bytes([value]))


def test_a_store_opened_with_a_flipped_byte_reports_its_record(store: Store, path: Path) -> None:
    store.close()
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"monotonic":8', b'"monotonic":9'))
    with closing(Store.open(path)) as again:
        assert again.audit.verify() == Break(8, "the record was changed")


@pytest.mark.parametrize("place", ["base", "head"])
def test_a_changed_end_of_the_trail_is_found(place: str, store: Store, path: Path) -> None:
    edit(path, f"UPDATE ends SET digest = zeroblob(32) WHERE place = '{place}'")
    found = {"base": Break(6, "the record was changed")}
    missing = Break(11, "the end of the trail is missing")
    assert store.audit.verify() == found.get(place, missing)


def test_a_damaged_page_raises_store_corrupt(store: Store, path: Path) -> None:
    store.commit(State(), *(replace(event(n), detail="d" * 250) for n in range(11, 16)))
    store.close()
    page = rows(path, "SELECT rootpage FROM sqlite_master WHERE name = 'events'")[0]
    assert isinstance(page, int)
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 100)
    with pytest.raises(StoreCorrupt), openfile.read_audit(path):
        pass


# ------------------------------------------------------------------------ concurrent readers


def test_latest_returns_only_the_newest_events(store: Store) -> None:
    assert [record.seq for record in store.audit.latest(2)] == [9, 10]
    assert [record.event for record in store.audit.latest(2)] == [event(9), event(10)]
    assert [record.seq for record in store.audit.latest(99)] == [6, 7, 8, 9, 10]
    assert store.audit.latest(0) == store.audit.latest(-1) == []


def everything(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_reading_a_closed_store_changes_no_file(store: Store, path: Path) -> None:
    head = store.audit.head
    store.close()
    before = everything(path.parent)
    with openfile.read_audit(path) as found:
        assert (found.head, found.verify()) == (head, None)
        assert [record.seq for record in found.iterate()] == [6, 7, 8, 9, 10]
        Store.open(path, keep_events=5).close()  # the reader does not block a writer
    assert everything(path.parent) == before


def test_a_reader_sees_one_snapshot_beside_a_writer(store: Store, path: Path) -> None:
    with openfile.read_audit(path) as found:
        store.commit(State(), *(event(n) for n in range(11, 30)))
        assert found.verify() is None
        assert [record.seq for record in found.latest(1)] == [10]
    with openfile.read_audit(path) as found:
        assert found.verify() is None
        assert found.head == store.audit.head


WRITER = """
import sys
from pathlib import Path
from iam import Event, State, Store

store = Store.open(Path(sys.argv[1]), keep_events=5)
print("open", flush=True)
for number in range(11, 100_000):
    store.commit(State(), Event(kind="attempt", boot="b", monotonic=number, wall=9.5))
"""


def test_the_trail_is_consistent_while_another_process_writes(store: Store, path: Path) -> None:
    """The writer appends and prunes between reads of the test, and is killed in the end."""
    store.close()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(audit.__file__).parents[1],
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        heads: set[int] = set()
        while len(heads) < 30:
            assert writer.poll() is None
            with openfile.read_audit(path) as found:
                assert found.verify() is None
                assert len(list(found.iterate())) == 5
                heads.add(found.head[0])
        writer.kill()
    with openfile.read_audit(path) as found:  # its write-ahead log still exists
        assert found.verify() is None
        assert found.head[0] >= max(heads)
    with closing(Store.open(path, keep_events=5)) as again:
        assert again.audit.verify() is None


def test_a_file_that_changes_while_it_is_read_is_read_again(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon starts, writes and stops while its stopped store is being read."""
    store.close()
    real, tries = salvage.copy_audit, []

    def disturbed(old: sqlite3.Connection, copy: sqlite3.Connection) -> None:
        real(old, copy)
        tries.append(path)
        if len(tries) < 3:
            with closing(Store.open(path, keep_events=5)) as again:
                again.commit(State(), event(11))
        if len(tries) == 1:
            raise sqlite3.DatabaseError("what was read did not fit together")

    monkeypatch.setattr(salvage, "copy_audit", disturbed)
    with openfile.read_audit(path) as found:
        assert (found.head[0], found.verify()) == (12, None)
    assert len(tries) == 3


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        (["PRAGMA application_id = 7"], StoreCorrupt),
        (["PRAGMA user_version = 99"], StoreTooNew),
        (["DROP TABLE events"], StoreCorrupt),
    ],
)
def test_reading_the_trail_of_an_invalid_store_is_refused(
    edits: list[str], why: type[StoreError], store: Store, path: Path
) -> None:
    store.close()
    edit(path, *edits)
    with pytest.raises(why) as caught, openfile.read_audit(path):
        pass
    assert caught.value.advice


def test_reading_the_trail_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError), openfile.read_audit(tmp_path / "nothing.db"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("store")
def test_an_exception_of_the_caller_is_propagated(path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), openfile.read_audit(path):
        raise ValueError("mine")


def rows(path: Path, query: str) -> list[object]:
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute(query)]


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM events WHERE seq = 7", Break(7, "the record is missing")),
        ("DELETE FROM events WHERE seq = 6", Break(6, "the record is missing")),
        ("DELETE FROM events WHERE seq = 10", Break(10, "the end of the trail is missing")),
        ("DELETE FROM events", Break(6, "the end of the trail is missing")),
        (
            "UPDATE events SET digest = zeroblob(32) WHERE seq = 9",
            Break(9, "the record was changed"),
        ),
        (
            """UPDATE events SET (body, digest) =
            (SELECT body, digest FROM events WHERE seq = 6) WHERE seq = 9""",
            Break(9, "the record was changed"),
        ),
        (
            "INSERT INTO events SELECT 11, body, digest FROM events WHERE seq = 10",
            Break(11, "the record was changed"),
        ),
    ],
)
def test_records_removed_replaced_or_added_are_found(
    statement: str, found: Break, store: Store, path: Path
) -> None:
    edit(path, statement)
    assert store.audit.verify() == found


@pytest.mark.parametrize("forged", [b"", b"[]", b"{}", b"\xff", b'{"seq":8}'])
def test_a_malformed_record_is_found(forged: bytes, store: Store, path: Path) -> None:
    digest = sha256(forged).hexdigest()
    edit(path, f"UPDATE events SET body = x'{forged.hex()}', digest = x'{digest}' WHERE seq = 8")
    assert store.audit.verify() == Break(8, "the record was changed")
    with pytest.raises(StoreCorrupt):
        list(store.audit.iterate())


def test_a_changed_record_with_a_new_digest_breaks_the_next_record(
    store: Store, path: Path
) -> None:
    (body,) = rows(path, "SELECT body FROM events WHERE seq = 8")
    assert isinstance(body, bytes)
    forged = body.replace(b"9.5", b"7.5")
    digest = sha256(forged).hexdigest()
    edit(path, f"UPDATE events SET body = x'{forged.hex()}', digest = x'{digest}' WHERE seq = 8")
    assert store.audit.verify() == Break(9, "the record was changed")


def test_unreadable_records_raise_store_corrupt(store: Store, path: Path) -> None:
    edit(path, "UPDATE events SET body = x'ff7b' WHERE seq = 8")
    with pytest.raises(StoreCorrupt):
        list(store.audit.iterate())
    assert store.audit.verify() == Break(8, "the record was changed")
    edit(path, "DELETE FROM ends")
    with pytest.raises(StoreCorrupt):
        store.audit.verify()


def test_long_fields_of_an_event_are_truncated(store: Store) -> None:
    long = Event(kind="attempt", boot="b", monotonic=1, wall=1, address="x" * 100_000)
    store.commit(State(), long)
    (record,) = store.audit.iterate(10)
    assert record.event.address == "x" * 256
    assert store.audit.verify() is None


def test_iterate_includes_events_appended_meanwhile(store: Store) -> None:
    reader = store.audit.iterate()
    assert next(reader).seq == 6
    store.commit(State(), *(event(n) for n in range(11, 14)))  # prunes 6, 7 and 8
    assert [record.seq for record in reader][-1] == 13
