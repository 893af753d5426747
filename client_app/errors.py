"""Exit codes, and the errors that only the client raises."""

from typing import Final

from peer.errors import PeerError, Unreachable

DONE: Final = 0
OTHER: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


class Declined(PeerError):
    """The user of this client answered no."""


class BookError(PeerError):
    """The file of paired devices cannot be read, trusted or written."""


class NotKnown(Unreachable):
    """No paired device has that alias or ID."""


def exit_code(error: BaseException) -> int:
    """The exit code of an error; 1 for an error that is not a `PeerError`."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return error.exit_code if isinstance(error, PeerError) else OTHER
