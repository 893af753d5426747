"""Observation of a resource of a paired device, across lost sessions.

A path can fall silent without a word: the device lost power, a NAT dropped its mapping, an address
changed. So a device that was silent for some seconds is pinged (RFC 7252 §4.3), and so is one whose
next notification is overdue by Max-Age (RFC 7641 §4.3.1). A device that answers may still have lost
the observation, so an overdue one is registered again. If the device does not answer, a new session
replaces the old one, and the observation is registered there; attempts continue, with growing
pauses, until it succeeds. States of the time between are missing, which a `Gap` marks.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Generic, Protocol, Self, TypeVar

import aiocoap

from client_app.content import Gap, Reply
from client_app.deadline import Deadline, waiting_for
from client_app.errors import ClientClosed
from client_app.exchange import find_cause, reply_of
from client_app.limits import (
    OBSERVE_GRACE_SECONDS,
    PATH_GRACE_SECONDS,
    PATH_PROBE_SECONDS,
    PROBE_ROUND_TRIPS,
    PROBE_SECONDS,
    SESSION_REFUSALS,
)
from client_app.retries import OnNote, Retries
from client_app.routes import is_path
from peer.errors import (
    DeviceFailed,
    ObservationEnded,
    RequestFailed,
    TimedOut,
    Unreachable,
)
from peer.net.connection import CoapsConnection
from peer.net.notifications import NotificationStream

T = TypeVar("T")

_DEFAULT_MAX_AGE = 60  # seconds (RFC 7252 §5.10.5)


class Observation(Generic[T]):
    """States of a resource, for `async for`. Leaving the loop ends the observation at the device.

    A loop after that begins a new observation. Without a loop, use `anext`, and end the observation
    with `aclose`.

    Args:
        start: begins to observe; its iterator ends with `aclose`.
        subject: what is observed, for `repr`.
    """

    def __init__(self, start: Callable[[], AsyncGenerator[T, None]], *, subject: str) -> None:
        self._start = start
        self._subject = subject
        self._states: AsyncGenerator[T, None] | None = None

    def __repr__(self) -> str:
        return f"<Observation of {self._subject}>"

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


async def responds(connection: CoapsConnection, step: "asyncio.Future[T] | None" = None) -> bool:
    """Return whether the device answers a ping, or whether `step` is done meanwhile.

    On a slow network, the answer may take as long as it took to connect. A path gets new carriers
    when this machine changes its network, and the session continues; so a device behind a path has
    more time. While a request, an observation or a stream is open, the path itself ends the session
    if it gets no carriers.
    """
    once = max(PROBE_SECONDS, PROBE_ROUND_TRIPS * connection.round_trip_seconds)
    seconds = once
    if is_path(connection):
        seconds = max(once, PATH_GRACE_SECONDS if connection.is_in_use else PATH_PROBE_SECONDS)
    until = asyncio.get_running_loop().time() + seconds
    with waiting_for("checking whether the device still responds", seconds=seconds):
        while not await connection.ping(timeout=once):
            if step is not None and step.done():
                return True
            if not connection.is_open or asyncio.get_running_loop().time() >= until:
                return False
    return True


class States:
    """The states of one resource: over one session after the other, until the loop is left.

    Args:
        sessions: opens sessions with the device.
        request: makes the request; a message can be sent once.
        timeout: seconds until the first state.
        retry: whether to continue on another session.
        ping_seconds: silence after which the device is pinged; None pings only if a notification is
            overdue.
        on_note: told about a lost session, and about its replacement.
        random: returns a number from 0 to 1, for the pauses between attempts.
    """

    def __init__(
        self,
        sessions: Sessions,
        request: Callable[[], aiocoap.Message],
        *,
        timeout: float | None,
        retry: bool,
        ping_seconds: float | None,
        on_note: OnNote,
        random: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._request = request
        self._timeout = timeout
        self._ping_seconds = math.inf if ping_seconds is None else ping_seconds
        self._retries = Retries(sessions.alias, on_note, is_on=retry, random=random)
        self._loop = asyncio.get_running_loop()
        self._due = math.inf  # when the next notification is overdue
        self._was_refreshed = False

    async def iterate(self) -> AsyncGenerator[Reply | Gap, None]:
        """Yield the present state, then each new one.

        When the session is lost, a `Gap` comes at once. The next state has it as well.
        """
        async with contextlib.aclosing(self._states()) as states:
            async with Deadline(self._timeout):
                with waiting_for(f"waiting for the first state from {self._sessions.alias}"):
                    first = await anext(states)
            yield first
            async for state in states:
                yield state

    async def _states(self) -> AsyncGenerator[Reply | Gap, None]:
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
                        gap = self._retries.succeeded()
                        is_known = self._was_refreshed and reply == shown
                        self._was_refreshed = False
                        if not is_known:
                            shown = reply
                            yield reply if gap is None else replace(reply, gap=gap)
                        if message.opt.observe is None:
                            return  # not observable (any more), and this was its state
                if refusals:
                    continue
                raise ObservationEnded("the device ended the observation")
            except ClientClosed:
                raise
            except (Unreachable, TimedOut, RequestFailed, DeviceFailed) as error:
                was_closed = connection is not None and not connection.is_open
                silent = connection.silent_seconds if connection is not None else 0.0
                gap = self._retries.lost(error, was_closed=was_closed, silent_seconds=silent)
                if gap is not None:
                    yield gap
                await self._retries.pause()
                if connection is not None and isinstance(error, (Unreachable, TimedOut)):
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
                if not step.done() and not await responds(connection, step):
                    raise ObservationEnded(
                        "the device no longer responds", advice=find_cause(self._sessions.alias)
                    )
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

    def _noted(self, message: aiocoap.Message | None) -> aiocoap.Message | None:
        """Note when the notification after this one is overdue."""
        if message is not None:
            seconds = message.opt.max_age or _DEFAULT_MAX_AGE
            self._due = self._loop.time() + seconds + OBSERVE_GRACE_SECONDS
        return message


async def without_gaps(states: AsyncGenerator[Reply | Gap, None]) -> AsyncGenerator[Reply, None]:
    """Yield the states alone. Closing it closes `states`."""
    async with contextlib.aclosing(states):
        async for one in states:
            if isinstance(one, Reply):
                yield one
