"""The remote paths of an endpoint: each carries one DTLS session, of one expected key.

The channel below a path has been authorized for one key, so there is no cookie exchange, and none
of the tables that share out the endpoint among source addresses applies: neither the rate of
handshakes, nor the slots of half-open ones, nor the known hosts. A path has one session from its
beginning, and ends with it. The caller of `attach` bounds the number.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from peer.dtls import records
from peer.dtls.context import ServerContext
from peer.dtls.server_session import ServerSession
from peer.identity import Fingerprint, Identity
from peer.limits import Limits
from peer.net.association import Association, PeerAddress
from peer.net.datagram import Datagram
from peer.net.session_route import PATH_ADDRESS, PATH_MTU, PathSocket
from peer.net.stream_layer import is_stream_datagram


@dataclass(frozen=True, slots=True)
class AttachedPath:
    """A path, the only key that its session may have, and the session."""

    path: PathSocket
    expected: Fingerprint
    association: Association


class AttachedPaths:
    """The paths, by the number of their socket.

    Args:
        identity: the device's key.
        ccm8: also offer AES-128-CCM-8.
        limits: the limits of the endpoint.
        counters: counts dropped datagrams, by kind.
        split_untrusted: returns the records of a datagram, or None if it was dropped.
        on_message: called with each decrypted message.
        on_change: called when a session is established, and when it has ended.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        ccm8: bool,
        limits: Limits,
        counters: Counter[str],
        split_untrusted: Callable[[bytes], list[records.Record] | None],
        on_message: Callable[[Association, bytes], None],
        on_change: Callable[[Association], None],
    ) -> None:
        self._identity = identity
        self._ccm8 = ccm8
        self._context: ServerContext | None = None  # most devices never need it
        self._mtu = min(PATH_MTU, limits.payload_mtu)
        self._counters = counters
        self._split_untrusted = split_untrusted
        self._on_message = on_message
        self._on_change = on_change
        self._attached: dict[int, AttachedPath] = {}

    def __iter__(self) -> Iterator[AttachedPath]:
        """Iterate over a copy."""
        return iter((*self._attached.values(),))

    def get(self, peer: PeerAddress) -> AttachedPath | None:
        """Return the path of a peer, or None if it has another kind of socket."""
        return self._attached.get(peer.socket)

    def half_open(self) -> list[AttachedPath]:
        """Return the paths whose handshake is not complete."""
        return [one for one in self if not one.association.established]

    def attach(self, number: int, path: PathSocket, expected: Fingerprint) -> PeerAddress:
        """Wait for a ClientHello on a path, and accept only the `expected` key."""
        if self._context is None:
            # Without resumption: no ticket outlives the end of a key's sessions.
            self._context = ServerContext(
                self._identity, resumption=False, ccm8=self._ccm8, cookies=False
            )
        association = Association(
            ServerSession(self._context, mtu=self._mtu),
            socket=path,
            remote=PATH_ADDRESS,
            counters=self._counters,
            on_message=self._on_message,
            on_change=self._on_change,
            socket_number=number,
            path=path,
        )
        self._attached[number] = AttachedPath(path, expected, association)
        path.open(
            on_datagram=partial(self._datagram_untrusted, association),
            on_closed=association.close,
        )
        return association.peer

    def remove(self, peer: PeerAddress) -> None:
        """Close the path of a session that has ended."""
        attached = self._attached.pop(peer.socket, None)
        if attached is not None:
            attached.path.close()

    def _datagram_untrusted(self, association: Association, datagram: Datagram) -> None:
        if is_stream_datagram(datagram.data):
            association.receive_stream_untrusted(datagram.data)
        elif association.established and records.is_one_application_record(datagram.data):
            association.receive_record_untrusted(datagram.data, datagram)
        elif (found := self._split_untrusted(datagram.data)) is not None:
            association.receive_untrusted(datagram, found)
