"""The reason slugs of errors, events and pairings, in words.

Programs compare slugs; people read these words.
`tests/test_reason_words.py` holds the table against every closed set of slugs.
"""

from types import MappingProxyType
from typing import Final

REASON_WORDS: Final = MappingProxyType(
    {
        # The end of a ceremony, and of a window (protocol §4, §5).
        "client": "the client's user declined or cancelled",
        "closed": "the window was closed",
        "console": "it was closed by hand",
        "failures": "too many attempts failed",
        "mismatch": "the proof was wrong",
        "overlap": "two clients tried to pair at the same time",
        "refused": "it was refused",
        "replaced": "another window took its place",
        "restarted": "the client started again",
        "session-ended": "the client disconnected",
        "store": "the device could not store it",
        "success": "a client was paired",
        "time": "the window's time was up",
        "too-late": "it was not confirmed in time",
        "window-closed": "the pairing window is closed",
        # Refusals of requests (protocol §7) and of changes to users.
        "bad-option": "an option of the request is not supported",
        "busy": "another client is pairing now",
        "content-format": "the content format is not supported",
        "denied": "the device's policy does not allow it",
        "incomplete": "a part of the body is missing",
        "internal": "the device has an internal error",
        "invite": "the invite is not valid, or not any more",
        "last-owner": "the device would be left without an owner",
        "limit": "the device can store no more of them",
        "locked-out": "pairing is blocked after too many failed attempts",
        "malformed": "the text or the message is not valid",
        "method-not-allowed": "the resource does not have this method",
        "no-proxy": "the device is not a proxy",
        "not-found": "there is no such thing on the device",
        "not-local": "the client is not on the device's network",
        "not-paired": "the device does not know the client's key",
        "pairing-port": "the request belongs to the pairing port",
        "policy": "a policy file is not valid",
        "precondition-failed": "the resource has changed since it was read",
        "service-down": "the service of a tunnel does not answer on the device",
        "taken": "the name or the key is in use already",
        "too-large": "the body is too large",
        "too-many": "there are too many of them at once",
        "too-many-sessions": "the client has too many sessions",
        "unavailable": "a part of the device does not work now",
        "wrong-code": "the code was wrong",
        # Why a device cannot be reached from other networks.
        "not-installed": "a package that it needs is not installed",
        "password-file": "the file of a password cannot be used",
        "remote-key": "the remote master key cannot be used",
        "stopped": "the device does not run",
        # The rule of a refusal that is not local (protocol §3), and the faults of a store.
        "destination": "the packet was sent to another address",
        "interface": "the packet arrived on an interface that is not local",
        "path": "the client is connected by a remote path",
        "prefix": "the client's address is not on the link",
        "ttl": "the packet may have passed a router",
        # Why a broker, a relay or a remote path cannot be used (protocol §11).
        "no-candidate": "there is no usable address, or no relay",
        "no-path": "no pair of addresses works",
        "not-heard": "it does not deliver the messages of this account",
        "pin-mismatch": "it has another key than the pinned one",
        "tls-failed": "its certificate is not trusted, or TLS failed",
        "unreachable": "it does not answer",
        # The faults of a store.
        "damaged": "the store was damaged",
        "events-lost": "events of the audit trail were lost",
        "failed-write": "the store held a change that was reported as failed",
        "mark-lost": "the mark beside the store was lost",
        "missing": "the store was missing",
        "older": "the store was older than its mark",
    }
)
"""Words for each slug; they stand after "because" or a colon."""


def reason_in_words(slug: str) -> str:
    """Return the words for a slug. Any other text is returned as it is."""
    return REASON_WORDS.get(slug, slug)


def broker_reason_in_words(slug: str) -> str:
    """Return the words for the reason why a broker is not attached; they speak of the broker."""
    return (
        "it refuses the account, or what the account asks for"
        if slug == "refused"
        else reason_in_words(slug)
    )
