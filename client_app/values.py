"""Values that verbs and the library return. This module imports nothing slow."""

from dataclasses import dataclass
from enum import StrEnum

from client_app.devices import KnownDevice


@dataclass(frozen=True, slots=True)
class Whoami:
    """This client as a device knows it.

    Attributes:
        user, role, key: names of the user, the role and this client's key.
        fingerprint: this client's fingerprint, 64 hex digits.
        path: how this client is connected, as the device sees it, for example `local`.
        actions: actions that are allowed now and from here.
        conditional: actions that depend on the time, the network or the request.
        until: end of the access in seconds since 1970, or None.
        now: the device's clock in seconds since 1970, or None if the device does not tell it.
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
    """The result of `Client.pair`.

    `is_new` is False if both sides were already paired. `method` is the pairing method. `until` is
    the end of the access in seconds since 1970, or None.
    """

    device: KnownDevice
    is_new: bool
    method: str = ""
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A device as announced on the LAN. `known_as` is the alias of a paired device with its ID."""

    id: str
    name: str
    addresses: tuple[str, ...]
    port: int
    pairing_port: int
    pairing_open: bool
    present: bool
    known_as: str


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of `handfast doctor`. `exit_code` is not 0 if it failed."""

    name: str
    verdict: Verdict
    said: str
    advice: str = ""
    exit_code: int = 0
