"""Exit codes of both command lines: one table for the programs, their help and the tests."""

from enum import IntEnum
from types import MappingProxyType
from typing import Final

from peer.errors import PeerError


class ExitCode(IntEnum):
    """Exit codes. `PeerError.exit_code` assigns one of them to each class of errors."""

    DONE = 0
    OTHER = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMED_OUT = 4
    PIN = 5
    WRONG_CODE = 6
    DENIED = 7
    REQUEST = 8
    DEVICE = 9
    NOT_PAIRED = 10
    WINDOW_CLOSED = 11
    REFUSED = 12
    NOT_LOCAL = 13
    OUTPUT = 14
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: Final = MappingProxyType(
    {
        ExitCode.DONE: "success",
        ExitCode.OTHER: "other error",
        ExitCode.USAGE: "usage error",
        ExitCode.NOT_FOUND: "not found or unreachable",
        ExitCode.TIMED_OUT: "timed out",
        ExitCode.PIN: "the device's key is not the pinned one",
        ExitCode.WRONG_CODE: "wrong code or locked out",
        ExitCode.DENIED: "denied by policy",
        ExitCode.REQUEST: "other 4.xx response",
        ExitCode.DEVICE: "5.xx response",
        ExitCode.NOT_PAIRED: "not paired",
        ExitCode.WINDOW_CLOSED: "pairing window closed",
        ExitCode.REFUSED: "refused by the device's user",
        ExitCode.NOT_LOCAL: "not on the local network",
        ExitCode.OUTPUT: "standard output is closed or full",
        ExitCode.INTERRUPTED: "interrupted",
    }
)
"""The meaning of each exit code, for the help of a program."""


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code of an error; `OTHER` for an error that is not a `PeerError`."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return ExitCode(error.exit_code) if isinstance(error, PeerError) else ExitCode.OTHER
