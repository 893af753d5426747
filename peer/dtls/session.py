"""A DTLS 1.2 association over memory BIOs: datagrams in, datagrams and plaintext out.

The owner passes each datagram to `receive_untrusted`, then sends the result of `take_datagrams`,
and calls `handle_timeout` after `timeout` seconds. It does so as long as the session exists: if the
peer lost the last flight, only `receive_untrusted` makes OpenSSL retransmit it. A failed session
has its error in `failure`, and may have an alert to send. It is never used again.
"""

import weakref
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Self

from OpenSSL import SSL, crypto

from peer.dtls import openssl, records
from peer.dtls.context import ClientContext
from peer.dtls.peer_key import peer_fingerprint
from peer.errors import (
    HandshakeFailed,
    MessageNotSent,
    PeerError,
    PinMismatch,
    SessionFailed,
    UnsupportedKey,
)
from peer.identity import Fingerprint

EXPORTER_LABEL = b"EXPERIMENTAL-handfast-v1"
_EXPORTER_BYTES = 32
_READ_BYTES = 1 << 16  # per read; the BIO is read until it is empty, since it has no datagrams
_RECORD_BYTES = 1 << 14  # the most plaintext one record holds (RFC 6347 §4.1)
_EXPANSION = 64  # bytes: more than header, nonce and tag of each cipher suite


Ticket = SSL.Session
"""The state with which a client resumes a session."""


class SessionState(Enum):
    """The state of an association. It only changes to a later one."""

    HANDSHAKING = "handshaking"
    ESTABLISHED = "established"
    CLOSED = "closed"
    FAILED = "failed"


_ESTABLISHED = SessionState.ESTABLISHED  # looked up once: each message asks for it several times


