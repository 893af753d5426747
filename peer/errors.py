"""The errors of `peer`, as one tree.

    PeerError
    ├── UsageError            the call is not valid; nothing was tried
    ├── Unreachable           no such device, no route, no listener, connection lost
    │   ├── HandshakeFailed   a host answered, but no secure session was established
    │   │   └── UnsupportedKey    the other side's key is not a key on P-256
    │   ├── SessionFailed     an established session ended with an error
    │   ├── ObservationEnded  the session of an observation has ended
    │   └── BrokerError, CarrierError   of remote reach: see peer.remote.errors
    ├── TimedOut              no answer in time
    ├── PinMismatch           the other side's key is not the pinned one
    ├── WrongCode             a wrong code, or locked out after too many
    ├── MessageNotSent        one message that the session cannot carry; the session continues
    ├── RequestFailed         any other 4.xx response
    ├── Malformed             bytes or text that break their format
    ├── Denied                the device's policy denies the request
    ├── DeviceFailed          a 5.xx response
    ├── NotPaired             the device does not know this client's key
    ├── WindowClosed          the device's pairing window is closed
    ├── OtherPort             the device does this on another UDP port
    ├── RefusedByUser         the user at the device declined
    ├── NotLocal              pairing requires a direct neighbour on the same link
    └── IdentityError         a key file that cannot be used

`str(error)` says what happened; `error.advice` says what to do next. Neither contains a secret.
`exit_code` is the exit code of both commands for the class; it is defined here only.
"""

from enum import StrEnum
from typing import ClassVar, Final

from peer.digit_groups import first_difference, in_groups

_FINGERPRINT_DIGITS: Final = 64


class PeerError(Exception):
    """Base class. `advice` tells the user what to do next; it may be empty."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class UsageError(PeerError):
    """The call or its arguments are not valid; nothing was tried."""

    exit_code: ClassVar[int] = 2


class Cause(StrEnum):
    """Why there is no connection, as far as this machine or another host reported it."""

    UNKNOWN = ""
    REFUSED = "refused"  # the host reported that nothing listens on the port
    FORBIDDEN = "forbidden"  # a firewall or a router reported that it rejects the packets
    NO_NETWORK = "no-network"  # this machine has no route to the address
    NO_SCOPE = "no-scope"  # a link-local address without an interface, or with a wrong one
    NO_NAME = "no-name"  # the host name does not resolve


class Unreachable(PeerError):
    """No connection. `refused` is true if the host reported that nothing listens on the port."""

    exit_code: ClassVar[int] = 3

    def __init__(
        self,
        message: str,
        *,
        advice: str = "",
        refused: bool = False,
        cause: Cause = Cause.UNKNOWN,
    ) -> None:
        super().__init__(message, advice=advice)
        self.cause = Cause.REFUSED if refused else cause
        self.refused = self.cause is Cause.REFUSED


class HandshakeFailed(Unreachable):
    """The DTLS handshake ended without a session: an alert, or data that is not DTLS."""


class UnsupportedKey(HandshakeFailed):
    """The peer's certificate has another kind of key than EC on P-256, or none that decodes."""


class SessionFailed(Unreachable):
    """An established DTLS session ended with an error, for example a fatal alert."""


class ObservationEnded(Unreachable):
    """The session that carried an observation has ended."""


class TimedOut(PeerError):
    """No answer within the time given."""

    exit_code: ClassVar[int] = 4


class PinMismatch(PeerError):
    """The peer proved a key other than the pinned one. No request was sent to it.

    `expected` and `actual` are fingerprints in canonical form (64 lower-case hex digits); or device
    IDs, if only the ID was pinned (`is_of_fingerprints` is false then). `difference` is the number
    of the first group of four digits in which they differ, and `summary` the text without the two
    values. `is_known` is False if the pin comes from a label, an invite or the user, and not from
    pairing.
    """

    exit_code: ClassVar[int] = 5

    def __init__(self, expected: str, actual: str, *, is_known: bool = True) -> None:
        self.expected = expected
        self.actual = actual
        self.is_of_fingerprints = len(expected) == len(actual) == _FINGERPRINT_DIGITS
        self.difference = first_difference(expected, actual)
        self.summary = "the device's key has changed" if is_known else "another device answered"
        values = [in_groups(one) if self.is_of_fingerprints else one for one in (expected, actual)]
        where = f"; they first differ in group {self.difference}" if self.is_of_fingerprints else ""
        keys = f"expected {values[0]}, received {values[1]}{where}"
        if is_known:
            super().__init__(
                f"{self.summary}: {keys}",
                advice=(
                    "If the device was reset, compare the new fingerprint with the one it shows, "
                    "then remove the device from this client and pair again. Otherwise do not "
                    "continue: this may be a man-in-the-middle attack."
                ),
            )
        else:
            super().__init__(
                f"{self.summary}: {keys}",
                advice="Check the address and the fingerprint that the device shows. If both are "
                "right, do not continue: this may be a man-in-the-middle attack.",
            )


class WrongCode(PeerError):
    """The code was wrong, or too many wrong codes were tried."""

    exit_code: ClassVar[int] = 6


class RequestFailed(PeerError):
    """A 4.xx response. `code` is in the form "4.04"; `reason` is the reason slug."""

    exit_code: ClassVar[int] = 8

    def __init__(
        self, message: str, *, advice: str = "", code: str = "4.00", reason: str = ""
    ) -> None:
        super().__init__(message, advice=advice)
        self.code = code
        self.reason = reason


class InvalidValue(RequestFailed):
    """The device refused a value of the request as invalid (4.00). Nothing was changed."""

    exit_code: ClassVar[int] = 2


class MessageNotSent(PeerError):
    """One message could not be sent, for example because it is too large. The session continues."""


class Malformed(PeerError):
    """Bytes or text that break their format: a message, a file, an address, a fingerprint.

    Every `*_untrusted` function raises it, and no other error.
    """


class Denied(PeerError):
    """The device knows this client, and its policy denies the request."""

    exit_code: ClassVar[int] = 7


class DeviceFailed(PeerError):
    """A 5.xx response. `code` is in the form "5.00"."""

    exit_code: ClassVar[int] = 9

    def __init__(self, message: str, *, advice: str = "", code: str = "5.00") -> None:
        super().__init__(message, advice=advice)
        self.code = code


class NotPaired(PeerError):
    """The device does not know this client's key."""

    exit_code: ClassVar[int] = 10


class WindowClosed(PeerError):
    """The device's pairing window is closed."""

    exit_code: ClassVar[int] = 11


class OtherPort(PeerError):
    """The device does this on another UDP port: `port`, 0 if it does not say which."""

    def __init__(self, message: str, *, advice: str = "", port: int = 0) -> None:
        super().__init__(message, advice=advice)
        self.port = port


class RefusedByUser(PeerError):
    """The user at the device declined."""

    exit_code: ClassVar[int] = 12


class NotLocal(PeerError):
    """Pairing requires a direct neighbour on the same link."""

    exit_code: ClassVar[int] = 13


class IdentityError(PeerError):
    """A key file is missing, damaged, of the wrong type, or readable by other users."""
