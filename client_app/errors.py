"""Errors that only the client raises."""

from peer.errors import PeerError, Unreachable


class Declined(PeerError):
    """The user of this client answered no."""


class BookError(PeerError):
    """The file of paired devices cannot be read, trusted or written."""


class NotKnown(Unreachable):
    """No paired device has that alias or ID."""
