"""Events of a pairing window, for the device's audit trail (protocol §9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique

from peer.pairing.ceremony import Ceremony


@unique
class EventKind(StrEnum):
    """The kind of an event; its value is the kind in the audit trail."""

    WINDOW_OPENED = "window-opened"
    WINDOW_CLOSED = "window-closed"
    CEREMONY_STARTED = "ceremony-started"
    OVERLAP = "overlap"
    MISMATCH = "mismatch"
    REFUSED = "refused"
    ABORTED = "aborted"
    EXPIRED = "expired"
    REGISTERED = "registered"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. Its fields never contain a tag, a key or a code."""

    kind: EventKind
    fields: Mapping[str, str | float]


class EventList:
    """The events of one window that have not been taken yet, oldest first."""

    def __init__(self, window_id: bytes) -> None:
        self._window = window_id.hex()
        self._events: list[Event] = []

    def add(self, kind: EventKind, **fields: str | float) -> None:
        """Add an event of the window."""
        self._events.append(Event(kind, {"window": self._window, **fields}))

    def add_of(self, ceremony: Ceremony, kind: EventKind, **fields: str | float) -> None:
        """Add an event of a ceremony."""
        self.add(
            kind,
            ceremony=ceremony.id,
            fingerprint=ceremony.fingerprint.hex,
            method=ceremony.method.value,
            name=ceremony.name,
            role=ceremony.role,
            **fields,
        )

    def take(self) -> list[Event]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events
