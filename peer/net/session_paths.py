"""The paths of sessions: which session a datagram belongs to, by how it arrived.

Nearly every datagram is one record of an established session, and arrives like the one before it:
from the same address and port, at the same address and interface, with the same hop limit. Its
session is found by what the kernel reports, without an `Address`, a `Datagram`, or a search of the
endpoint's tables. The session decrypts it and judges its path as it would any other.

Only an authentic record makes an entry, and a session has one entry at most, that of its last path.
So the table is no longer than the number of sessions, and no one else can change it. A datagram
that has no entry, or is not exactly one record of application data, is processed by the endpoint.
"""

from dataclasses import replace

from peer.dtls import records
from peer.net.association import Association
from peer.net.datagram import Arrival, Datagram


class SessionPath:
    """The last path of a session: takes the records that arrive by it."""

    __slots__ = ("_arrived", "_session")

    def __init__(self, session: Association, arrived: Datagram) -> None:
        self._session = session
        self._arrived = replace(arrived, data=b"")

    def receive_untrusted(self, data: bytes) -> bool:
        """Process a datagram that is one record of application data; return False for another."""
        if not records.is_one_application_record(data):
            return False
        self._session.receive_record_untrusted(data, self._arrived)
        return True


class SessionPaths:
    """The paths of the sessions on one socket.

    Invariant: each entry of `receivers` leads to an established session in the endpoint's table,
    and no session has two. The endpoint calls `note` for a session in its table only, and `forget`
    when it removes the session from there.
    """

    def __init__(self) -> None:
        #: Maps an arrival to the session whose last record arrived so.
        self.receivers: dict[Arrival, SessionPath] = {}
        self._of_session: dict[Association, Arrival] = {}

    def note(self, session: Association, datagram: Datagram) -> None:
        """Store the path of a session's authentic datagram in place of its earlier one."""
        arrival = datagram.arrival
        if arrival is None:
            return
        self.forget(session)
        self.receivers[arrival] = SessionPath(session, datagram)
        self._of_session[session] = arrival

    def forget(self, session: Association) -> None:
        """Forget the path of a session."""
        arrival = self._of_session.pop(session, None)
        if arrival is not None:
            del self.receivers[arrival]
