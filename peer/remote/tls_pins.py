"""TLS over TCP to brokers and relays, with the server's public key pinned.

The pin is checked as a part of the handshake. So a server with another key receives no password:
paho-mqtt sends CONNECT, and aioice sends its allocation request, after the handshake only. A pinned
connection does not depend on a certificate authority, a name or a clock. Without a pin, the server
needs a certificate for its name from an authority that this system trusts.
"""

import hmac
import ssl  # noqa: TID251  # TLS over TCP; peer.dtls is about DTLS
from hashlib import sha256
from typing import cast

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from peer.remote.errors import ServerFailure
from peer.remote.limits import BROKER_PACKET_BYTES


class PinError(ssl.SSLError):
    """The server proved a key other than the pinned one."""


class TlsContext(ssl.SSLContext):
    """The settings of one TLS client, and the error of its last handshake.

    Libraries turn the errors of a handshake into texts. `failure` keeps the reason, and
    `presented_pin` the pin of the key that the server has proved, if there is one to compare.
    """

    pin: bytes = b""
    presented_pin: bytes = b""
    failure: ServerFailure | None = None
    failure_text: str = ""

    def note_failure(self, error: OSError) -> None:
        """Remember why the handshake failed. Errors of the connection do not count as such."""
        if isinstance(error, PinError):
            self.failure = ServerFailure.PIN_MISMATCH
        elif isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            self.failure = ServerFailure.TLS_FAILED
        self.failure_text = getattr(error, "verify_message", "") or error.strerror or str(error)

    def check_certificate(self, certificate: bytes | None) -> None:
        """Raise `PinError` if a certificate, in DER, does not have the pinned key."""
        if not self.pin:
            return
        self.presented_pin = public_key_pin(certificate or b"")
        if not hmac.compare_digest(self.presented_pin, self.pin):
            raise PinError(ssl.SSL_ERROR_SSL, "the key of the server is not the pinned one")


def tls_context(pin: bytes) -> TlsContext:
    """Create the settings of a client that accepts the pinned key only.

    Args:
        pin: SHA-256 of the SubjectPublicKeyInfo; empty: verify the name of the server with the
            certificate authorities of the system.
    """
    context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # so that the checked key stays the key
    context.sslsocket_class = _CheckedSocket
    context.sslobject_class = _CheckedObject
    context.pin = pin
    if pin:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the pin is verified instead
    else:
        context.load_default_certs()
    return context


def public_key_pin(certificate: bytes) -> bytes:
    """Return the pin of a certificate in DER, or no bytes if it cannot be decoded."""
    try:
        key = load_der_x509_certificate(certificate).public_key()
        encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # the bytes are a stranger's, and the library raises errors of many kinds
        return b""
    return sha256(encoded).digest()


class _CheckedSocket(ssl.SSLSocket):
    """A blocking TLS socket, as paho-mqtt uses it."""

    def do_handshake(self, block: bool = False) -> None:
        """Do the handshake and check the pin."""
        context = cast(TlsContext, self.context)
        try:
            super().do_handshake(block)
            context.check_certificate(self.getpeercert(binary_form=True))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            context.note_failure(error)
            self.close()  # paho-mqtt leaves it open
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive bytes. A server that announces too many of them is disconnected.

        paho-mqtt asks for the rest of a packet, whose length the server has announced (up to 256
        MB), and keeps what it has received until the packet is complete.
        """
        if buflen > BROKER_PACKET_BYTES:
            raise ConnectionAbortedError(f"the server announced a packet of {buflen} bytes")
        return super().recv(buflen, flags)


class _CheckedObject(ssl.SSLObject):
    """A TLS connection over memory buffers, as asyncio uses it."""

    def do_handshake(self) -> None:
        """Do the handshake and check the pin."""
        context = cast(TlsContext, self.context)
        try:
            super().do_handshake()
            context.check_certificate(self.getpeercert(binary_form=True))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            context.note_failure(error)
            raise
