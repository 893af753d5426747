"""One DTLS association over memory BIOs: datagrams in, datagrams and plaintext out.

The owner feeds `receive_untrusted`, then always sends what `take_datagrams` holds, then asks
`timeout` when to call `handle_timeout`. It does so for the whole life of the session, since a peer
that missed our last flight is helped from inside `receive_untrusted` alone. A session that has
failed says why in `failure` and may still hold an alert to send. It is never revived.
"""

import weakref
from collections.abc import Callable
from enum import Enum
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto
from OpenSSL._util import lib as _openssl

from peer.dtls import records
from peer.dtls.context import ClientContext, ServerContext
from peer.errors import HandshakeFailed, PeerError, PinMismatch, SessionFailed
from peer.identity import Fingerprint

_EXPORTER_LABEL = b"EXPERIMENTAL-handfast-v1"
_EXPORTER_BYTES = 32
_READ_BYTES = 1 << 16  # the BIO is drained whole: it remembers no datagram borders
_RECORD_BYTES = 1 << 14  # the most plaintext one record holds (RFC 6347 §4.1)
_HELLO_BYTES = 1 << 14  # DTLSv1_listen reads no more; the rest would precede the next ClientHello


Ticket = SSL.Session
"""What a client needs to resume a session."""


class SessionState(Enum):
    """Where an association stands. It only ever moves downwards."""

    HANDSHAKING = "handshaking"
    ESTABLISHED = "established"
    CLOSED = "closed"
    FAILED = "failed"


