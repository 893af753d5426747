"""Requests of all parts of `client_app.administration`, and times by the device's clock."""

from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Literal

from aiocoap.numbers.codes import Code

from client_app.clock import wall_clock
from client_app.content import Body
from client_app.limits import LIST_SECONDS, REQUEST_SECONDS
from client_app.session import DeviceSession
from peer.errors import Denied, UsageError


class Unchanged(Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = 0

    def __repr__(self) -> str:
        return self.name


UNCHANGED: Final = Unchanged.UNCHANGED
"""Keep a time as it is (None removes the limit)."""

When = float | datetime | timedelta | None
"""Seconds since 1970, a `datetime` with a zone, a time from now by the device's clock, or None for
no limit."""

Change = When | Literal[Unchanged.UNCHANGED]


class AdministrationRequests:
    """Requests to the administration of one device."""

    def __init__(self, session: DeviceSession) -> None:
        self._session = session

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.alias}>"

    @property
    def alias(self) -> str:
        """The alias of the device on this client."""
        return self._session.alias

    async def _seconds(self, when: When) -> float | None:
        """Convert a time to seconds since 1970.

        A time from now is by the device's clock, or by this machine's if the device hides its own.
        """
        if isinstance(when, timedelta):
            return await self._now() + when.total_seconds()
        if isinstance(when, datetime):
            if when.tzinfo is None:
                raise UsageError(
                    "the date has no time zone", advice="Add one, for example with `.astimezone()`."
                )
            return when.timestamp()
        return when

    async def _now(self) -> float:
        try:
            now = (await self._session.me()).now
        except Denied:  # the role does not include Iam:GetMe
            now = None
        return wall_clock() if now is None else float(now)

    async def _ask(
        self,
        code: Code,
        path: str,
        body: Body = None,
        *,
        timeout: float | None = REQUEST_SECONDS,
    ) -> bytes:
        return (await self._session.request(code, path, body, timeout=timeout)).payload

    async def _list(self, path: str, timeout: float | None = LIST_SECONDS) -> bytes:
        return (await self._session.request(Code.GET, path, timeout=timeout)).payload
