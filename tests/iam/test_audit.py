"""The audit trail: chained, bounded, and telling where it was changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from iam import Break, Event, State, Store
from iam.errors import StoreCorrupt


def event(number: int) -> Event:
    return Event(kind="attempt", boot="boot-1", monotonic=number, wall=9.5, hop_limit=0, user="é")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def trail(path: Path) -> Iterator[Store]:
    """Ten events, of which the last five are kept, each in a commit of its own."""
    with closing(Store.open(path, keep_events=5)) as store:
        for number in range(1, 11):
            store.commit(State(), event(number))
        yield store


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def test_it_keeps_the_newest_and_stays_verifiable(trail: Store) -> None:
    records = list(trail.trail.iterate())
    assert [record.seq for record in records] == [6, 7, 8, 9, 10]
    assert [record.event for record in records] == [event(n) for n in range(6, 11)]
    assert [record.previous for record in records[1:]] == [r.digest for r in records[:-1]]
    assert trail.trail.head == (10, records[-1].digest)
    assert trail.trail.verify() is None
    assert [record.seq for record in trail.trail.iterate(8)] == [9, 10]
    assert list(trail.trail.iterate(10)) == []


def test_a_restart_goes_on_with_the_chain_and_a_smaller_bound(trail: Store, path: Path) -> None:
    trail.close()
    with closing(Store.open(path, keep_events=2)) as store:
        store.commit(State(), event(11), event(12), event(13))
        assert [record.seq for record in store.trail.iterate()] == [12, 13]
        assert store.trail.verify() is None


def test_an_event_of_a_failed_commit_leaves_no_trace(trail: Store) -> None:
    wrong = Event(kind="attempt", boot="b", monotonic=float("nan"), wall=1.0)
    with pytest.raises(ValueError, match="JSON"):
        trail.commit(State(), event(11), wrong)
    assert trail.trail.head[0] == 10
    assert trail.trail.verify() is None


def test_every_flipped_bit_is_found_in_its_record(trail: Store, path: Path) -> None:
    (body,) = rows(path, "SELECT body FROM events WHERE seq = 8")
    assert isinstance(body, bytes)
    for place in range(len(body)):
        flipped = bytes([*body[:place], body[place] ^ 1, *body[place + 1 :]])
        edit(path, f"UPDATE events SET body = x'{flipped.hex()}' WHERE seq = 8")
        assert trail.trail.verify() == Break(8, "the record was changed")
    edit(path, f"UPDATE events SET body = x'{body.hex()}' WHERE seq = 8")
    assert trail.trail.verify() is None


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
    statement: str, found: Break, trail: Store, path: Path
) -> None:
    edit(path, statement)
    assert trail.trail.verify() == found


@pytest.mark.parametrize("forged", [b"", b"[]", b"{}", b"\xff", b'{"seq":8}'])
def test_a_record_that_is_none_is_found(forged: bytes, trail: Store, path: Path) -> None:
    digest = sha256(forged).hexdigest()
    edit(path, f"UPDATE events SET body = x'{forged.hex()}', digest = x'{digest}' WHERE seq = 8")
    assert trail.trail.verify() == Break(8, "the record was changed")
    with pytest.raises(StoreCorrupt):
        list(trail.trail.iterate())


def test_a_record_with_a_new_digest_breaks_the_next(trail: Store, path: Path) -> None:
    (body,) = rows(path, "SELECT body FROM events WHERE seq = 8")
    assert isinstance(body, bytes)
    forged = body.replace(b"9.5", b"7.5")
    digest = sha256(forged).hexdigest()
    edit(path, f"UPDATE events SET body = x'{forged.hex()}', digest = x'{digest}' WHERE seq = 8")
    assert trail.trail.verify() == Break(9, "the record was changed")


def test_what_cannot_be_read_is_an_error_of_ours(trail: Store, path: Path) -> None:
    edit(path, "UPDATE events SET body = x'ff7b' WHERE seq = 8")
    with pytest.raises(StoreCorrupt):
        list(trail.trail.iterate())
    assert trail.trail.verify() == Break(8, "the record was changed")
    edit(path, "DELETE FROM ends")
    with pytest.raises(StoreCorrupt):
        trail.trail.verify()


def test_a_stranger_cannot_fill_the_disk_with_one_event(trail: Store) -> None:
    long = Event(kind="attempt", boot="b", monotonic=1, wall=1, address="x" * 100_000)
    trail.commit(State(), long)
    (record,) = trail.trail.iterate(10)
    assert record.event.address == "x" * 256
    assert trail.trail.verify() is None


def test_a_reader_sees_what_comes_while_it_reads(trail: Store) -> None:
    reader = trail.trail.iterate()
    assert next(reader).seq == 6
    trail.commit(State(), *(event(n) for n in range(11, 14)))  # prunes 6, 7 and 8
    assert [record.seq for record in reader][-1] == 13
