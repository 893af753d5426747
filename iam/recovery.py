"""The state that a device accepts when its store differs from the mark beside it.

A store that is older than its mark, damaged or missing does not stop the device, and restores no
right. Only the rows on which both agree are in force: a removed key stays removed, a used invite
stays used, and a missing user is not restored. The file that was found is kept beside the store,
and a person at the device decides about the rest. A store that is newer than its mark is accepted
as it is: the device stopped between the two writes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from iam import restored_rows, rights
from iam.changes import has_owner
from iam.mark import Marked
from iam.model import State
from iam.rights import Seal
from iam.schema import Content


class Reason(StrEnum):
    """Why a store was not accepted as it was found."""

    OLDER = "older"
    DAMAGED = "damaged"
    MISSING = "missing"
    FAILED_WRITE = "failed-write"
    MARK_LOST = "mark-lost"
    EVENTS_LOST = "events-lost"


_WORDS: Final = {
    Reason.OLDER: "the store was older than the mark beside it",
    Reason.DAMAGED: "the store was damaged",
    Reason.MISSING: "the store was missing",
    Reason.FAILED_WRITE: "the store held a change that had been reported as failed",
    Reason.MARK_LOST: "the mark beside the store was lost, so the store may be an old one",
    Reason.EVENTS_LOST: "the store had lost events of the audit trail",
}


@dataclass(frozen=True, slots=True)
class Recovery:
    """The fault of a store that was opened.

    `left_out` counts the entries of the store (users, keys, invites, the label) that are not in
    force, `missing` those that the mark has and the store does not.
    """

    reason: Reason
    left_out: int = 0
    missing: int = 0

    def __str__(self) -> str:
        found = _WORDS[self.reason]
        if self.left_out:
            found += f"; {_counted(self.left_out)} not in force"
        if self.missing:
            found += f"; {_counted(self.missing)} missing"
        return found

    def record(self) -> str:
        """Return the form in the store."""
        return json.dumps(asdict(self))

    @classmethod
    def restored(cls, record: str) -> Recovery | None:
        """Read the form in the store: None if it is empty, and DAMAGED if it is not valid."""
        if not record:
            return None
        try:
            found = json.loads(record)
            return cls(Reason(found["reason"]), int(found["left_out"]), int(found["missing"]))
        except (ValueError, TypeError, KeyError):
            return cls(Reason.DAMAGED)


def _counted(number: int) -> str:
    return "1 entry is" if number == 1 else f"{number} entries are"


@dataclass(frozen=True, slots=True)
class AcceptedState:
    """The state to start with. `recovery` is the fault that was found just now, or None.

    `rows` are those of the state, if the store has to be replaced.
    """

    state: State
    rows: frozenset[str]
    seal: Seal
    recovery: Recovery | None = None


def compare(
    content: Content | None,
    marked: Marked | None,
    *,
    fault: Reason | None,
    has_lost_events: bool,
) -> AcceptedState:
    """Compare a store with its mark, and return the state to start with.

    Args:
        content: what the store holds as far as it can be read, or None.
        marked: what the mark says, or None if it is missing.
        fault: DAMAGED or MISSING if the file itself is not sound.
        has_lost_events: the audit trail does not hold the event that the mark names.
    """
    is_sealed = content is not None and content.is_sealed  # else its number may be anything
    serial = max(
        content.serial if content and is_sealed else 0, marked.seal.serial if marked else 0
    )
    rows, reason = _in_force(content, marked, fault)
    is_newer = content is not None and marked is not None and content.serial > marked.seal.serial
    if reason is None and has_lost_events and not is_newer:
        reason = Reason.EVENTS_LOST
    state, sane = _understood(rows, content)
    if sane != rows:
        reason = reason or Reason.DAMAGED
    if reason is None:
        assert content is not None
        owned = content.had_owner or has_owner(state)
        return AcceptedState(state, sane, Seal(content.total, content.serial, owned))
    had_owner = has_owner(state) or _had_owner(
        None if reason is Reason.FAILED_WRITE else content, marked
    )
    left_out = len(content.rows - sane) if content is not None else 0
    missing = len(marked.rows - sane) if marked is not None else 0
    found = Recovery(reason, left_out, missing)
    return AcceptedState(state, sane, Seal(rights.total_of(sane), serial + 1, had_owner), found)


def _understood(rows: frozenset[str], content: Content | None) -> tuple[State, frozenset[str]]:
    """The state that the rows make, and those rows that are in it."""
    if content is not None and rows is content.rows:
        state, is_exact = restored_rows.state_of_tables(content.tables)
        if is_exact:
            return state, rows
    state = restored_rows.state_of(rows)
    labels = (text for text in rows if rights.is_label(text))
    return state, frozenset([*labels, *rights.rows_of(state, {})])


def _in_force(
    content: Content | None, marked: Marked | None, fault: Reason | None
) -> tuple[frozenset[str], Reason | None]:
    if content is None:
        return frozenset(), fault or Reason.DAMAGED
    unsound = fault or (None if content.is_sealed else Reason.DAMAGED)
    if marked is None:
        if not content.is_sealed:
            return frozenset(), unsound
        is_first = content.serial == 0  # it is new, or comes from a version without marks
        return content.rows, unsound or (None if is_first else Reason.MARK_LOST)
    if content.rows == marked.rows:
        return content.rows, unsound
    is_failed = content.serial == marked.void
    if content.is_sealed and content.serial > marked.seal.serial and not is_failed:
        return content.rows, unsound
    both = rights.in_both(content.rows, marked.rows)
    older = Reason.FAILED_WRITE if is_failed else Reason.OLDER
    return both, unsound or older


def _had_owner(content: Content | None, marked: Marked | None) -> bool:
    """Whether there was an owner. True if that is unknown, so that no window opens by itself."""
    known = [content.had_owner] if content is not None and content.is_sealed else []
    known += [marked.seal.had_owner] if marked is not None else []
    return any(known) if known else True
