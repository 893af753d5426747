"""A store that agrees with its mark is read in one pass, as the slow comparison would read it."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam import Event, Key, State, Store, User, database, schema, sound_store
from iam.audit import AuditTrail
from iam.mark import End, Mark, load_untrusted, path_of, summary_untrusted
from iam.model import Invite
from iam.rights import Seal

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT = Event(kind="paired", boot="b", monotonic=1.0, wall=2.0)
USERS = (
    User("anna", "owner", (Key("a" * 64, "laptop", "code", added=1.5, receipt=b"r" * 32),)),
    User("Anna Maria", "guest", (Key("b" * 64, verified=False), Key("c" * 64, added=2.0))),
    User("zoë", "user", (), "Zoë “Z”", 3.0, 4.5, 2.0),
)
INVITES = (
    Invite("1" * 32, "mia", "guest", 100.0, inviter="anna", key="d" * 64, not_after=9.0),
    Invite("2" * 32, "leo", "user", 50.0, 3, 1.0, used=2),
)


def made(path: Path, state: State, **attempts: object) -> None:
    with closing(Store.open(path)) as store:
        store.commit(state, EVENT, attempts=attempts or None)
        store.note_time(7.0)


def seen_of(store: Store) -> tuple[object, ...]:
    """All that a store says of itself."""
    return (
        store.state,
        store.attempts,
        dict(store.seen),
        store.time_floor,
        store.had_owner,
        store.fault,
        store.recovery,
        store.audit.head,
    )


def opened(path: Path, patch: pytest.MonkeyPatch, *, slowly: bool) -> tuple[object, ...]:
    """Open a store in one of both ways, change it, and open it again."""
    if slowly:
        patch.setattr(sound_store, "open_sound", lambda _path: None)
    with closing(Store.open(path)) as store:
        first = seen_of(store)
        user = User("new", "guest", (Key("f" * 64),))
        store.commit(store.state.replaced(None, user), EVENT)
    marked = path_of(path).read_bytes()
    with closing(Store.open(path)) as store:
        second = seen_of(store)
    patch.undo()
    return first, second, marked


names = st.text("ab_Zé", min_size=1, max_size=3)
users = st.builds(
    User,
    names,
    st.sampled_from(["owner", "guest", "a role"]),
    st.lists(
        st.builds(
            Key,
            st.integers(1, 40).map(lambda number: f"{number:064x}"),
            st.sampled_from(["", "phone", "日本"]),
            st.just("code"),
            st.booleans(),
            st.sampled_from([0.0, 1.0, 1e300, 0.1]),
        ),
        max_size=2,
        unique_by=lambda key: key.fingerprint,
    ).map(tuple),
    st.sampled_from(["", 'A \\ " , ]']),
)


@settings(max_examples=25)
@given(st.lists(users, max_size=5), st.booleans())
def test_both_ways_read_the_same_state(
    tmp_path_factory: pytest.TempPathFactory, given_users: list[User], has_label: bool
) -> None:
    folder = tmp_path_factory.mktemp("both")
    found: dict[str, User] = {}
    taken: set[str] = set()
    for user in given_users:
        if user.name not in found and not taken & user.fingerprints:
            found[user.name] = user
            taken |= user.fingerprints
    attempts = {"label": {"verifier": "x"}} if has_label else {}
    results = []
    for slowly in (False, True):
        made(folder / f"{slowly}.db", State.of(found.values()), **attempts)
        with pytest.MonkeyPatch.context() as patch:
            results.append(opened(folder / f"{slowly}.db", patch, slowly=slowly))
    assert results[0] == results[1]


def test_every_start_without_a_fault_is_a_sound_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    made(path, State.of(USERS, INVITES), label={"a": 1}, other=2)
    taken: list[bool] = []
    quick = sound_store.open_sound

    def noted(path: Path) -> sound_store.Sound | None:
        found = quick(path)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(sound_store, "open_sound", noted)
    for number in range(3):
        with closing(Store.open(path)) as store:
            assert store.state.invites == State.of(USERS, INVITES).invites
            assert store.state.user("zoë").display_name == f"Zoë{number or ' “Z”'}"
            after = replace(store.state.user("zoë"), display_name=f"Zoë{number + 1}")
            store.commit(store.state.replaced(store.state.user("zoë"), after), EVENT)
    assert taken == [True, True, True]


def change(statement: str) -> Callable[[Path], None]:
    """Change the file behind the back of the seal."""

    def do(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA ignore_check_constraints = ON")
            db.execute(statement)
            db.commit()

    do.__name__ = statement
    return do


def cut_mark(path: Path) -> None:
    mark = path_of(path)
    mark.write_bytes(mark.read_bytes()[:-1])


def flip_row_of_mark(path: Path) -> None:
    mark = path_of(path)
    data = mark.read_bytes()
    assert b"laptop" in data
    mark.write_bytes(data.replace(b"laptop", b"laptip"))


def forge_mark(path: Path) -> None:
    """Another seal, with a digest of the line that fits."""
    mark = path_of(path)
    body = mark.read_bytes().partition(b" ")[2].rstrip(b"\n")
    seal = body.partition(b'"seal":"')[2][:64]
    body = body.replace(seal, b"0" * 64)
    digest = sha256(b"0" * 64 + b" " + body).hexdigest().encode()
    mark.write_bytes(digest + b" " + body + b"\n")


def remove_mark(path: Path) -> None:
    path_of(path).unlink()


DOUBTS = [
    change("UPDATE users SET role = 'owner' WHERE name = 'zoë'"),
    change("UPDATE users SET name = 'a/b' WHERE name = 'zoë'"),
    change("UPDATE users SET display_name = char(27) WHERE name = 'zoë'"),
    change("UPDATE keys SET verified = 1 WHERE name = ''"),
    change("UPDATE keys SET verified = 2 WHERE name = 'laptop'"),
    change("UPDATE keys SET fingerprint = 'x' WHERE name = 'laptop'"),
    change("UPDATE keys SET method = CAST(x'ff' AS TEXT) WHERE name = 'laptop'"),
    change("DELETE FROM keys WHERE name = 'laptop'"),
    change("DELETE FROM users WHERE name = 'zoë'"),
    change("DELETE FROM invites WHERE name = 'leo'"),
    change("UPDATE invites SET uses = 1 WHERE name = 'leo'"),
    change("UPDATE invites SET inviter = 'none' WHERE name = 'mia'"),
    change("UPDATE rights SET serial = serial + 1"),
    change("UPDATE rights SET had_owner = 0"),
    change("UPDATE rights SET seal = zeroblob(32)"),
    change("UPDATE attempts SET body = '{}'"),
    change("UPDATE ends SET seq = 0, digest = zeroblob(32) WHERE place = 'head'"),
    change("PRAGMA user_version = 99"),
    change("PRAGMA application_id = 7"),
    change("DROP TABLE invites"),
    cut_mark,
    flip_row_of_mark,
    forge_mark,
    remove_mark,
]


def sealed(*statements: str) -> Callable[[Path], None]:
    """Change the file, and seal it and its mark again: as no version would have written it."""

    def do(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                db.execute(statement)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            content = schema.read(db.execute)
            seal = Seal(content.total, content.serial, content.had_owner)
            schema.write_rights(db.execute, seal, content.recovery)
            head = AuditTrail(db, keep=0).head
        Mark(path, schema=len(schema.MIGRATIONS)).write(
            content.rows, seal, head, content.time_floor
        )

    do.__name__ = "sealed: " + "; ".join(statements)
    return do


NOT_STRICT = "UPDATE sqlite_master SET sql = replace(sql, ' STRICT', '')"
ODD = [
    sealed("UPDATE users SET name = 'a/b' WHERE name = 'zoë'"),
    sealed("UPDATE users SET display_name = char(27) WHERE name = 'zoë'"),
    sealed("UPDATE users SET role = char(27) WHERE name = 'zoë'"),
    sealed("UPDATE keys SET name = char(10) WHERE name = 'laptop'"),
    sealed("UPDATE keys SET verified = 2 WHERE name = 'laptop'"),
    sealed("UPDATE keys SET user = 'none' WHERE name = 'laptop'"),
    sealed("UPDATE invites SET key = 'x' WHERE name = 'mia'"),
    sealed("DELETE FROM sqlite_master WHERE name = 'keys_of_user'"),
]


def text_in_a_column_of_bytes(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(NOT_STRICT)
    sealed(f"UPDATE keys SET receipt = '{32 * 'r'}' WHERE name = 'laptop'")(path)


@pytest.mark.parametrize(
    "damage", [*ODD, text_in_a_column_of_bytes], ids=lambda damage: damage.__name__
)
def test_a_seal_is_not_enough(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "state.db"
    made(path, State.of(USERS, INVITES))
    sealed("UPDATE users SET display_name = 'Zoe' WHERE name = 'zoë'")(path)
    sound = sound_store.open_sound(path)
    assert sound is not None
    sound.db.close()
    damage(path)
    assert sound_store.open_sound(path) is None


def test_a_sealed_store_is_not_enough_beside_a_newer_mark(tmp_path: Path) -> None:
    path, copy = tmp_path / "state.db", tmp_path / "copy"
    made(path, State.of(USERS, INVITES))
    copy.write_bytes(path.read_bytes())
    with closing(Store.open(path)) as store:
        store.commit(store.state.replaced(store.state.user("zoë"), None))  # without an event
    path.write_bytes(copy.read_bytes())
    assert sound_store.open_sound(path) is None


@pytest.mark.parametrize("damage", DOUBTS, ids=lambda damage: damage.__name__)
def test_nothing_is_decided_in_doubt(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "state.db"
    made(path, State.of(USERS, INVITES), label={"a": 1})
    sound = sound_store.open_sound(path)
    assert sound is not None
    sound.db.close()
    damage(path)
    assert sound_store.open_sound(path) is None


def test_no_store_is_used_before_its_file_was_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are read meanwhile; damage that is found when all are read still counts."""
    path = tmp_path / "state.db"
    made(path, State.of(USERS, INVITES))
    are_read = threading.Event()

    def examined(_path: Path, _marked: object) -> None:
        assert are_read.wait(60)
        raise sqlite3.DatabaseError("damaged")

    def holds(trail: AuditTrail, seq: int, digest: str) -> bool:
        found = last_check(trail, seq, digest)
        are_read.set()
        return found

    last_check = AuditTrail.holds
    monkeypatch.setattr(AuditTrail, "holds", holds)
    monkeypatch.setattr(database, "examine", examined)
    assert sound_store.open_sound(path) is None
    assert are_read.is_set()


def test_a_mark_is_summed_up_without_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    tricky = '],dropped:[],serial: "],\\"dropped\\":[],\\"serial\\":'
    made(path, State.of([*USERS, User("eve", "guest", (), tricky)]))
    with closing(Store.open(path)) as store:
        for name in ("zoë", "eve", "Anna Maria"):  # further lines, which drop rows
            store.commit(store.state.replaced(store.state.user(name), None), EVENT)
    whole, summary = load_untrusted(path_of(path)), summary_untrusted(path_of(path))
    assert whole is not None
    assert summary is not None
    assert (summary.seal, summary.head, summary.time_floor, summary.schema, summary.last) == (
        whole.seal.digest.hex(),
        whole.head,
        whole.time_floor,
        whole.schema,
        whole.last,
    )


def test_a_mark_that_reports_a_failed_commit_is_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    made(path, State.of(USERS))
    marked = load_untrusted(path_of(path))
    assert marked is not None
    assert Mark(path, schema=marked.schema, end=End.of(marked)).void(99)
    assert summary_untrusted(path_of(path)) is None
    assert sound_store.open_sound(path) is None
