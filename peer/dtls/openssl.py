"""Facts about an OpenSSL connection or error for which pyOpenSSL has no public name."""

from OpenSSL import SSL
from OpenSSL._util import lib as _lib


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
        case "no shared cipher" | "tls alert handshake failure":
            return "Both sides need ECDHE-ECDSA with AES-128-GCM, AES-128-CCM or ChaCha20."
        case _:
            return ""


def has_extended_master_secret(connection: SSL.Connection) -> bool:
    """Return whether RFC 7627 is in use, by a name of OpenSSL that pyOpenSSL does not export."""
    get_support = getattr(_lib, "SSL_get_extms_support", None)
    return get_support is not None and get_support(connection._ssl) == 1  # noqa: SLF001  # see above


def is_resumed(connection: SSL.Connection) -> bool:
    """Return whether the handshake resumed an earlier session."""
    return bool(_lib.SSL_session_reused(connection._ssl))  # noqa: SLF001  # the same
