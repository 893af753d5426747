"""Observation of a resource on the server's side (RFC 7641), with one notification pending.

aiocoap renders and queues a notification for each change, whether or not the previous one has
arrived. A client that is slow or does not acknowledge then costs work and memory at each change.
Here a notification is rendered when it can be sent: no other one of the session is pending, and the
last one was acknowledged (§4.5.2). It covers all changes up to then. Notifications are always
confirmable, since only an acknowledgement shows that the client still exists (§4.5 leaves the
choice to the server).
"""

import asyncio
from collections.abc import Awaitable, Callable

import aiocoap
from aiocoap import interfaces
from aiocoap.numbers.codes import Code
from aiocoap.pipe import Pipe

from peer.net.aiocoap_seam.blocks import Build
from peer.net.remote import CoapsRemote


class Observation:
    """An observer, as a resource sees it: the interface of aiocoap's `ServerObservation`."""

    def __init__(self) -> None:
        self.is_accepted = False
        self.is_last = False
        self._changed = asyncio.Event()
        self._prepared: aiocoap.Message | None = None
        self._on_end: Callable[[], None] | None = None

    def accept(self, cancellation_callback: Callable[[], None]) -> None:
        """Accept the observation; the callback is called at its end. For the resource."""
        self.is_accepted = True
        self._on_end = cancellation_callback

    def deregister(self, _reason: object = None) -> None:
        """End the observation with the next response. For the resource."""
        self.trigger(aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR), is_last=True)

    def trigger(self, response: aiocoap.Message | None = None, *, is_last: bool = False) -> None:
        """Notify the observer: with `response`, or by rendering the resource. For the resource."""
        self._prepared = response
        self.is_last = self.is_last or is_last
        self._changed.set()

    async def changed(self) -> None:
        """Wait for a change that was not taken yet."""
        await self._changed.wait()

    def take(self) -> aiocoap.Message | None:
        """Take the last change: the resource's response, or None to render the resource."""
        prepared, self._prepared = self._prepared, None
        self._changed.clear()
        # A resource may pass one message to all its observers; each copy gets its own token.
        return None if prepared is None else prepared.copy()

    def end(self) -> None:
        """Notify the resource that the observation has ended."""
        if self._on_end is not None:
            self._on_end()


async def observe(
    pipe: Pipe,
    resource: interfaces.ObservableResource,
    *,
    decide: Callable[[], None],
    in_blocks: Callable[[Build], Awaitable[aiocoap.Message]],
) -> None:
    """Respond to a request with the Observe option, and to each change, until the last response.

    Args:
        pipe: the request, and where its responses go.
        resource: the observed resource.
        decide: raises an error to end the observation. It is called before a response is rendered,
            and before it is sent.
        in_blocks: renders a response, and returns its first block.
    """
    remote: CoapsRemote = pipe.request.remote

    async def render() -> aiocoap.Message:
        response: aiocoap.Message = await resource.render(pipe.request)
        return response

    observation = Observation()
    await resource.add_observation(pipe.request, observation)
    try:
        answer = await in_blocks(render)
        decide()
        is_last = (
            not observation.is_accepted or observation.is_last or not answer.code.is_successful()
        )
        _send(pipe, answer, remote, is_last=is_last)
        while not is_last:
            await observation.changed()
            async with remote.notifying:
                decide()
                prepared, is_last = observation.take(), observation.is_last
                answer = await in_blocks(render if prepared is None else _always(prepared))
                decide()
                is_last = is_last or not answer.code.is_successful()
                answer.transport_tuning = aiocoap.Reliable()
                _send(pipe, answer, remote, is_last=is_last)
                if not is_last:
                    await remote.acknowledged(answer)
    finally:
        observation.end()


def _send(pipe: Pipe, answer: aiocoap.Message, remote: CoapsRemote, *, is_last: bool) -> None:
    if not is_last:
        answer.opt.observe = remote.next_observe_number()
    pipe.add_response(answer, is_last=is_last)


def _always(message: aiocoap.Message) -> Build:
    async def build() -> aiocoap.Message:
        return message

    return build
