"""The events of docs/protocol.md §9, compared with the code."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from device_app.access.audit_log import CONSOLE
from device_app.access.event_budget import SOURCE_REFUSALS, STRANGERS_REFUSALS, USERS_REFUSALS
from device_app.access.event_kind import EventKind
from device_app.limits import (
    EVENTS_DEFAULT,
    EVENTS_MAX,
    REFUSAL_REPEAT_SECONDS,
    USERS_PAGE_DEFAULT,
    USERS_PAGE_MAX,
    USERS_UNPAGED_MAX,
)
from iam.audit import Event
from peer.pairing.events import EventKind as WindowEventKind
from tests.kit.documents import quoted

if TYPE_CHECKING:
    from tests.kit.documents import ProtocolDocument

ROOT = Path(__file__).parents[2]


def test_the_documented_events_equal_those_of_the_code(protocol: ProtocolDocument) -> None:
    rows = [quoted(kinds) for kinds, _ in protocol.table("events")]
    assert {kind for row in rows for kind in row} == set(EventKind)
    assert rows == sorted(rows)
    assert set(WindowEventKind) < {kind.value for kind in EventKind}
    # The code writes every other kind.
    sources = "".join(path.read_text() for path in sorted((ROOT / "device_app").rglob("*.py")))
    named = {kind for kind in EventKind if f"EventKind.{kind.name}" in sources}
    assert named | {EventKind(kind.value) for kind in WindowEventKind} == set(EventKind)


def test_the_documented_pages_of_users_are_those_of_the_code(protocol: ProtocolDocument) -> None:
    words = " ".join(protocol.text.split())
    assert f"(at most {USERS_PAGE_MAX}; {USERS_PAGE_DEFAULT} without `count`)" in words
    assert f"if there are more than {USERS_UNPAGED_MAX}, the answer is 4.00" in words


def test_the_documented_event_fields_and_rates_equal_those_of_the_code(
    protocol: ProtocolDocument,
) -> None:
    text = protocol.text.partition("\n## 9 ")[2].partition("\n## ")[0]
    fields = {field.name for field in dataclasses.fields(Event)}
    assert {word for word in quoted(text.partition("<!--")[0]) if word in fields} == fields
    usual, most = EVENTS_DEFAULT, EVENTS_MAX
    words = " ".join(text.split())
    assert f"the newest {usual} events, with `last=N` the newest N (at most {most})" in words
    assert f"the first {most} after that number" in words
    assert f"one event in {REFUSAL_REPEAT_SECONDS:.0f} s" in text
    for source, rate in (
        ("one of them", SOURCE_REFUSALS),
        ("All users together have", USERS_REFUSALS),
        ("all others together", STRANGERS_REFUSALS),
    ):
        assert f"{source} {rate.burst} at once and {rate.per_hour} per hour" in words
    assert f"`{CONSOLE}`" in text
