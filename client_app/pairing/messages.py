"""Messages of the pairing port, decoded strictly (protocol §5)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from client_app.decode_fields import Fields
from peer.errors import (
    Malformed,
    PinMismatch,
    RefusedByUser,
    RequestFailed,
    TimedOut,
    UsageError,
)
from peer.identity import Fingerprint
from peer.pairing.binding import WINDOW_ID_BYTES
from peer.pairing.ceremony import State

VERSION = 1


@dataclass(frozen=True, slots=True)
class Offer:
    """GET `/pair`: the device's name, methods and regular port (0 if it states none)."""

    name: str
    methods: tuple[str, ...]
    port: int


@dataclass(frozen=True, slots=True)
class Registration:
    """The user and role under which the device has stored this client."""

    user: str
    role: str


@dataclass(frozen=True, slots=True)
class Started:
    """POST `/pair`: a ceremony that has started. `fields` are those of the method."""

    id: str
    window_id: bytes
    role: str
    fields: Mapping[str, object] = field(default_factory=dict, repr=False)


def offer_untrusted(body: object, *, proved: Fingerprint) -> Offer:
    """Decode the response of GET `/pair`. Raises `Malformed`, `PinMismatch`, or `UsageError`."""
    fields = Fields(body, "the offer")
    if fields.all.get("version") != VERSION:
        raise UsageError(
            "the device uses another version of the pairing protocol",
            advice="Update handfast on the device or on this client, whichever is older.",
        )
    stated = fields.text("fingerprint", "")
    if stated and Fingerprint.parse(stated) != proved:
        raise PinMismatch(Fingerprint.parse(stated).hex, proved.hex, is_known=False)
    return Offer(
        name=fields.text("name", ""),
        methods=fields.words("methods"),
        port=fields.whole("port", 0, 65535) if "port" in fields.all else 0,
    )


def start_untrusted(body: object) -> Started | Registration:
    """Decode the response of POST `/pair`. Raises `Malformed`."""
    fields = Fields(body, "the start")
    if fields.all.get("state") == State.REGISTERED:
        return registration_untrusted(body)
    window_id, ceremony = fields.all.get("window"), fields.text("id", "")
    if not isinstance(window_id, bytes) or len(window_id) != WINDOW_ID_BYTES or not ceremony:
        raise Malformed("the device's response does not start a pairing")
    return Started(ceremony, window_id, fields.text("role", ""), method_fields_untrusted(body))


def registration_untrusted(body: object) -> Registration:
    """Decode the response that reports the stored client. Raises `Malformed`."""
    fields = Fields(body, "the registration")
    if fields.all.get("state") != State.REGISTERED:
        raise Malformed("the device did not confirm that it has stored this client")
    return Registration(fields.text("user", ""), fields.text("role", ""))


def method_fields_untrusted(body: object) -> Mapping[str, object]:
    """The fields with text as key, for the method. Raises `Malformed`."""
    fields = Fields(body, "the response")
    return {key: item for key, item in fields.all.items() if isinstance(key, str)}


def is_accepted_untrusted(body: object) -> bool:
    """Whether the device's user has accepted.

    Raises the error that a final state stands for, or `Malformed`.
    """
    match Fields(body, "the state").all.get("state"):
        case State.PENDING_USER_CONFIRMATION:
            return False
        case State.PENDING_CLIENT_COMPLETION:
            return True
        case State.REFUSED:
            raise RefusedByUser(
                "the device refused: its user declined, or two clients tried to pair",
                advice="Ask the user at the device, then start again.",
            )
        case State.EXPIRED:
            raise TimedOut(
                "the pairing was not confirmed at the device in time",
                advice="Start again, with someone at the device to confirm it.",
            )
        case State.REVOKED | State.REGISTERED:
            raise RequestFailed("the device ended this pairing", advice="Start again.")
        case _:
            raise Malformed("the device's response contains an unknown pairing state")
