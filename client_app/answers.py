"""What an error means to a shell: the one table from exception classes to exit codes.

Also the two errors that only the client knows: its own user's no, and its own files.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from peer.errors import (
    Denied,
    DeviceFailed,
    Malformed,
    NotLocal,
    NotPaired,
    PeerError,
    PinMismatch,
    RefusedByUser,
    RequestFailed,
    TimedOut,
    Unreachable,
    UsageError,
    WindowClosed,
    WrongCode,
)

DONE: Final = 0
OTHER: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


class Declined(PeerError):
    """This side's user said no to the pairing."""


class BookError(PeerError):
    """The file of known devices cannot be read, trusted or written."""


class NotKnown(Unreachable):
    """No device of that name is among the known ones."""


EXIT_CODES: Mapping[type[BaseException], int] = MappingProxyType(
    {
        PeerError: OTHER,
        Malformed: OTHER,  # a peer's answer that does not parse; our own text is a usage error
        UsageError: USAGE,
        Unreachable: 3,
        TimedOut: 4,
        PinMismatch: 5,
        WrongCode: 6,
        Denied: 7,
        RequestFailed: 8,
        DeviceFailed: 9,
        NotPaired: 10,
        WindowClosed: 11,
        RefusedByUser: 12,
        NotLocal: 13,
        KeyboardInterrupt: INTERRUPTED,
    }
)


def exit_code(error: BaseException) -> int:
    """The code of the nearest class in the table; 1 for what is not in it."""
    for kind in type(error).__mro__:
        if kind in EXIT_CODES:
            return EXIT_CODES[kind]
    return OTHER
