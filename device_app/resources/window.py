"""/iam/window: the pairing window for those who are not at the board (protocol §4; regular port).

Who opens a window from afar answers for it (`pairing.service`), does not clear a back-off, and
gives no role above their own. Whoever pairs through it still has to be near, and somebody at the
device still has to say yes.
"""

from collections.abc import Mapping
from typing import Any

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.access.authority import OPEN_WINDOW
from device_app.access.error_answers import malformed
from device_app.access.fields import refuse_unknown, text_field, wrong_field
from device_app.access.guard import Guard
from device_app.pairing.opener import Opener
from device_app.pairing.service import PairingService
from device_app.resources.payloads import CBOR, read_map, reply
from peer.errors import PeerError, UsageError
from peer.limits import Limits
from peer.net.problem import ProblemError
from peer.net.remote import peer_of
from peer.pairing.methods import Method

ACTIONS = {"GET": OPEN_WINDOW, "POST": OPEN_WINDOW, "DELETE": OPEN_WINDOW}
LATE = tuple(ACTIONS)  # the role stands in the body, or is that of the open window
_LATER_SECONDS = 30


class WindowResource(Resource):
    """GET, POST and DELETE."""

    ct = CBOR
    rt = "handfast.window"

    def __init__(self, guard: Guard, service: PairingService, *, limits: Limits) -> None:
        super().__init__()
        self._guard = guard
        self._limits = limits
        self._service = service

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """{open, port, seconds_left, role, methods}, or {open: false}."""
        self._require_standing(request)
        return reply(request, self._view())

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """Open it, or keep it open for longer."""
        body = read_map(request, limits=self._limits)
        with self._guard.changing(request, OPEN_WINDOW):
            wished = _wished_untrusted(body, self._limits)
            role = self._service.role_for(wished["role"])
            subject = self._guard.require(request, OPEN_WINDOW, {"IAM:RoleId": role})
            opener = Opener(subject, self._guard.connection(peer_of(request)))
            await self._open(opener, wished)
        return reply(request, self._view(), code=Code.CHANGED)

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        """Close it, whoever has opened it."""
        self._require_standing(request)
        self._service.close_window(actor=self._guard.subject(request))
        return aiocoap.Message(code=Code.DELETED)

    async def _open(self, opener: Opener, wished: Mapping[str, Any]) -> None:
        try:
            await self._service.open(**wished, opener=opener)
        except UsageError as error:  # one for another role is open
            raise ProblemError("busy", str(error), error.advice) from error
        except PeerError as error:
            raise ProblemError(
                "busy",
                str(error),
                error.advice,
                code=Code.SERVICE_UNAVAILABLE,
                max_age=_LATER_SECONDS,
            ) from error

    def _require_standing(self, request: aiocoap.Message) -> None:
        """An open window is about its role; a closed one about nobody."""
        if self._service.is_open:
            self._guard.require(request, OPEN_WINDOW, {"IAM:RoleId": self._service.role_for(None)})

    def _view(self) -> dict[str, Any]:
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


def _wished_untrusted(body: Mapping[str, object], limits: Limits) -> dict[str, Any]:
    refuse_unknown(body, {"seconds", "role", "methods"})
    seconds = body.get("seconds")
    if seconds is not None and (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 < seconds <= limits.window_max_seconds
    ):
        raise wrong_field("seconds", f"a time up to {limits.window_max_seconds:.0f} seconds")
    methods = body.get("methods", [])
    if not isinstance(methods, list) or not all(
        isinstance(one, str) and one in tuple(Method) for one in methods
    ):
        raise malformed(
            "methods is not a list of pairing methods", f"There are: {', '.join(Method)}."
        )
    role = text_field(body, "role") if "role" in body else None
    return {"seconds": seconds, "role": role, "methods": tuple(methods)}
