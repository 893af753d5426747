"""Events of a pairing window, for the device's audit log (protocol §9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class EventKind(StrEnum):
    """What the device writes into its audit trail (protocol §9)."""

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
    """One audit fact. No tag, key or code is ever among the fields."""

    kind: EventKind
    fields: Mapping[str, str | float]
