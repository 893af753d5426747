"""Errors that only the client raises."""

from peer.errors import PeerError, Unreachable


class Declined(PeerError):
    """The user of this client answered no."""


class BookError(PeerError):
    """A file of this client, such as that of paired devices, cannot be read, trusted or written."""


class ClientClosed(Unreachable):
    """The client was closed while it was used, by another task."""

    def __init__(self) -> None:
        super().__init__(
            "the client was closed", advice="Close a client when no task uses it any more."
        )


class NotKnown(Unreachable):
    """No paired device has that alias or ID."""
