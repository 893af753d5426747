"""Every event that can be appended can be read again, whatever its fields hold."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam import Event, State, Store
from iam.audit import SCHEMA, AuditTrail
from iam.limits import EVENT_FIELD_CHARACTERS_MAX

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = st.text(st.characters(exclude_categories=()), max_size=300)
TIMES = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63)
EVENTS = st.builds(
    Event,
    kind=TEXTS,
    boot=TEXTS,
    monotonic=TIMES,
    wall=TIMES,
    hop_limit=st.none() | st.integers(0, 255),
    **dict.fromkeys(
        (
            *("actor", "user", "role", "fingerprint", "address", "interface"),
            *("method", "action", "result", "detail"),
        ),
        TEXTS,
    ),
)


def empty_database() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in SCHEMA:
        db.execute(statement)
    return db


@given(events=st.lists(EVENTS, min_size=1, max_size=5))
def test_each_appended_event_is_read_again(events: list[Event]) -> None:
    db = empty_database()
    trail = AuditTrail(db, keep=100)
    for event in events:
        trail.append(event)
    for (body,) in db.execute("SELECT body FROM events"):
        assert not any(map(is_surrogate, "".join(map(str, json.loads(body).values()))))
    found = [record.event for record in trail.iterate()]
    assert trail.verify() is None
    for before, after in zip(events, found, strict=True):
        for name in Event.__dataclass_fields__:
            was, now = getattr(before, name), getattr(after, name)
            if isinstance(was, str):
                assert len(now) <= EVENT_FIELD_CHARACTERS_MAX
                assert now.encode().decode() == now, "a text can be sent as UTF-8"
                if len(was) <= EVENT_FIELD_CHARACTERS_MAX and not any(map(is_surrogate, was)):
                    assert now == was
            else:
                assert now == was


def is_surrogate(symbol: str) -> bool:
    return "\ud800" <= symbol <= "\udfff"


@pytest.mark.parametrize(
    "left_out",
    [{"boot"}, {"boot", "actor", "detail"}],
    ids=["written without the ID of the start", "with the fewest fields"],
)
def test_records_of_older_versions_are_read(left_out: set[str], tmp_path: Path) -> None:
    """They left out each empty field, and kept what UTF-8 cannot express."""
    content = {
        "seq": 1,
        "previous": "0" * 64,
        "kind": "denied",
        "boot": "boot-1",
        "monotonic": 1.5,
        "wall": 2.5,
        "actor": "@console",
        "detail": "file \udcff",
    }
    body = json.dumps({name: one for name, one in content.items() if name not in left_out})
    with closing(Store.open(tmp_path / "device.db")) as store:
        store.commit(State(), Event(kind="label-made", monotonic=1.0, wall=1.0))
    with closing(sqlite3.connect(tmp_path / "device.db")) as db:
        digest = sha256(body.encode()).digest()
        db.execute("UPDATE events SET body = ?, digest = ?", (body.encode(), digest))
        db.execute("UPDATE ends SET digest = ? WHERE place = 'head'", (digest,))
        db.commit()
    with closing(Store.open(tmp_path / "device.db")) as store:
        [record] = store.audit.iterate()
    assert record.event.kind == "denied"
    assert record.event.boot == ("" if "boot" in left_out else "boot-1")
    assert record.event.detail.encode() == (b"" if "detail" in left_out else b"file \\udcff")
