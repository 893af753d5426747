"""A device that falls silent while a response is due."""

import asyncio

import aiocoap

from client_app.exchange import find_cause
from client_app.limits import REQUEST_PING_SECONDS
from client_app.observation import responds
from peer.errors import PeerError, TimedOut
from peer.net.connection import CoapsConnection


class SessionLostError(Exception):
    """The session of a request is dead: it has ended, or the device does not answer a ping."""

    def __init__(self, error: PeerError) -> None:
        super().__init__(str(error))
        self.error = error


class SilenceWatch:
    """Pings the device after each `REQUEST_PING_SECONDS` of silence, until `stop`.

    A device that works on a request answers the ping. If it does not, `outcome` gets a
    `SessionLostError`.

    Args:
        connection: the session of the request.
        outcome: done once there is a response.
        alias: the device's alias, for the error.
    """

    def __init__(
        self,
        connection: CoapsConnection,
        outcome: asyncio.Future[aiocoap.Message],
        *,
        alias: str,
    ) -> None:
        self._connection = connection
        self._outcome = outcome
        self._alias = alias
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._ping: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(REQUEST_PING_SECONDS, self._check)

    def stop(self) -> None:
        """End the watch. Safe to repeat."""
        self._timer.cancel()
        if self._ping is not None:
            self._ping.cancel()

    def _check(self) -> None:
        if self._outcome.done():
            return
        silent = min(self._connection.silent_seconds, self._loop.time() - self._began)
        if silent < REQUEST_PING_SECONDS:
            self._timer = self._loop.call_later(REQUEST_PING_SECONDS - silent, self._check)
        else:
            self._ping = self._loop.create_task(self._pinged())

    async def _pinged(self) -> None:
        try:
            is_alive = await responds(self._connection, self._outcome)
        except Exception as error:
            if not self._outcome.done():
                self._outcome.set_exception(error)
            return
        if is_alive:
            self._check()
        elif not self._outcome.done():
            lost = TimedOut(f"{self._alias} no longer responds", advice=find_cause(self._alias))
            self._outcome.set_exception(SessionLostError(lost))
