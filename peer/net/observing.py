"""Observation of a resource on the server's side (RFC 7641), with one notification under way.

aiocoap renders and queues a notification for each change, whether or not the previous one has
arrived. A client that is slow or does not acknowledge then costs work and memory at each change,
and gets old states. Here a notification is rendered when it can be sent: no other one of the
session is pending, the last one was acknowledged, and its body was fetched if it is sent in blocks.
It covers all changes up to then. When a notification would be sent again and the state has changed,
the new state takes its place (§4.5.2). Notifications are always confirmable, since only an
acknowledgement shows that the client still exists (§4.5 leaves the choice to the server).
"""

import asyncio
from collections.abc import Awaitable, Callable

import aiocoap
from aiocoap import interfaces
from aiocoap.numbers.codes import Code
from aiocoap.numbers.constants import TransportTuning
from aiocoap.pipe import Pipe

from peer.net.aiocoap_seam.copies import copied
from peer.net.aiocoap_seam.response_blocks import Build
from peer.net.remote import CoapsRemote
from peer.net.shared_states import Sharing


class Observation:
    """An observer, as a resource sees it: the interface of aiocoap's `ServerObservation`.

    `on_change` is called at each change, before it is noted.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self._on_change = on_change
        self.is_accepted = False
        self.is_last = False
        #: The number of the last notification, in the order of all numbers of the server.
        self.number = 0
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
        self._on_change()
        self._prepared = response
        self.is_last = self.is_last or is_last
        self._changed.set()

    @property
    def has_changed(self) -> bool:
        """Whether there is a change that was not taken yet."""
        return self._changed.is_set()

    async def changed(self) -> None:
        """Wait for a change that was not taken yet."""
        await self._changed.wait()

    def take(self) -> aiocoap.Message | None:
        """Take the last change: the resource's response, or None to render the resource."""
        prepared, self._prepared = self._prepared, None
        self._changed.clear()
        # A resource may pass one message to all its observers; each copy gets its own token.
        return None if prepared is None else copied(prepared)

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
    fetched: Callable[[], Awaitable[None]],
    sharing: Sharing | None = None,
) -> None:
    """Respond to a request with the Observe option, and to each change, until the last response.

    Args:
        pipe: the request, and where its responses go.
        resource: the observed resource.
        decide: raises an error to end the observation. It is called before a response is rendered,
            and before it is sent.
        in_blocks: renders a response, and returns its first block.
        fetched: waits until the client has the other blocks, or stops fetching them.
        sharing: the notifications that this observation may share with others.
    """
    remote: CoapsRemote = pipe.request.remote

    async def render() -> aiocoap.Message:
        response: aiocoap.Message = await resource.render(pipe.request)
        return response

    async def send(
        build: Build, *, tuning: TransportTuning | None = None, is_ending: bool | None = None
    ) -> aiocoap.Message | None:
        """Send a response; return it if others can follow."""
        answer = await in_blocks(build)
        decide()
        ends = observation.is_last if is_ending is None else is_ending
        is_last = ends or not observation.is_accepted or not answer.code.is_successful()
        if not is_last:
            answer.opt.observe = remote.numbers.next()
            observation.number = remote.numbers.last
        if tuning is not None:
            answer.transport_tuning = tuning
        pipe.add_response(answer, is_last=is_last)
        return None if is_last else answer

    async def notify(tuning: TransportTuning) -> aiocoap.Message | None:
        """Send the present state; return it if others can follow."""
        decide()
        prepared, is_ending = observation.take(), observation.is_last
        if prepared is not None or is_ending or sharing is None:
            build = render if prepared is None else _always(prepared)
            return await send(build, tuning=tuning, is_ending=is_ending)
        shared = sharing.found(remote, after=observation.number)
        if shared is not None:  # nothing ran since the decision
            observation.number = shared.number
            shared.transport_tuning = tuning
            pipe.add_response(shared, is_last=False)
            return shared
        version = sharing.states.version
        sent = await send(render, tuning=tuning, is_ending=False)
        if sent is not None:
            sharing.keep(sent, number=observation.number, version=version)
        return sent

    async def delivered(answer: aiocoap.Message) -> TransportTuning | None:
        return await remote.delivered(answer, is_stale=lambda: observation.has_changed)

    observation = Observation(sharing.states.changed if sharing is not None else lambda: None)
    await resource.add_observation(pipe.request, observation)
    try:
        sent = await send(render)
        remaining = await delivered(sent) if sent else None
        while sent:
            if remaining is None:
                await observation.changed()
                await fetched()
            async with remote.notifying:
                sent = await notify(remaining or aiocoap.Reliable())
                remaining = await delivered(sent) if sent else None
    finally:
        observation.end()


def _always(message: aiocoap.Message) -> Build:
    async def build() -> aiocoap.Message:
        return message

    return build
