"""What verbs and the library return, as plain values that cost nothing to import."""

from dataclasses import dataclass
from enum import StrEnum

from client_app.devices import KnownDevice


@dataclass(frozen=True, slots=True)
class Whoami:
    """What a device knows of this client. `until` is in wall seconds, or None for no end; `now` is
    the device's time, by which it ends, or None if the device does not tell it.

    `actions` it may do now and from here, `conditional` at other times, from elsewhere, to some, or
    of some resources.
    """

    user: str
    role: str
    fingerprint: str
    key: str
    path: str
    actions: tuple[str, ...]
    until: int | None = None
    conditional: tuple[str, ...] = ()
    now: int | None = None


@dataclass(frozen=True, slots=True)
class Paired:
    """The outcome of `Client.pair`. `is_new` is false if both sides knew each other already.

    `method` is how they came to; `until` is the end of the access, in wall seconds, if the device
    said one.
    """

    device: KnownDevice
    is_new: bool
    method: str = ""
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A device on the LAN, by its own words. `known_as` is its alias here, if its id is known."""

    id: str
    name: str
    addresses: tuple[str, ...]
    port: int
    pairing_port: int
    pairing_open: bool
    present: bool
    known_as: str


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of an examination. `exit_code` is not 0 for a failure."""

    name: str
    verdict: Verdict
    said: str
    advice: str = ""
    exit_code: int = 0
