"""The state of a resource that is the same for all observers, rendered once for each change.

Each observer is still authorized by itself (`peer.net.observing`). A rendering is shared only if
the resource says that its answer does not depend on who asks, between requests that agree in all
options that the answer may depend on, and until the next change.
"""

from dataclasses import dataclass
from typing import Self

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber

from peer.limits import SHARED_STATES
from peer.net.aiocoap_seam.shared_messages import SharedMessage
from peer.net.remote import CoapsRemote

#: Options of a request that make its answer another one than that to other observers.
_OF_ONE_OBSERVER = (OptionNumber.BLOCK2, OptionNumber.ETAG, OptionNumber.SIZE2)


class SharedStates:
    """The renderings of one resource since its last change, by the options of the request."""

    def __init__(self) -> None:
        self._kept: dict[object, SharedMessage] = {}
        #: How often the resource has changed.
        self.version = 0

    def changed(self) -> None:
        """Note that the resource has changed: no rendering is valid any more."""
        self.version += 1
        self._kept.clear()

    def find(self, key: object) -> SharedMessage | None:
        """Return the rendering for a request, if there is one since the last change."""
        return self._kept.get(key)

    def keep(self, key: object, message: SharedMessage, *, version: int) -> None:
        """Keep what was rendered at a version, unless the resource has changed meanwhile."""
        if version == self.version and len(self._kept) < SHARED_STATES:
            self._kept[key] = message


@dataclass(frozen=True, slots=True)
class Sharing:
    """The states that one observation shares with others.

    Attributes:
        states: the renderings of its resource.
        key: the options of its request.
        formats: the content formats of its notifications so far.
    """

    states: SharedStates
    key: object
    formats: set[int | None]

    @classmethod
    def of(
        cls, request: aiocoap.Message, states: SharedStates, formats: set[int | None]
    ) -> Self | None:
        """Return what the observation of a request can share, if anything."""
        if any(request.opt.get_option(number) for number in _OF_ONE_OBSERVER):
            return None
        return cls(states, request.get_cache_key([OptionNumber.OBSERVE]), formats)

    def found(self, remote: CoapsRemote, *, after: int) -> SharedMessage | None:
        """Return a notification to send to a remote, with a number after that of the last one.

        None: there is none, it has another content format than the notifications before, or it has
        to be sent in blocks.
        """
        kept = self.states.find(self.key)
        if (
            kept is None
            or kept.number <= after
            or kept.content_format not in self.formats
            or len(kept.payload) > remote.maximum_payload_size
        ):
            return None
        return kept.another()

    def keep(self, notification: aiocoap.Message, *, number: int, version: int) -> None:
        """Keep a notification, rendered at a version of the states, if others can use it."""
        if notification.code is Code.CONTENT and notification.opt.block2 is None:
            self.states.keep(self.key, SharedMessage.of(notification, number), version=version)
