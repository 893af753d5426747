"""One finished OpenSSL context per role. It is built once and never changed afterwards.

Only DTLS 1.2 with ECDHE-ECDSA and AEAD suites, mutual certificates, no renegotiation, no
compression (RFC 7525). Certificates are containers, so OpenSSL's own verdict on them (chains,
dates, names) is not asked for: the verify callback hands the leaf's key to the session, and the
session compares its fingerprint with the pinned one inside the callback, so that a refusal reaches
the other side as an alert and no byte of a request is ever sent to a wrong key.
"""

from typing import Protocol, cast

from OpenSSL import SSL, crypto

from peer.identity import Identity

# RFC 7252 §9.1.3.3 asks for AES-128-CCM-8, whose 64-bit tag is short: offered by a switch only.
_SUITES = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-CCM:ECDHE-ECDSA-CHACHA20-POLY1305"
_CCM8_SUITES = _SUITES + b":ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"
_DTLS_1_2 = 0xFEFD
_OP_COOKIE_EXCHANGE = 0x2000  # SSL_OP_COOKIE_EXCHANGE, a constant of OpenSSL's ABI
_OP_NO_RENEGOTIATION = 0x40000000  # SSL_OP_NO_RENEGOTIATION
_SESSION_CONTEXT = b"handfast/1"


class _Session(Protocol):
    """What the callbacks need of a session; a weak reference to it is the connection's app data."""

    def accepts_certificate(self, certificate: crypto.X509) -> bool: ...
    def make_cookie(self) -> bytes: ...
    def check_cookie(self, cookie: bytes) -> bool: ...


def _verify(
    connection: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, _ok: int
) -> bool:
    """Judge the leaf's key alone."""
    # A chain is neither needed nor trusted.
    return bool(depth) or _session(connection).accepts_certificate(certificate)


def _make_cookie(connection: SSL.Connection) -> bytes:
    return _session(connection).make_cookie()


def _check_cookie(connection: SSL.Connection, cookie: bytes) -> bool:
    return _session(connection).check_cookie(cookie)


def _session(connection: SSL.Connection) -> _Session:
    """The session of a connection, which lives while one of its methods is running."""
    return cast("_Session", connection.get_app_data()())


def _context(method: int, identity: Identity, *, ccm8: bool) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(_DTLS_1_2)
    # Capped on purpose: cookie gate, flight splitting, the exporter's meaning (b"" is not "no
    # context") and resumption differ in DTLS 1.3 (RFC 9147); a newer OpenSSL must not slip it in.
    context.set_max_proto_version(_DTLS_1_2)
    context.set_cipher_list(_CCM8_SUITES if ccm8 else _SUITES)
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.private_key)
    # NO_QUERY_MTU belongs to set_ciphertext_mtu: one without the other breaks flights.
    context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_COMPRESSION | _OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle session keeps no 32 KiB of buffers
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    return context


class ServerContext:
    """The device's side. Without `resumption` every session proves its key anew.

    Tickets are sealed by a key that lives and dies with this object: a new context ends every
    resumption, which is what a revocation does.
    """

    def __init__(self, identity: Identity, *, resumption: bool, ccm8: bool = False) -> None:
        context = _context(SSL.DTLS_SERVER_METHOD, identity, ccm8=ccm8)
        context.set_options(_OP_COOKIE_EXCHANGE)
        context.set_session_id(_SESSION_CONTEXT)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if not resumption:
            context.set_options(SSL.OP_NO_TICKET)
        context.set_cookie_generate_callback(_make_cookie)
        context.set_cookie_verify_callback(_check_cookie)
        self.ssl = context


class ClientContext:
    """The client's side. One for all sessions, so that a session can resume an earlier one."""

    def __init__(self, identity: Identity, *, ccm8: bool = False) -> None:
        context = _context(SSL.DTLS_CLIENT_METHOD, identity, ccm8=ccm8)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self.ssl = context
