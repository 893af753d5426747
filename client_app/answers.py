"""What an error means to a shell, and the errors that only the client knows."""

from typing import Final

from peer.errors import PeerError, Unreachable

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


def exit_code(error: BaseException) -> int:
    """The code of an error; 1 for what is none of ours."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return error.exit_code if isinstance(error, PeerError) else OTHER
