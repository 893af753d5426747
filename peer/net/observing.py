"""Observation of a resource on the server's side (RFC 7641), one notification pending at most.

aiocoap renders and queues a notification for each change, whether or not the one before has
arrived. A client that does not acknowledge, or is slow, then costs work and memory with each
change. Here a notification is made when it can be sent: no other of this session is under way, and
the last one was acknowledged (§4.5.2). All changes up to then are one notification, with the state
of that moment. Notifications are confirmable whatever the request was, since only acknowledgements
tell that somebody still listens (§4.5 leaves the choice to the server).
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
    """What a resource knows of an observer: the interface of aiocoap's `ServerObservation`."""

    def __init__(self) -> None:
        self.is_accepted = False
        self.is_last = False
        self._changed = asyncio.Event()
        self._prepared: aiocoap.Message | None = None
        self._on_end: Callable[[], None] | None = None

    def accept(self, cancellation_callback: Callable[[], None]) -> None:
        """Called by the resource that takes the observation; it is told the end."""
        self.is_accepted = True
        self._on_end = cancellation_callback

    def deregister(self, reason: object = None) -> None:
        """Called by a resource that does not go on: the next answer is the last."""
        self.trigger(aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR), is_last=True)

    def trigger(self, response: aiocoap.Message | None = None, *, is_last: bool = False) -> None:
        """Called by the resource when it has changed; without a response it is rendered."""
        self._prepared = response
        self.is_last = self.is_last or is_last
        self._changed.set()

    async def changed(self) -> None:
        """Wait for a change that was not taken yet."""
        await self._changed.wait()

    def take(self) -> aiocoap.Message | None:
        """The last change: the resource's own response, or None if it has to be rendered."""
        prepared, self._prepared = self._prepared, None
        self._changed.clear()
        # A resource may hand one message to all its observers, and each is sent with a token.
        return None if prepared is None else prepared.copy()

    def end(self) -> None:
        """Tell the resource that nobody observes any more."""
        if self._on_end is not None:
            self._on_end()


async def observe(
    pipe: Pipe,
    resource: interfaces.ObservableResource,
    *,
    decide: Callable[[], None],
    in_blocks: Callable[[Build], Awaitable[aiocoap.Message]],
) -> None:
    """Answer a request that observes, and go on until the last answer.

    `decide` raises to end the observation: it is asked before each answer is made and before it is
    sent. `in_blocks` gets what makes an answer, and gives the first block of it.
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