class DtlsSession:
    """A DTLS association. Create a client's with `client`; a server's is a `ServerSession`.

    Once established, `peer_fingerprint` is the peer's key, `exporter` the RFC 5705 exporter value
    for the label of the protocol and an empty context, `resumed` whether an earlier session was
    resumed, and `extended_master_secret` whether RFC 7627 is in use. `record_bytes` is the longest
    message that a record holds (RFC 6066 §4), and `message_bytes` the longest one that also fits in
    a datagram. `client_random` is set by the owner of a server's session.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_is_released",
        "_mtu",
        "_pinned",
        "_verified",
        "client_random",
        "exporter",
        "extended_master_secret",
        "failure",
        "message_bytes",
        "peer_fingerprint",
        "record_bytes",
        "resumed",
        "state",
    )

    def __init__(
        self, context: SSL.Context, *, mtu: int, pinned: Fingerprint | None = None
    ) -> None:
        self._connection = SSL.Connection(context)
        self._connection.set_app_data(
            weakref.ref(self)
        )  # no reference cycle: an ended session is freed at once
        self._connection.set_ciphertext_mtu(mtu)
        self._mtu = mtu
        self._pinned = pinned
        self._verified: tuple[bytes, int] | None = None  # a certificate, and what was answered
        self._is_released = False
        self.state = SessionState.HANDSHAKING
        self.failure: PeerError | None = None
        self.peer_fingerprint: Fingerprint | None = None
        self.exporter = b""
        self.extended_master_secret = False
        self.resumed = False
        self.record_bytes = self.message_bytes = _RECORD_BYTES
        self.client_random: bytes | None = None

    @classmethod
    def client(
        cls,
        context: ClientContext,
        *,
        mtu: int,
        pinned: Fingerprint | None,
        resume: Ticket | None = None,
    ) -> Self:
        """Create a client's session with a ClientHello to send. Only the `pinned` key passes."""
        session = cls(context.ssl, mtu=mtu, pinned=pinned)
        session._connection.set_connect_state()
        if resume is not None:
            session._connection.set_session(resume)
        session._step()
        return session

    # -- the peer's key -------------------------------------------------------------------------

    def verify_certificate(self, certificate: crypto.X509) -> int:
        """Store the key of the peer's certificate, and compare it with the pinned one.

        Return the reason of `openssl` that accepts or refuses it. Only for OpenSSL's callback,
        which asks several times about one certificate. Never raises: after an exception, OpenSSL
        would send no alert.
        """
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        if self._verified is None or self._verified[0] != der:
            self._verified = der, self._verify(certificate, der)
        return self._verified[1]

    def _verify(self, certificate: crypto.X509, der: bytes) -> int:
        try:
            self.peer_fingerprint = peer_fingerprint(certificate, der)
        except UnsupportedKey as error:
            self.failure = error
            return openssl.UNSUPPORTED_KEY
        if self._pinned is not None and self._pinned != self.peer_fingerprint:
            self.failure = PinMismatch(self._pinned.hex, self.peer_fingerprint.hex)
            return openssl.UNKNOWN_KEY
        return openssl.ACCEPTED

    # -- datagrams and plaintext ----------------------------------------------------------------

    def receive_untrusted(self, found: list[records.Record]) -> list[bytes]:
        """Process the records of one datagram; return the plaintext of each application record.

        Never raises: an error is in `state` and `failure`.
        """
        if self.state in (SessionState.CLOSED, SessionState.FAILED):
            return []
        self._connection.bio_write(b"".join(record.data for record in found))
        if self.state is SessionState.HANDSHAKING:
            self._step()
        return self._read()

    def open_record_untrusted(self, record: bytes) -> bytes | None:
        """Decrypt one record of application data; return its plaintext, or None.

        It is `receive_untrusted` for a datagram that is exactly one such record, at less cost. If
        it returns plaintext, there is nothing to send. If it returns None, there may be an alert,
        and the session may have ended. Never raises.
        """
        if self.state is not _ESTABLISHED:
            return None
        self._connection.bio_write(record)
        try:
            return self._connection.recv(len(record))
        except SSL.Error as error:
            self._note(error)
            return None

    def seal(self, plaintext: bytes) -> bytes | None:
        """Encrypt one message; return the datagram to send, or None unless established.

        It is `send` and `take_datagrams` if nothing else waits to be sent, at less cost, and raises
        what `send` raises.
        """
        if not self.send(plaintext):
            return None
        return self._connection.bio_read(len(plaintext) + _EXPANSION)

    def send(self, plaintext: bytes) -> bool:
        """Encrypt one message into one record; return whether it was. Only if established.

        Raises `MessageNotSent` if OpenSSL cannot encrypt it, and for more than `record_bytes`:
        OpenSSL would end the session. So the session continues.
        """
        if self.state is not _ESTABLISHED:
            return False
        if len(plaintext) > self.record_bytes:
            raise MessageNotSent(
                f"a message of {len(plaintext)} bytes does not fit this session",
                advice=f"A message has at most {self.record_bytes} bytes.",
            )
        try:
            self._connection.send(plaintext)
        except SSL.Error as error:
            if not openssl.has_failed(self._connection):
                raise MessageNotSent(
                    f"the message was not sent: {openssl.reason(error)}"
                ) from error
            self._fail(self._failure(error))
            return False
        return True

    def take_datagrams(self) -> list[bytes]:
        """Return the datagrams to send now, each within the MTU.

        With small records, records are joined to no more than the size of one: GnuTLS reads no
        longer datagram then.
        """
        stream = b"" if self._is_released else self._drain()
        if not stream:
            return []
        if self.state is SessionState.HANDSHAKING:
            self._note_record_size()
        most = min(self._mtu, records.HEADER_BYTES + self.record_bytes)
        return records.pack(records.split_flight(stream), most)

    def timeout(self) -> float | None:
        """Return the seconds until `handle_timeout` is due, or None."""
        if self.state is not SessionState.HANDSHAKING:
            return None
        return self._connection.DTLSv1_get_timeout()

    def handle_timeout(self) -> None:
        """Retransmit the last flight. OpenSSL fails after its own number of retransmissions."""
        if self.state is SessionState.HANDSHAKING:
            self._guarded(self._connection.DTLSv1_handle_timeout)

    def close(self) -> None:
        """Close the session; the close_notify is in `take_datagrams`. Safe to repeat."""
        was_established = self.state is _ESTABLISHED
        if self.state is not SessionState.FAILED:
            self.state = SessionState.CLOSED
        if was_established:
            with suppress(SSL.Error):  # then there is no alert to send
                self._connection.shutdown()

    def release(self) -> None:
        """Free OpenSSL's part of a session that has ended, whatever still refers to the rest."""
        if self.state in (SessionState.CLOSED, SessionState.FAILED) and not self._is_released:
            self._is_released = True
            del self._connection

    @property
    def ticket(self) -> Ticket | None:
        """The state with which a later session can resume this one, while it is established."""
        return None if self._is_released else self._connection.get_session()

    def peer_certificate(self) -> bytes:
        """Return the certificate of the peer in DER, of an established session.

        Raises `HandshakeFailed` for any other session.
        """
        found = None
        if self.state is _ESTABLISHED:
            found = self._connection.get_peer_certificate()
        if found is None:
            raise HandshakeFailed("there is no established session")
        return crypto.dump_certificate(crypto.FILETYPE_ASN1, found)

    # -- inside ---------------------------------------------------------------------------------

    def _step(self) -> None:
        """Continue the handshake as far as the received records allow."""
        if self._guarded(self._connection.do_handshake):
            self._establish()

    def _establish(self) -> None:
        if self.peer_fingerprint is None:
            # A resumed handshake has no Certificate message, so the callback was not called.
            certificate = self._connection.get_peer_certificate()
            if certificate is None or self.verify_certificate(certificate) != openssl.ACCEPTED:
                self._fail(HandshakeFailed("the peer sent no certificate"))
                return
        self.exporter = self._connection.export_keying_material(
            EXPORTER_LABEL, _EXPORTER_BYTES, b""
        )
        self.extended_master_secret = openssl.has_extended_master_secret(self._connection)
        self.resumed = openssl.is_resumed(self._connection)
        self._note_record_size()
        self.message_bytes = min(self._connection.get_cleartext_mtu(), self.record_bytes)
        self.state = SessionState.ESTABLISHED
        self._forget_handshake()

    def _forget_handshake(self) -> None:
        """Free what only a handshake needs."""
        self._verified = None

    def _note_record_size(self) -> None:
        self.record_bytes = openssl.max_fragment_bytes(self._connection) or _RECORD_BYTES

    def _read(self) -> list[bytes]:
        messages: list[bytes] = []
        while self.state is _ESTABLISHED:
            if not self._guarded(lambda: messages.append(self._connection.recv(_RECORD_BYTES))):
                break
        return messages

    def _guarded(self, call: Callable[[], object]) -> bool:
        """Call OpenSSL. Return False if it needs more records, or the session has ended."""
        try:
            call()
        except SSL.Error as error:
            self._note(error)
            return False
        return True

    def _note(self, error: SSL.Error) -> None:
        """End the session, unless OpenSSL only needs more records."""
        if isinstance(error, SSL.ZeroReturnError):
            # A close_notify, which one of this side has to answer (RFC 5246 §7.2.1). In a handshake
            # it is not authenticated, and not answered.
            self.close()
        elif not isinstance(error, SSL.WantReadError):
            self._fail(self._failure(error))

    def _failure(self, error: SSL.Error) -> PeerError:
        reason = openssl.reason(error)
        if self.state is SessionState.HANDSHAKING:
            return HandshakeFailed(
                f"the DTLS handshake failed: {reason}", advice=openssl.advice(reason)
            )
        return SessionFailed(f"the DTLS session failed: {reason}", advice="Connect again.")

    def _fail(self, error: PeerError) -> None:
        """End the session. After a fatal error its keys are not used again (RFC 5246 §7.2.2)."""
        if self.state in (SessionState.HANDSHAKING, SessionState.ESTABLISHED):
            # A handshake that the certificate callback refused has its failure already.
            self.failure = self.failure or error
            self.state = SessionState.FAILED

    def _drain(self) -> bytes:
        stream = b""
        while True:
            try:
                found = self._connection.bio_read(_READ_BYTES)
            except SSL.Error:
                return stream
            stream += found
            if len(found) < _READ_BYTES:  # a further read would only raise an exception
                return stream
