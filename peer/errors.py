"""Every error of the `peer` room, one tree.

    PeerError
    ├── UsageError            the command or the call makes no sense as given
    ├── Unreachable           no such device, no route, nothing listens, connection lost
    │   ├── HandshakeFailed   somebody answered, but no secure session came about
    │   └── ObservationEnded  the session under an observation is gone
    ├── TimedOut              somebody was expected to answer and did not
    ├── PinMismatch           the other side's key is not the pinned one
    ├── WrongCode             a wrong code, or locked out after too many
    ├── RequestFailed         any other 4.xx answer
    │   └── Malformed         bytes or text that do not parse
    ├── Denied                policy says no
    ├── DeviceFailed          a 5.xx answer
    ├── NotPaired             the device does not know our key
    ├── WindowClosed          the device's pairing window is closed
    ├── RefusedByUser         the device's user said no
    ├── NotLocal              pairing is for direct neighbours only
    └── IdentityError         a key file that cannot be used

`str(error)` says what happened; `error.advice` says what to do next. Neither ever holds a secret.
`exit_code` is what the class means to a shell, for both commands: this is the one table of them.
"""

from typing import ClassVar


class PeerError(Exception):
    """Root of the tree: `advice` is the next step for the person at the keyboard, or empty."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class UsageError(PeerError):
    """The call cannot mean anything; nothing was tried."""

    exit_code: ClassVar[int] = 2


class Unreachable(PeerError):
    """Nobody there. `refused` is true when the host answered that nothing listens on the port."""

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, advice: str = "", refused: bool = False) -> None:
        super().__init__(message, advice=advice)
        self.refused = refused


class HandshakeFailed(Unreachable):
    """The DTLS handshake ended with an alert or with data that is not DTLS."""


class ObservationEnded(Unreachable):
    """The session that carried an observation has ended."""


class TimedOut(PeerError):
    """No answer within the time given."""

    exit_code: ClassVar[int] = 4


class PinMismatch(PeerError):
    """The peer proved a key, but not the pinned one. Nothing was sent to it.

    `expected` and `actual` are fingerprints in canonical form (64 lower-case hex digits).
    `is_known` is False if the pin comes from a label, an invite or a person, and not from pairing.
    """

    exit_code: ClassVar[int] = 5

    def __init__(self, expected: str, actual: str, *, is_known: bool = True) -> None:
        keys = f"expected {expected}, it presented {actual}"
        if is_known:
            super().__init__(
                f"the device's key has changed: {keys}",
                advice=(
                    "If the device was reset by its owner, check the new fingerprint on the device "
                    "itself, then `handfast forget` it and pair again. Otherwise somebody may be "
                    "in between: do not go on."
                ),
            )
        else:
            super().__init__(
                f"this is not the device that was meant: {keys}",
                advice="If it stands at the right address, somebody may be in between: do not go "
                "on, and look at the device itself.",
            )
        self.expected = expected
        self.actual = actual


class WrongCode(PeerError):
    """The code was wrong, or too many wrong codes were tried."""

    exit_code: ClassVar[int] = 6


class RequestFailed(PeerError):
    """A 4.xx answer. `code` is "4.04" style; `title` and `detail` are the device's words."""

    exit_code: ClassVar[int] = 8

    def __init__(
        self, message: str, *, advice: str = "", code: str = "4.00", reason: str = "malformed"
    ) -> None:
        super().__init__(message, advice=advice)
        self.code = code
        self.reason = reason


class Malformed(RequestFailed):
    """Text or bytes from outside that do not parse. Raised by every `*_untrusted` function."""

    exit_code: ClassVar[int] = 1  # a peer's words; a person's own are a usage error


class Denied(PeerError):
    """The device knows us, and its policy does not allow this."""

    exit_code: ClassVar[int] = 7


class DeviceFailed(PeerError):
    """A 5.xx answer. `code` is "5.00" style."""

    exit_code: ClassVar[int] = 9

    def __init__(self, message: str, *, advice: str = "", code: str = "5.00") -> None:
        super().__init__(message, advice=advice)
        self.code = code


class NotPaired(PeerError):
    """The device does not know our key."""

    exit_code: ClassVar[int] = 10


class WindowClosed(PeerError):
    """The device takes no pairing now."""

    exit_code: ClassVar[int] = 11


class RefusedByUser(PeerError):
    """The person at the device declined."""

    exit_code: ClassVar[int] = 12


class NotLocal(PeerError):
    """Pairing asks for a direct neighbour on the same link."""

    exit_code: ClassVar[int] = 13


class IdentityError(PeerError):
    """A key file is missing, damaged, of another kind, or open to others."""
