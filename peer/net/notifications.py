"""Observation of a resource on the client's side (RFC 7641): whole states, the newest first.

aiocoap's own observation is not used: it orders notifications by the wall clock, takes an error
response to a later block for a state, and keeps the observation at the server when it is dropped.

A notification too large for a datagram is the first block of a body; the others are fetched with
plain requests (RFC 7959 §2.6). If the state changes meanwhile, the blocks are of two states. So a
body is given up when a newer notification arrives, and is fetched again when its blocks differ in
their ETag or are no longer stored.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Self

import aiocoap
from aiocoap import error as coap_error
from aiocoap.pipe import Pipe

from peer.errors import Malformed, ObservationEnded, TimedOut, Unreachable
from peer.limits import BODY_FETCHES, NOTIFICATION_ORDER_SECONDS, Limits
from peer.net.coaps import CoapsLayer
from peer.net.remote import CoapsRemote

_HALF_OF_NUMBERS: Final = 1 << 23

Ask = Callable[[aiocoap.Message], Awaitable[aiocoap.Message]]
"""Sends a request without blocks, and returns the response."""


class _BodyChangedError(Exception):
    """The blocks of a body are not all of one state."""


class NotificationStream:
    """The states of a resource, as an asynchronous iterator. An error response is the last one.

    The observation is registered by the first step. It ends with `close`, when the iterator is
    dropped, or when the server ends it.

    Args:
        request: a GET request, with its remote.
        layer: sends it.
        ask: sends a request for a block.
        limits: the limits of this side.
    """

    def __init__(
        self, request: aiocoap.Message, *, layer: CoapsLayer, ask: Ask, limits: Limits
    ) -> None:
        self._registration = _Registration(request, layer)
        self._ask = ask
        self._limits = limits
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> aiocoap.Message:
        """Return the newest state that was not returned yet, as soon as there is one.

        Raises `ObservationEnded` if the session has ended, or `Malformed` if the body is not valid.
        """
        registration = self._registration
        registration.start()
        try:
            while True:
                await registration.changed.wait()
                first = registration.take()
                if first is None:
                    raise StopAsyncIteration
                if (state := await self._whole(first)) is not None:
                    return state
        except (Unreachable, TimedOut, coap_error.NetworkError) as error:
            raise ObservationEnded(
                f"the observation has ended: {error}",
                advice="Request the resource again to see the reason.",
            ) from error

    def refresh(self) -> None:
        """Register again under the same token; the response is the next state (RFC 7641 §3.3.1)."""
        self._registration.refresh()

    def close(self) -> None:
        """End the observation, and tell the server. Safe to repeat."""
        self._registration.close()

    async def aclose(self) -> None:
        """End the observation, as `contextlib.aclosing` does."""
        self.close()

    def __del__(self) -> None:
        if not self._registration.has_ended and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._registration.close)

    # -- bodies -----------------------------------------------------------------------------------

    async def _whole(self, first: aiocoap.Message) -> aiocoap.Message | None:
        """Return a notification with its whole body, or None if a newer one has arrived."""
        block = first.opt.block2
        if block is None:
            return first
        remote: CoapsRemote = first.remote
        async with remote.fetching:
            fetching = asyncio.ensure_future(self._fetched(first))
            newer = asyncio.ensure_future(self._registration.changed.wait())
            try:
                await asyncio.wait({fetching, newer}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (fetching, newer):
                    task.cancel()
                await asyncio.wait({fetching, newer})
        return None if fetching.cancelled() else fetching.result()

    async def _fetched(self, first: aiocoap.Message) -> aiocoap.Message:
        observe = first.opt.observe
        for _ in range(BODY_FETCHES):
            try:
                whole = await self._assembled(first)
            except _BodyChangedError:
                first = await self._ask(self._request_for(None))
            else:
                whole.opt.observe = observe if whole.code.is_successful() else None
                return whole
        raise Malformed(
            "the resource changes faster than its body can be transferred",
            advice="Request a smaller resource, or observe it less often.",
        )

    async def _assembled(self, first: aiocoap.Message) -> aiocoap.Message:
        """Return a response with its whole body.

        Raises `_BodyChangedError` if its blocks are not of one state, or `Malformed`.
        """
        body, answer = b"", first
        while (block := answer.opt.block2) is not None:
            is_other = answer.code is not first.code or answer.opt.etag != first.opt.etag
            if is_other or (block.start != len(body) and body):
                raise _BodyChangedError
            if block.start != len(body) or not block.is_valid_for_payload_size(len(answer.payload)):
                raise Malformed("a block of the device's response is not the one that it states")
            body += answer.payload
            if not block.more:
                break
            if len(body) > self._limits.answer_body_bytes:
                raise Malformed("the device's answer is too large")
            asked = (len(body) // block.size, False, block.size_exponent)
            answer = await self._ask(self._request_for(asked))
        else:
            if answer is not first:
                raise _BodyChangedError
            return first
        first.payload, first.opt.block2 = body, None
        return first

    def _request_for(self, block: tuple[int, bool, int] | None) -> aiocoap.Message:
        """A request for a block of the body, or for its beginning, without Observe."""
        request = self._registration.request.copy(observe=None, token=b"", mid=None)
        request.mtype = None  # type: ignore[assignment]  # until it is sent
        if block is not None:
            request.opt.block2 = block
        return request


class _Registration:
    """A request with Observe, and the newest response to it that was not taken yet."""

    def __init__(self, request: aiocoap.Message, layer: CoapsLayer) -> None:
        self.request = request
        self.changed = asyncio.Event()
        self._layer = layer
        self._loop = asyncio.get_running_loop()
        self._newest: aiocoap.Message | None = None
        self._failure: Exception | None = None
        self._latest: tuple[int, float] | None = None  # number and time
        self._stop: Callable[[], None] | None = None
        self.has_ended = False

    def start(self) -> None:
        """Send the request, unless it was sent."""
        if self._stop is None and not self.has_ended:
            pipe = Pipe(self.request, self._layer.context.log)
            self._stop = pipe.on_event(self._on_event)
            self._layer.send_request(pipe)

    def take(self) -> aiocoap.Message | None:
        """Return the newest response, or None at the end. Raises the error that was the end."""
        newest, self._newest = self._newest, None
        if not self.has_ended:
            self.changed.clear()
        if newest is None and self._failure is not None:
            raise self._failure
        return newest

    def refresh(self) -> None:
        """Send the request again."""
        if self._stop is not None:
            self._layer.register_again(self.request)

    def close(self) -> None:
        """End the observation, at the server as well."""
        if not self.has_ended:
            stop = self._stop
            self._end()
            if stop is not None:
                stop()
                self._layer.deregister(self.request)

    def _end(self) -> None:
        self.has_ended = True
        self._stop = None  # which refers to this object
        self.changed.set()

    def _on_event(self, event: Pipe.Event) -> bool:
        """Store a response if it is newer than the last one. Return whether others may follow."""
        if event.message is None:
            self._failure = event.exception
        elif event.is_last or self._is_newer(event.message):
            self._newest = event.message
            self.changed.set()
        if event.is_last:
            self._end()
        return not event.is_last

    def _is_newer(self, message: aiocoap.Message) -> bool:
        """Compare the numbers of two notifications, and their times (RFC 7641 §3.4)."""
        number, now = message.opt.observe or 0, self._loop.time()
        if self._latest is not None:
            last, then = self._latest
            ahead = 0 < number - last < _HALF_OF_NUMBERS or last - number > _HALF_OF_NUMBERS
            if not ahead and now <= then + NOTIFICATION_ORDER_SECONDS:
                return False
        self._latest = number, now
        return True
