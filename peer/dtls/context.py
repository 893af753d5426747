"""OpenSSL contexts of a server and a client. They are never changed after construction.

DTLS 1.2 only, with ECDHE-ECDSA on secp256r1 and AEAD suites, mutual certificates, no renegotiation
and no compression (RFC 7525). A certificate is a container for a key, so the checks of chains,
dates and names by OpenSSL do not apply: the verify callback passes the key to the session, which
compares its fingerprint with the pinned one. A refusal in the callback reaches the peer as an
alert, and no byte of a request is sent to a wrong key.
"""

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from peer.dtls import key_log, openssl
from peer.identity import Identity

# RFC 7252 §9.1.3.3 requires AES-128-CCM-8; its 64-bit tag is short, so it is optional here.
_SUITES = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-CCM:ECDHE-ECDSA-CHACHA20-POLY1305"
_CCM8_SUITES = _SUITES + b":ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"
_DTLS_1_2 = 0xFEFD
_OP_COOKIE_EXCHANGE = 0x2000  # SSL_OP_COOKIE_EXCHANGE, a constant of OpenSSL's ABI
_OP_NO_RENEGOTIATION = 0x40000000  # SSL_OP_NO_RENEGOTIATION
_SESSION_CONTEXT = b"handfast/1"


class _Session(Protocol):
    """The callbacks of a session. A weak reference to it is the connection's app data."""

    def verify_certificate(self, certificate: crypto.X509) -> int: ...


class _ServerSession(_Session, Protocol):
    """And those of a server's session."""

    def make_cookie(self) -> bytes: ...
    def check_cookie(self, cookie: bytes) -> bool: ...


def _verify(connection: SSL.Connection, certificate: crypto.X509, depth: int) -> int:
    """Verify the key of the peer's own certificate."""
    # Certificates of a chain are neither needed nor trusted.
    return openssl.ACCEPTED if depth else _session(connection).verify_certificate(certificate)


def _make_cookie(connection: SSL.Connection) -> bytes:
    return _server_session(connection).make_cookie()


def _check_cookie(connection: SSL.Connection, cookie: bytes) -> bool:
    return _server_session(connection).check_cookie(cookie)


def _session(connection: SSL.Connection) -> _Session:
    """Return the session of a connection. It exists while one of its methods runs."""
    session: _Session = connection.get_app_data()()
    return session


def _server_session(connection: SSL.Connection) -> _ServerSession:
    session: _ServerSession = connection.get_app_data()()
    return session


def _context(method: int, identity: Identity, *, ccm8: bool) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(_DTLS_1_2)
    # In DTLS 1.3 (RFC 9147) the cookie exchange, flights, the exporter (b"" is not "no context")
    # and resumption differ, so a newer OpenSSL must not negotiate it.
    context.set_max_proto_version(_DTLS_1_2)
    context.set_cipher_list(_CCM8_SUITES if ccm8 else _SUITES)
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.private_key)
    # set_ciphertext_mtu has an effect only with NO_QUERY_MTU.
    context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_COMPRESSION | _OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # saves 32 KiB of buffers per idle session
    if (sink := key_log.sink()) is not None:
        context.set_keylog_callback(lambda _connection, line: sink(line))
    openssl.set_verify(context, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    return context


class ServerContext:
    """The context of a server. Without `resumption`, every session needs a full handshake.

    Without `cookies`, a handshake begins with the first ClientHello: only where the source of each
    datagram is known.

    Session tickets are encrypted with a key of this object, so a new context makes all of them
    invalid. A revocation does that.
    """

    def __init__(
        self, identity: Identity, *, resumption: bool, ccm8: bool = False, cookies: bool = True
    ) -> None:
        context = _context(SSL.DTLS_SERVER_METHOD, identity, ccm8=ccm8)
        # The only group. A client offers others too, so that it can say what is wrong with the key
        # of a server on another curve.
        context.set_tmp_ecdh(ec.SECP256R1())
        if cookies:
            context.set_options(_OP_COOKIE_EXCHANGE)
        context.set_session_id(_SESSION_CONTEXT)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if not resumption:
            context.set_options(SSL.OP_NO_TICKET)
        context.set_cookie_generate_callback(_make_cookie)
        context.set_cookie_verify_callback(_check_cookie)
        self.ssl = context


class ClientContext:
    """The context of a client: one for all sessions, so that one can resume another."""

    def __init__(self, identity: Identity, *, ccm8: bool = False) -> None:
        context = _context(SSL.DTLS_CLIENT_METHOD, identity, ccm8=ccm8)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self.ssl = context
