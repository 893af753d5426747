"""Observation of a resource of a paired device, across lost sessions.

A path can fall silent without a word: the device lost power, a NAT dropped its mapping, an address
changed. So a device that was silent for some seconds is pinged (RFC 7252 §4.3), and so is one whose
next notification is overdue by Max-Age (RFC 7641 §4.3.1). A device that answers may still have lost
the observation, so an overdue one is registered again. If the device does not answer, a new session
replaces the old one, and the observation is registered there.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol, Self, TypeVar

import aiocoap

from client_app.content import Reply
from client_app.exchange import reply_of
from client_app.limits import (
    OBSERVE_GRACE_SECONDS,
    OBSERVE_PAUSE_MAX_SECONDS,
    OBSERVE_RETRY_SECONDS,
    OBSERVE_STABLE_SECONDS,
    PROBE_SECONDS,
    SESSION_REFUSALS,
)
from peer.errors import ObservationEnded, PeerError, RequestFailed, TimedOut, Unreachable
from peer.net.connection import CoapsConnection
from peer.net.notifications import NotificationStream

T = TypeVar("T")

OnNote = Callable[[str], None]
"""Called with a message for people."""

_DEFAULT_MAX_AGE = 60  # seconds (RFC 7252 §5.10.5)


class Observation(Generic[T]):
    """States of a resource, for `async for`. Leaving the loop ends the observation at the device.

    A loop after that begins a new observation. Without a loop, use `anext`, and end the observation
    with `aclose`.

    Args:
        start: begins to observe; its iterator ends with `aclose`.
    """

    def __init__(self, start: Callable[[], AsyncGenerator[T, None]]) -> None:
        self._start = start
        self._states: AsyncGenerator[T, None] | None = None

    def __aiter__(self) -> "_Loop[T]":
        return _Loop(self)

    async def __anext__(self) -> T:
        """Return the next state."""
        if self._states is None:
            self._states = self._start()
        return await anext(self._states)

    async def aclose(self) -> None:
        """End the observation. Safe to repeat."""
        states, self._states = self._states, None
        if states is not None:
            await states.aclose()

    def leave(self) -> None:
        """Drop the iterator. asyncio closes it soon, in a task."""
        self._states = None


class _Loop(Generic[T]):
    """One `async for` over an observation. Python drops it when the loop is left."""

    def __init__(self, observation: Observation[T]) -> None:
        self._observation = observation

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await anext(self._observation)

    def __del__(self) -> None:
        self._observation.leave()


class Sessions(Protocol):
    """The sessions with one device, one at a time."""

    alias: str

    async def open(self) -> CoapsConnection:
        """Return an open connection. Raises `Unreachable` or `TimedOut`."""

    async def has_waited_after(self, response: aiocoap.Message) -> bool:
        """If the device refused the session of a response, close it, wait, and return True."""

    async def drop(self, connection: CoapsConnection) -> None:
        """End a connection that does not respond."""


class States:
    """The states of one resource: over one session after the other, until the retries end.

    Args:
        sessions: opens sessions with the device.
        request: makes the request; a message can be sent once.
        ping_seconds: silence after which the device is pinged; None pings only if a notification is
            overdue.
        on_note: told about a lost session, and about its replacement.
    """

    def __init__(
        self,
        sessions: Sessions,
        request: Callable[[], aiocoap.Message],
        *,
        ping_seconds: float | None,
        on_note: OnNote,
    ) -> None:
        self._sessions = sessions
        self._request = request
        self._ping_seconds = math.inf if ping_seconds is None else ping_seconds
        self._retries = _Retries(sessions.alias, on_note)
        self._loop = asyncio.get_running_loop()
        self._due = math.inf  # when the next notification is overdue
        self._was_refreshed = False

    async def iterate(self) -> AsyncGenerator[Reply, None]:
        """Yield the present state, then each new one."""
        refusals = 0
        while True:
            connection = None
            try:
                connection = await self._sessions.open()
                self._due, self._was_refreshed = math.inf, False
                stream = connection.observe(self._request())
                shown: Reply | None = None
                async with contextlib.aclosing(stream):
                    while (message := await self._next(stream, connection)) is not None:
                        if refusals < SESSION_REFUSALS and await self._sessions.has_waited_after(
                            message
                        ):
                            refusals += 1
                            break
                        refusals = 0
                        reply = reply_of(message)
                        self._retries.succeeded()
                        is_known = self._was_refreshed and reply == shown
                        self._was_refreshed = False
                        if not is_known:
                            shown = reply
                            yield reply
                        if message.opt.observe is None:
                            return  # not observable (any more), and this was its state
                if refusals:
                    continue
                raise ObservationEnded("the device ended the observation")
            except (Unreachable, TimedOut, RequestFailed) as error:
                was_closed = connection is not None and not connection.is_open
                await self._retries.wait_after(error, was_closed=was_closed)
                if connection is not None and not isinstance(error, RequestFailed):
                    await self._sessions.drop(connection)

    async def _next(
        self, stream: NotificationStream, connection: CoapsConnection
    ) -> aiocoap.Message | None:
        """Return the next notification, None at the end.

        Raises `ObservationEnded` if the device does not answer a ping.
        """
        step = asyncio.ensure_future(anext(stream, None))
        try:
            while True:
                silence = self._ping_seconds - connection.silent_seconds
                wait = min(self._due - self._loop.time(), silence)
                await asyncio.wait({step}, timeout=None if wait == math.inf else max(0.0, wait))
                if not step.done() and not await connection.ping(timeout=PROBE_SECONDS):
                    self._require(step)
                if step.done():
                    return self._noted(step.result())
                if self._loop.time() >= self._due:
                    stream.refresh()
                    self._was_refreshed = True
                    self._due = self._loop.time() + _DEFAULT_MAX_AGE
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait({step})

    def _require(self, step: "asyncio.Future[aiocoap.Message | None]") -> None:
        if not step.done():
            raise ObservationEnded("the device no longer responds")

    def _noted(self, message: aiocoap.Message | None) -> aiocoap.Message | None:
        """Note when the notification after this one is overdue."""
        if message is not None:
            seconds = message.opt.max_age or _DEFAULT_MAX_AGE
            self._due = self._loop.time() + seconds + OBSERVE_GRACE_SECONDS
        return message


class _Retries:
    """Pauses between attempts to continue an observation: none at first, then longer ones.

    An observation that never succeeded is tried again once, and only if its session has ended: the
    device may have restarted since the session was used.
    """

    def __init__(self, alias: str, on_note: OnNote) -> None:
        self._alias = alias
        self._on_note = on_note
        self._loop = asyncio.get_running_loop()
        self._pause = 0.0
        self._failing_since: float | None = None
        self._succeeded_at: float | None = None
        self._attempts = 0
        self._has_noted = False

    def succeeded(self) -> None:
        """Note that a state arrived."""
        if self._succeeded_at is None or self._failing_since is not None:
            self._succeeded_at = self._loop.time()
        if self._failing_since is not None:
            self._on_note(f"{self._alias} responds again")
        self._failing_since = None

    async def wait_after(self, error: PeerError, *, was_closed: bool) -> None:
        """Wait until the next attempt. Raises the error if there is none.

        `was_closed`: the device ended the session. It often accepts the next one at once, or says
        why not, so nothing is noted yet.
        """
        now = self._loop.time()
        self._attempts += 1
        if self._succeeded_at is None:
            if self._attempts > 1 or not isinstance(error, ObservationEnded):
                raise error
            return
        if isinstance(error, RequestFailed) and error.code != "4.29":
            raise error
        if self._failing_since is None:
            if now - self._succeeded_at >= OBSERVE_STABLE_SECONDS:
                self._pause = 0.0
            self._failing_since = now
            self._has_noted = False
        if not was_closed and not self._has_noted:
            self._has_noted = True
            self._on_note(f"{self._alias}: {error}; connecting again")
        if now - self._failing_since >= OBSERVE_RETRY_SECONDS:
            raise error
        await asyncio.sleep(self._pause)
        self._pause = min(max(1.0, 2 * self._pause), OBSERVE_PAUSE_MAX_SECONDS)
