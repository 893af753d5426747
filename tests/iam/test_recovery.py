"""A store that is damaged, older than its mark or missing restores no revoked right.

Each case damages the files of one device, in which bert the admin was removed, and opens them. Then
no right is there that the device had not given last, no window opens by itself, the device can be
written to, and a good copy puts everything back.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from iam import (
    Key,
    Rules,
    State,
    Store,
    User,
    mark,
    restored_rows,
    rights,
    salvage,
    schema,
)
from iam import changes as to
from iam.recovery import Reason, Recovery
from tests.iam.damaged_store import EVENT, LABEL, NAME, Case, _fp, made_case

Fp = Callable[[object], str]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return made_case(tmp_path_factory.mktemp("case"))


def gives_nothing_more(found: State, final: State) -> bool:
    """Whether every user and key of `found` has the same role, times and proof in `final`."""
    for user in found.users.values():
        right = final.users.get(user.name)
        if right is None or (user.role, user.start, user.end) != (
            right.role,
            right.start,
            right.end,
        ):
            return False
        verified = {key.fingerprint: key.verified for key in right.keys}
        if not {key.fingerprint: key.verified for key in user.keys}.items() <= verified.items():
            return False
    return set(found.invites) <= set(final.invites)


def is_safe(path: Path, case: Case) -> Recovery | None:
    """Open the store and check that it restores no revoked right; returns its recovery."""
    with closing(Store.open(path)) as store:
        found = store.recovery
        assert case.revoked not in store.state.user_name_by_key
        assert gives_nothing_more(store.state, case.final)
        assert store.state == case.final or found is not None  # the recovery is reported
        assert store.had_owner  # no window for a new owner opens by itself
        assert store.fault == ""
        store.commit(store.state, EVENT)
        before = store.state
    with closing(Store.open(path)) as store:
        assert (store.state, store.recovery) == (before, found)
        assert not store.is_newly_recovered
        copy = salvage.read_copy(case.closed / NAME)
        store.end_recovery(EVENT, state=restored_rows.state_of(copy.rows), label=LABEL)
        assert (store.state, store.recovery) == (case.final, None)
    with closing(Store.open(path)) as store:
        assert (store.state, store.recovery) == (case.final, None)
    return found


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits_of(data: bytes, count: int) -> range:
    """The positions of `count` bits, spread over the data and over the bits of a byte."""
    step = len(data) * 8 // count | 1
    return range(0, len(data) * 8, step)


@pytest.mark.parametrize("part", range(4))
def test_a_flipped_bit_in_the_log_restores_no_key(part: int, case: Case, tmp_path: Path) -> None:
    data = (case.live / f"{NAME}-wal").read_bytes()
    damaged = 0
    for bit in bits_of(data, 120)[part::4]:
        folder = shutil.copytree(case.live, tmp_path / str(bit))
        (folder / f"{NAME}-wal").write_bytes(flipped(data, bit))
        damaged += is_safe(folder / NAME, case) is not None
    assert damaged > 5


@pytest.mark.parametrize("part", range(4))
def test_a_flipped_bit_in_the_file_grants_no_right(part: int, case: Case, tmp_path: Path) -> None:
    """The header of the first page, and a sample of the rest with a focus on pages with rights."""
    data = (case.closed / NAME).read_bytes()
    header = range(0, 100 * 8, 9)
    content = [
        8 * (place + 3) + 5 for place in range(0, len(data), 4) if data[place : place + 4].isalnum()
    ]
    every = [*header, *bits_of(data, 60), *content[:: max(1, len(content) // 100)]]
    damaged = 0
    for bit in every[part::4]:
        folder = shutil.copytree(case.closed, tmp_path / str(bit), dirs_exist_ok=True)
        (folder / NAME).write_bytes(flipped(data, bit))
        damaged += is_safe(folder / NAME, case) is not None
    assert damaged > 5


def test_a_flipped_bit_in_a_record_header_grants_no_right(case: Case, tmp_path: Path) -> None:
    """The header holds the type and length of each value: an integer may become a text."""
    data = (case.closed / NAME).read_bytes()
    number = data.rindex(_fp("carl").encode(), 0, data.rindex(_fp("carl").encode()))
    places = [
        *range(number - 12, number),
        *range(data.index(b"carluser") - 9, data.index(b"carluser")),
    ]
    for place in places:
        for bit in range(8 * place, 8 * place + 8):
            folder = shutil.copytree(case.closed, tmp_path / "device", dirs_exist_ok=True)
            (folder / NAME).write_bytes(flipped(data, bit))
            with closing(Store.open(folder / NAME)) as store:
                assert case.revoked not in store.state.user_name_by_key
                assert gives_nothing_more(store.state, case.final)
                assert store.had_owner
            shutil.rmtree(folder)


def test_rows_with_values_of_other_types_are_left_out() -> None:
    odd = [1, None, 2.5, "x", "\ud800", True, -1, "", 9, 10]
    for turn in range(len(odd)):
        values = (*odd[turn:], *odd[:turn])
        rows = [
            rights.row(kind, values[: len(table.columns.split(","))])
            for kind, table in rights.TABLES.items()
        ]
        assert set(restored_rows.state_of(rows).users) <= {"x"}
        assert rights.in_both(rows, rows) == set(rows)


def test_a_flipped_bit_in_the_mark_grants_no_right(case: Case, tmp_path: Path) -> None:
    data = mark.path_of(case.closed / NAME).read_bytes()
    for bit in bits_of(data, 60):
        folder = shutil.copytree(case.closed, tmp_path / str(bit))
        mark.path_of(folder / NAME).write_bytes(flipped(data, bit))
        with closing(Store.open(folder / NAME)) as store:
            assert store.state == case.final
            assert store.recovery in (None, Recovery(Reason.MARK_LOST))
        marked = mark.load_untrusted(mark.path_of(folder / NAME))
        assert marked is not None  # written again
        assert marked.is_whole


def _lose(folder: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        (folder / f"{NAME}{suffix}").unlink()


def _cut(folder: Path, suffix: str, size: int) -> None:
    path = folder / f"{NAME}{suffix}"
    path.write_bytes(path.read_bytes()[:size])


def _put_back(folder: Path, case: Case) -> None:
    shutil.copy(case.older / NAME, folder / NAME)
    (folder / f"{NAME}-wal").unlink(missing_ok=True)


def _put_new(folder: Path, _case: Case) -> None:
    """A store that never had an owner."""
    _lose(folder, "", "-wal", ".mark")
    Store.open(folder / NAME).close()
    _lose(folder, ".mark", ".lock")


DAMAGES: dict[str, tuple[Callable[[Path, Case], object], Reason]] = {
    "log lost": (lambda f, _: _lose(f, "-wal"), Reason.OLDER),
    "log emptied": (lambda f, _: _cut(f, "-wal", 0), Reason.OLDER),
    "log cut": (lambda f, _: _cut(f, "-wal", 5000), Reason.OLDER),
    "log of zeros": (lambda f, _: (f / f"{NAME}-wal").write_bytes(bytes(9000)), Reason.OLDER),
    "old copy": (_put_back, Reason.OLDER),
    "file lost": (lambda f, _: _lose(f, ""), Reason.MISSING),
    "file and log lost": (lambda f, _: _lose(f, "", "-wal"), Reason.MISSING),
    "file emptied": (lambda f, _: _cut(f, "", 0), Reason.DAMAGED),
    "file cut": (lambda f, _: _cut(f, "", 20_000), Reason.DAMAGED),
    "another file": (lambda f, _: (f / NAME).write_bytes(b"a letter" * 900), Reason.DAMAGED),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_store_that_differs_from_its_mark_opens_without_new_rights(
    damage: str, case: Case, tmp_path: Path
) -> None:
    folder = shutil.copytree(case.live, tmp_path / "device")
    damaging, reason = DAMAGES[damage]
    damaging(folder, case)
    found = (folder / NAME).read_bytes() if (folder / NAME).exists() else None
    recovery = is_safe_and_kept(folder / NAME, case, found)
    assert recovery is not None
    assert recovery.reason is reason
    assert str(recovery)


def is_safe_and_kept(path: Path, case: Case, found: bytes | None) -> Recovery | None:
    """Check that the found file is kept beside the store until an administrator decides."""
    Store.open(path).close()
    aside = salvage.aside_of(path)
    assert aside.exists() == (found is not None)
    if found is not None:
        assert aside.read_bytes() == found
        assert aside.stat().st_mode & 0o777 == 0o600
    with closing(Store.open(path)) as store:
        recovery = store.recovery
        assert case.revoked not in store.state.user_name_by_key
        assert gives_nothing_more(store.state, case.final)
        assert store.had_owner
        store.end_recovery(EVENT)
        assert store.recovery is None
    assert not aside.exists()
    return recovery


def test_an_old_copy_keeps_only_the_rights_that_are_still_valid(case: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(case.closed, tmp_path / "device")
    _put_back(folder, case)
    with closing(Store.open(folder / NAME)) as store:
        assert store.state == case.final  # anna and carl stay; bert and his invite are left out
        assert store.recovery == Recovery(Reason.OLDER, left_out=3)
        assert store.attempts == {"pairing": {"failures": 3}, "label": LABEL}
        assert store.audit.verify() is None


def test_rights_granted_after_the_copy_are_not_restored(
    case: Case, tmp_path: Path, rules: Rules
) -> None:
    folder = shutil.copytree(case.closed, tmp_path / "device")
    path = folder / NAME
    with closing(Store.open(path)) as store:
        user = User("zoe", "admin", (Key("e" * 64),))
        new = to.add_user(store.state, None, user, rules=rules)
        new = to.set_user(new, None, "carl", role="guest", rules=rules)
        store.commit(new, attempts={"label": {**LABEL, "token": "ef"}})
    for name in (NAME, f"{NAME}.mark"):
        shutil.copy(folder / name, tmp_path / name)
    shutil.copy(case.closed / NAME, path)
    with closing(Store.open(path)) as store:
        assert set(store.state.users) == {
            "anna"
        }  # carl was a user and then a guest: he is left out
        assert "label" not in store.attempts
        assert store.recovery is not None
        assert (store.recovery.left_out, store.recovery.missing) == (3, 5)
    shutil.copy(tmp_path / NAME, path)  # the newer file is put back
    with closing(Store.open(path)) as store:
        assert "zoe" not in store.state.users  # an administrator must decide
        copy = salvage.read_copy(tmp_path / NAME)
        store.end_recovery(
            EVENT,
            state=restored_rows.state_of(copy.rows),
            label=copy.attempts and copy.attempts["label"],
        )
        assert store.state == new


def test_a_store_that_is_newer_than_its_mark_needs_no_recovery(case: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(case.closed, tmp_path / "device")
    shutil.copy(case.older / f"{NAME}.mark", folder / f"{NAME}.mark")
    with closing(Store.open(folder / NAME)) as store:
        assert (store.state, store.recovery) == (case.final, None)


@pytest.mark.parametrize(
    "rest", [[""], ["", ".mark"]], ids=["store removed", "store and mark removed"]
)
def test_a_store_without_users_is_recreated_without_a_recovery(
    rest: list[str], tmp_path: Path
) -> None:
    path = tmp_path / NAME
    Store.open(path).close()
    for suffix in rest:
        path.with_name(f"{NAME}{suffix}").unlink()
    with closing(Store.open(path)) as store:
        assert not store.had_owner
        assert store.state == State()


def test_a_broken_chain_is_kept_after_a_recovery(case: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(case.closed, tmp_path / "device")
    path = folder / NAME
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "UPDATE events SET body = CAST(replace(body, 'hello', 'hallo') AS BLOB) WHERE seq = 1"
        )
        db.commit()
    mark.path_of(path).unlink()
    with closing(Store.open(path)) as store:
        assert store.recovery == Recovery(Reason.MARK_LOST)
        found = store.audit.verify()
        assert found is not None
        assert found.seq == 1
        assert store.audit.head[0] == 3


def test_lost_events_are_reported_and_revoke_no_right(case: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(case.closed, tmp_path / "device")
    with closing(sqlite3.connect(folder / NAME)) as db:
        db.execute("DELETE FROM events WHERE seq > 1")
        db.execute(
            "UPDATE ends SET seq = 1, digest = (SELECT digest FROM events) WHERE place = 'head'"
        )
        db.commit()
    with closing(Store.open(folder / NAME)) as store:
        assert store.state == case.final
        assert store.recovery == Recovery(Reason.EVENTS_LOST)


EDITS = [
    "UPDATE keys SET fingerprint = upper(fingerprint)",
    "UPDATE keys SET verified = 7",
    "UPDATE users SET role = 'owner'",
    "UPDATE users SET not_after = -1, not_before = 1",
    "UPDATE users SET name = 'an' || char(27) || '[2Jna' WHERE name = 'anna'",
    "UPDATE users SET display_name = char(8238)",
    "DELETE FROM users WHERE name = 'carl'",
    "DROP TABLE attempts",
    "DROP TABLE invites",
    "DROP TABLE rights",
    "DELETE FROM ends",
    "DELETE FROM clock",
    "UPDATE rights SET had_owner = 0",
    "UPDATE rights SET serial = 99",
    "INSERT INTO users VALUES ('eve', 'owner', '', NULL, NULL, 0.0)",
    "INSERT INTO invites VALUES ('', 'eve', 'guest', 1.0, 1, 0, 0.0, NULL, '', NULL)",
    "PRAGMA application_id = 7",
    "PRAGMA user_version = 2",
    "PRAGMA user_version = 99",
]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_file_grants_no_right(edit: str, case: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(case.closed, tmp_path / "device")
    with closing(sqlite3.connect(folder / NAME)) as db:
        db.execute(edit)
        db.commit()
    assert is_safe(folder / NAME, case) is not None


def test_invalid_names_in_the_file_are_not_loaded(tmp_path: Path) -> None:
    """A store of an earlier version has no seal, so its texts are checked."""
    path = tmp_path / NAME
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        db.execute("PRAGMA user_version = 2")
        for step in schema.MIGRATIONS[:2]:
            for statement in step:
                db.execute(statement)
        for name in (
            "anna",
            "a/../b",
            "x\x1b[2J",
            "ab\u202ecd",
            "with space",
            "\u0639\u0644\u06cc",
        ):
            db.execute("INSERT INTO users VALUES (?, 'owner', '', NULL, NULL, 0.0)", (name,))
        db.execute("UPDATE users SET display_name = char(155) WHERE name = 'with space'")
    with closing(Store.open(path)) as store:
        assert set(store.state.users) == {"anna", "\u0639\u0644\u06cc"}
        assert store.recovery is not None
        assert store.recovery.left_out == 4


def test_changed_counters_and_a_changed_clock_are_found(case: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(case.closed, tmp_path / "device")
    path = folder / NAME
    with closing(Store.open(path)) as store:
        store.note_time(5e8)
        store.commit(store.state, EVENT)
        new = store.state.replaced(None, User("zoe", "guest"))
        store.commit(new)  # writes the time to the mark as well
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE clock SET floor = 1.0")
        db.execute("""UPDATE attempts SET body = replace(body, '3', '0')""")
        db.commit()
    with closing(Store.open(path)) as store:
        assert store.time_floor == 5e8  # from the mark
        assert store.attempts_lost
        assert store.attempts == {}
        assert store.state.users.keys() == new.users.keys()
        store.commit(store.state, attempts={"pairing": {"failures": 9}})
        assert not store.attempts_lost
