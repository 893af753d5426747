"""A DTLS peer that is OpenSSL alone, without this project's session, in memory or over UDP."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from OpenSSL import SSL

from peer.identity import Identity
from tests.kit.waiting import TIMEOUT_SECONDS

_DATAGRAM = 1 << 16


def _accept(*_certificate: object) -> bool:
    return True


class OpenSslPeer:
    """One side of a session. What it wants to send is in `take`; `receive` takes a datagram."""

    def __init__(self, identity: Identity, *, is_server: bool = False) -> None:
        method = SSL.DTLS_SERVER_METHOD if is_server else SSL.DTLS_CLIENT_METHOD
        context = SSL.Context(method)
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.private_key)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept)
        context.set_session_id(b"openssl")
        self.connection = SSL.Connection(context)
        self.connection.set_ciphertext_mtu(1200)
        (self.connection.set_accept_state if is_server else self.connection.set_connect_state)()

    def step(self) -> bool:
        """Continue the handshake; return whether it is complete."""
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        return True

    def take(self) -> bytes:
        """Return what is to be sent: whole records."""
        try:
            return self.connection.bio_read(_DATAGRAM)
        except SSL.WantReadError:
            return b""

    def receive(self, datagram: bytes) -> None:
        """Take a received datagram."""
        self.connection.bio_write(datagram)

    def is_closed_by_the_peer(self) -> bool:
        """Read what has arrived; return whether a close_notify was in it."""
        with suppress(SSL.WantReadError):
            while True:
                try:
                    self.connection.recv(_DATAGRAM)
                except SSL.ZeroReturnError:
                    return True
        return False


class UdpPeer:
    """An `OpenSslPeer` with a UDP socket. Its calls block: use a thread."""

    def __init__(self, peer: OpenSslPeer, sock: socket.socket) -> None:
        self.peer = peer
        self._sock = sock
        sock.settimeout(TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._sock.close()

    @classmethod
    def connected(cls, identity: Identity, to: tuple[str, int]) -> Self:
        """A client of a server."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(to)
        return cls(OpenSslPeer(identity), sock)

    @classmethod
    def listening(cls, identity: Identity) -> Self:
        """A server for one client on a free port of loopback."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return cls(OpenSslPeer(identity, is_server=True), sock)

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    def send(self, datagram: bytes) -> None:
        """Send a datagram, unchanged."""
        self._sock.send(datagram)

    def flush(self) -> None:
        """Send what is to be sent."""
        if data := self.peer.take():
            self.send(data)

    def receive(self) -> None:
        """Wait for a datagram; the first one says who the client is."""
        data, source = self._sock.recvfrom(_DATAGRAM)
        self._sock.connect(source)
        self.peer.receive(data)

    def receive_message(self) -> bytes:
        """Wait for a message of the application; repeats of the handshake are passed over."""
        while True:
            self.receive()
            with suppress(SSL.WantReadError):
                return self.peer.connection.recv(_DATAGRAM)

    def until(self, is_done: Callable[[], bool]) -> None:
        """Exchange datagrams until something is so."""
        while not is_done():
            self.flush()
            self.receive()
        self.flush()

    def shake_hands(self) -> None:
        """Complete the handshake."""
        self.until(self.peer.step)

    def close(self) -> None:
        """Send a close_notify, and wait for the peer's."""
        self.peer.connection.shutdown()
        self.until(self.peer.is_closed_by_the_peer)
