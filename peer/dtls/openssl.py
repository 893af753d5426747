"""Facts about an OpenSSL connection, and settings of a context, that pyOpenSSL has no name for."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from OpenSSL import SSL, crypto
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

ACCEPTED = int(_lib.X509_V_OK)
UNKNOWN_KEY = int(_lib.X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT)
"""The reason for which OpenSSL sends the alert unknown_ca (48)."""
UNSUPPORTED_KEY = int(_lib.X509_V_ERR_INVALID_PURPOSE)
"""The reason for which OpenSSL sends the alert unsupported_certificate (43)."""

_FRAGMENT_TAG = 0xB1  # [17] of OpenSSL's ASN.1 form of a session
_FRAGMENT_FIELD = b"\xb1\x03\x02\x01"  # its beginning: an INTEGER of one byte
_FRAGMENT_BYTES = {1: 512, 2: 1024, 3: 2048, 4: 4096}  # RFC 6066 §4
_LONG_FORM = 0x80

Verify = Callable[[SSL.Connection, crypto.X509, int], int]
"""Returns why the certificate at a depth is refused: one of the constants above."""

# Each callback lives as long as its context. A new connection copies a pointer to it.
_callbacks: WeakKeyDictionary[SSL.Context, object] = WeakKeyDictionary()


def reason(error: SSL.Error) -> str:
    """Return OpenSSL's words for the newest error in its queue."""
    details = error.args[0] if error.args else ""
    newest = details[-1][-1] if isinstance(details, list) and details else details
    return str(newest) or "OpenSSL gives no reason"


def advice(reason: str) -> str:
    """Return what to do about a failed handshake, or an empty string."""
    match reason:
        case "peer did not return a certificate":
            return "Connect with a client certificate (an EC key on P-256)."
        case "ssl/tls alert unsupported certificate" | "tls alert unsupported certificate":
            return "Use an EC key on prime256v1."
        case "no shared cipher" | "tls alert handshake failure":
            return (
                "Both sides need ECDHE-ECDSA on the group secp256r1, with AES-128-GCM, AES-128-CCM "
                "or ChaCha20."
            )
        case _:
            return ""


def has_extended_master_secret(connection: SSL.Connection) -> bool:
    """Return whether RFC 7627 is in use, by a name of OpenSSL that pyOpenSSL does not export."""
    get_support = getattr(_lib, "SSL_get_extms_support", None)
    return get_support is not None and get_support(connection._ssl) == 1  # noqa: SLF001  # see above


def is_resumed(connection: SSL.Connection) -> bool:
    """Return whether the handshake resumed an earlier session."""
    return bool(_lib.SSL_session_reused(connection._ssl))  # noqa: SLF001  # the same


def has_failed(connection: SSL.Connection) -> bool:
    """Return whether an error was fatal: OpenSSL then refuses every further call."""
    return connection.get_state_string() == b"error"


def max_fragment_bytes(connection: SSL.Connection) -> int | None:
    """Return the negotiated max_fragment_length (RFC 6066 §4) in bytes, or None.

    pyOpenSSL has no getter. The value is in the session, which OpenSSL writes as an ASN.1 sequence
    of tagged fields, once the cipher suite is chosen.
    """
    session = connection.get_session()
    der = _session_der(session) if session is not None else b""
    # Few clients negotiate it. The search spares the others the parsing of the whole sequence.
    for tag, value in _fields(der) if _FRAGMENT_FIELD in der else []:
        if tag == _FRAGMENT_TAG and value:
            return _FRAGMENT_BYTES.get(value[-1])
    return None


def _session_der(session: SSL.Session) -> bytes:
    pointer = session._session  # noqa: SLF001  # the same
    size = _lib.i2d_SSL_SESSION(pointer, _ffi.NULL)
    if size <= 0:
        return b""
    buffer = _ffi.new("unsigned char[]", size)
    _lib.i2d_SSL_SESSION(pointer, _ffi.new("unsigned char **", buffer))
    return bytes(_ffi.buffer(buffer))


def _fields(sequence: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each element of a DER sequence with tags of one byte."""
    (_, rest), _ = _element(sequence)
    fields = []
    while rest:
        field, rest = _element(rest)
        fields.append(field)
    return fields


def _element(der: bytes) -> tuple[tuple[int, bytes], bytes]:
    size, start = der[1], 2
    if size & _LONG_FORM:
        start += size & ~_LONG_FORM
        size = int.from_bytes(der[2:start], "big")
    return (der[0], der[start : start + size]), der[start + size :]


def set_verify(context: SSL.Context, mode: int, verify: Verify) -> None:
    """Have OpenSSL ask `verify` about each certificate.

    pyOpenSSL's callback says only yes or no, and then OpenSSL chooses the alert by what it found
    itself. Here the reason for a refusal chooses the alert.
    """
    answer = ACCEPTED

    def is_accepted(
        connection: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, _ok: int
    ) -> bool:
        nonlocal answer
        answer = verify(connection, certificate, depth)
        return answer == ACCEPTED

    context.set_verify(mode, is_accepted)
    helper = context._verify_helper  # noqa: SLF001  # the only place of its callback
    assert helper is not None, "set_verify has made it"
    ask = helper.callback

    def callback(ok: int, store: object) -> int:
        accepted: int = ask(ok, store)
        if not accepted:
            _lib.X509_STORE_CTX_set_error(store, answer)
        return accepted

    _callbacks[context] = pointer = _ffi.callback("int (*)(int, X509_STORE_CTX *)", callback)
    _lib.SSL_CTX_set_verify(context._context, mode, pointer)  # noqa: SLF001  # the same