class DtlsSession:
    """One association. Made by `client` or `server`; one use."""

    def __init__(
        self, context: SSL.Context, *, mtu: int, pinned: Fingerprint | None = None
    ) -> None:
        self._connection = SSL.Connection(context)
        self._connection.set_app_data(weakref.ref(self))  # no cycle: an ended session is freed
        self._connection.set_ciphertext_mtu(mtu)
        self._mtu = mtu
        self._pinned = pinned
        self._make_cookie: Callable[[], bytes] | None = None
        self._check_cookie: Callable[[bytes], bool] | None = None
        self.state = SessionState.HANDSHAKING
        self.failure: PeerError | None = None
        self.peer_fingerprint: Fingerprint | None = None
        self.exporter = b""  # RFC 5705 value for label and empty context, once established
        self.extended_master_secret = False
        self.resumed = False
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
        """A session that begins with our ClientHello. With `pinned`, only that key will do."""
        session = cls(context.ssl, mtu=mtu, pinned=pinned)
        session._connection.set_connect_state()
        if resume is not None:
            session._connection.set_session(resume)
        session._step()
        return session

    @classmethod
    def server(cls, context: ServerContext, *, mtu: int) -> Self:
        """A session that waits for a ClientHello; see `listen_untrusted`."""
        session = cls(context.ssl, mtu=mtu)
        session._connection.set_accept_state()
        return session

    # -- the cookie gate ------------------------------------------------------------------------

    def listen_untrusted(
        self,
        hello: bytes,
        *,
        make_cookie: Callable[[], bytes],
        check_cookie: Callable[[bytes], bool],
    ) -> bytes | None:
        """Judge a first ClientHello. None: its cookie is good and the handshake has begun.

        Else the HelloVerifyRequest to send (empty if the datagram deserves no answer); nothing of
        the ClientHello is kept, and the object can judge the next one. `hello` is one record.
        `check_cookie` is asked once, before anything is computed or signed.
        """
        if len(hello) > _HELLO_BYTES:
            return b""
        self._make_cookie, self._check_cookie = make_cookie, check_cookie
        try:
            self._connection.bio_write(hello)
            self._connection.DTLSv1_listen()
            self._check_cookie = lambda _cookie: True  # the next step reads the same ClientHello
            self._step()
        except SSL.Error:
            return self._drain()
        finally:
            self._make_cookie = self._check_cookie = None
        return None

    def make_cookie(self) -> bytes:
        """For OpenSSL's callback alone."""
        return self._make_cookie() if self._make_cookie else b""

    def check_cookie(self, cookie: bytes) -> bool:
        """For OpenSSL's callback alone."""
        return self._check_cookie is not None and self._check_cookie(cookie)

    # -- the key of the other side --------------------------------------------------------------

    def accepts_certificate(self, certificate: crypto.X509) -> bool:
        """For OpenSSL's callback alone: note the leaf's key, compare it with the pinned one.

        Never raises: an exception would leave OpenSSL's callback past the alert.
        """
        try:
            key: object = certificate.to_cryptography().public_key()
        except Exception:  # an unknown curve, algorithm, version or encoding: many types of error
            self.failure = HandshakeFailed(
                "the other side's certificate cannot be read",
                advice="Use an EC key on prime256v1.",
            )
            return False
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            self.failure = HandshakeFailed(
                "the other side's key is not on P-256", advice="Use an EC key on prime256v1."
            )
            return False
        self.peer_fingerprint = Fingerprint.of_public_key(key)
        if self._pinned is not None and self._pinned != self.peer_fingerprint:
            self.failure = PinMismatch(self._pinned.hex, self.peer_fingerprint.hex)
            return False
        return True

    # -- the pump -------------------------------------------------------------------------------

    def receive_untrusted(self, found: list[records.Record]) -> list[bytes]:
        """Take the records of one datagram and return the plaintext of each application record.

        Never raises: what fails shows in `state` and `failure`.
        """
        if self.state in (SessionState.CLOSED, SessionState.FAILED):
            return []
        self._connection.bio_write(b"".join(record.data for record in found))
        if self.state is SessionState.HANDSHAKING:
            self._step()
        return self._read()

    def send(self, plaintext: bytes) -> None:
        """Encrypt one message into one record. A no-op unless established."""
        if self.state is SessionState.ESTABLISHED:
            self._guarded(lambda: self._connection.send(plaintext))

    def take_datagrams(self) -> list[bytes]:
        """What must go out now, each datagram within the path's size."""
        return records.pack(records.split_flight(self._drain()), self._mtu)

    def timeout(self) -> float | None:
        """Seconds until `handle_timeout` is due, or None."""
        if self.state is not SessionState.HANDSHAKING:
            return None
        return self._connection.DTLSv1_get_timeout()

    def handle_timeout(self) -> None:
        """Repeat the last flight; OpenSSL gives up after its own count of repeats."""
        if self.state is SessionState.HANDSHAKING:
            self._guarded(self._connection.DTLSv1_handle_timeout)

    def close(self) -> None:
        """Say close_notify once; the datagram is in `take_datagrams`."""
        if self.state is SessionState.ESTABLISHED:
            self._guarded(self._connection.shutdown)
        if self.state is not SessionState.FAILED:
            self.state = SessionState.CLOSED

    @property
    def cleartext_mtu(self) -> int:
        """How many bytes of plaintext fit one datagram, once established."""
        return self._connection.get_cleartext_mtu()

    @property
    def ticket(self) -> Ticket | None:
        """What a later session to the same device may resume, once established."""
        return self._connection.get_session()

    # -- inside ---------------------------------------------------------------------------------

    def _step(self) -> None:
        """Move the handshake on as far as what has arrived allows."""
        if self._guarded(self._connection.do_handshake):
            self._establish()

    def _establish(self) -> None:
        if self.peer_fingerprint is None:
            # A resumed handshake carries no certificate message, so the callback was not asked.
            certificate = self._connection.get_peer_certificate()
            if certificate is None or not self.accepts_certificate(certificate):
                self._fail(HandshakeFailed("the other side showed no certificate"))
                return
        self.exporter = self._connection.export_keying_material(
            _EXPORTER_LABEL, _EXPORTER_BYTES, b""
        )
        self.extended_master_secret = _has_extended_master_secret(self._connection)
        self.resumed = _is_resumed(self._connection)
        self.state = SessionState.ESTABLISHED

    def _read(self) -> list[bytes]:
        messages: list[bytes] = []
        while self.state is SessionState.ESTABLISHED:
            if not self._guarded(lambda: messages.append(self._connection.recv(_RECORD_BYTES))):
                break
        return messages

    def _guarded(self, call: Callable[[], object]) -> bool:
        """Run one OpenSSL call. True: it was done; False: it waits, or the session has ended."""
        try:
            call()
        except SSL.WantReadError:
            return False
        except SSL.ZeroReturnError:
            self.state = SessionState.CLOSED
            return False
        except SSL.Error as error:
            self._fail(self._failure(error))
            return False
        return True

    def _failure(self, error: SSL.Error) -> PeerError:
        reason = _reason(error)
        if self.state is SessionState.HANDSHAKING:
            return HandshakeFailed(f"the DTLS handshake failed: {reason}", advice=_advice(reason))
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
                stream += self._connection.bio_read(_READ_BYTES)
            except SSL.Error:
                return stream


def _reason(error: SSL.Error) -> str:
    """Return OpenSSL's words for the newest error in its queue."""
    details = error.args[0] if error.args else ""
    reason = details[-1][-1] if isinstance(details, list) and details else details
    return str(reason) or "OpenSSL gives no reason"


def _advice(reason: str) -> str:
    match reason:
        case "peer did not return a certificate":
            return "Connect with a client certificate (an EC key on P-256)."
        case "no shared cipher" | "tls alert handshake failure":
            return "Both sides need ECDHE-ECDSA with AES-128-GCM, AES-128-CCM or ChaCha20."
        case _:
            return ""


def _has_extended_master_secret(connection: SSL.Connection) -> bool:
    """RFC 7627. pyOpenSSL has no public name for this; if it ever lacks it, the answer is no."""
    ask = getattr(_openssl, "SSL_get_extms_support", None)
    return ask is not None and ask(connection._ssl) == 1


def _is_resumed(connection: SSL.Connection) -> bool:
    return bool(_openssl.SSL_session_reused(connection._ssl))
