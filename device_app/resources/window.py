"""/iam/window: the pairing window, for users who are not at the device (protocol §4; regular port).

A user who opens a window is responsible for it (`pairing.opener`), clears no back-off, and grants
no role above their own. A client that pairs through it is still on the local network, and the
device's user still decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.access.authority import OPEN_WINDOW
from device_app.access.error_answers import malformed
from device_app.access.fields import refuse_unknown, text_field, wrong_field
from device_app.access.guard import Guard
from device_app.limits import RETRY_WINDOW_SECONDS
from device_app.pairing.opener import Opener
from device_app.pairing.service import PairingService
from device_app.resources.payloads import CBOR, read_map, reply
from peer.errors import PeerError, UsageError
from peer.limits import Limits
from peer.net.problem import ProblemError
from peer.net.remote import peer_of
from peer.pairing.methods import Method

PATH = ("iam", "window")
ACTIONS = {"GET": OPEN_WINDOW, "POST": OPEN_WINDOW, "DELETE": OPEN_WINDOW}
LATE = tuple(ACTIONS)  # the role is in the body, or is that of the open window


@dataclass(frozen=True, slots=True)
class WindowBody:
    """The body of a POST; None and empty stand for the defaults."""

    seconds: float | None
    role: str | None
    methods: tuple[Method, ...]

    @classmethod
    def decode_untrusted(cls, body: Mapping[str, object], limits: Limits) -> "WindowBody":
        """Decode the body. Raises `Malformed` or `ProblemError` (4.00)."""
        refuse_unknown(body, {"seconds", "role", "methods"})
        return cls(
            _seconds(body.get("seconds"), limits),
            text_field(body, "role") if "role" in body else None,
            _methods(body.get("methods", [])),
        )


class WindowResource(Resource):
    """/iam/window."""

    ct = CBOR
    rt = "handfast.window"

    def __init__(self, guard: Guard, service: PairingService, *, limits: Limits) -> None:
        super().__init__()
        self._guard = guard
        self._service = service
        self._limits = limits

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the window as it is now."""
        self._require_role_of_window(request)
        return reply(request, self._view())

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """Open the window, or extend it."""
        body = read_map(request, limits=self._limits)
        with self._guard.changing(request, OPEN_WINDOW):
            window = WindowBody.decode_untrusted(body, self._limits)
            role = self._service.role_for(window.role)
            subject = self._guard.require(request, OPEN_WINDOW, {"IAM:RoleId": role})
            await self._open(window, Opener(subject, self._guard.connection(peer_of(request))))
        return reply(request, self._view(), code=Code.CHANGED)

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        """Close the window, also one that another user opened."""
        self._require_role_of_window(request)
        self._service.close_window(actor=self._guard.subject(request))
        return aiocoap.Message(code=Code.DELETED)

    async def _open(self, window: WindowBody, opener: Opener) -> None:
        try:
            await self._service.open(
                seconds=window.seconds, role=window.role, methods=window.methods, opener=opener
            )
        except UsageError as error:  # a window for another role is open
            raise ProblemError("busy", str(error), error.advice) from error
        except PeerError as error:
            raise ProblemError(
                "busy",
                str(error),
                error.advice,
                code=Code.SERVICE_UNAVAILABLE,
                max_age=RETRY_WINDOW_SECONDS,
            ) from error

    def _require_role_of_window(self, request: aiocoap.Message) -> None:
        """Decide about the role of the open window; a closed window has none."""
        if self._service.is_open:
            self._guard.require(request, OPEN_WINDOW, {"IAM:RoleId": self._service.role_for(None)})

    def _view(self) -> dict[str, object]:
        window = self._service.window
        if window is None or not self._service.is_open:
            return {"open": False}
        return {
            "open": True,
            "port": self._service.port.number,
            "seconds_left": round(self._service.seconds_left, 1),
            "role": window.role,
            "methods": list(window.methods),
        }


def _seconds(value: object, limits: Limits) -> float | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= limits.window_max_seconds
    ):
        raise wrong_field("seconds", f"a time up to {limits.window_max_seconds:.0f} seconds")
    return float(value)


def _methods(value: object) -> tuple[Method, ...]:
    known = {method.value: method for method in Method}
    if not isinstance(value, list) or not all(
        isinstance(name, str) and name in known for name in value
    ):
        raise malformed(
            "methods is not a list of pairing methods", f"Methods: {', '.join(Method)}."
        )
    return tuple(known[name] for name in value)
