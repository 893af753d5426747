"""A resource whose GET is one synchronous function of the query and the sender.

Also for the modules of applications (docs/howto/resources.md).

`answer` is its only handler. The direct path calls it (`peer.net.direct`); for all other requests,
such as those with Observe, the handler that aiocoap calls is derived from it.
"""

import abc

import aiocoap
from aiocoap.resource import Resource

from device_app.resources.payloads import CBOR, TEXT, reply_as
from peer import cbor
from peer.net.plain import Answer, checked
from peer.net.remote import PeerIdentity, peer_of

_NAMES = {TEXT: "text", CBOR: "CBOR"}


class PlainResource(Resource, abc.ABC):
    """The base class. A subclass has `answer`, and no `render_get`."""

    @abc.abstractmethod
    def answer(self, query: tuple[str, ...], sender: PeerIdentity, /) -> Answer:
        """Return the representation for a request that the guard has allowed.

        It changes nothing, and may be called twice for one request. Raises `ProblemError`.
        """

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the representation as a message. Raises `ProblemError` (4.06) like `reply`."""
        answer = checked(self.answer(tuple(map(str, request.opt.uri_query)), peer_of(request)))
        return reply_as(
            request,
            answer.payload,
            content_format=answer.content_format,
            name=_NAMES.get(answer.content_format) or f"content format {answer.content_format}",
            max_age=answer.max_age,
        )


def in_cbor(value: object) -> Answer:
    """Return a value as CBOR, fresh for the moment only."""
    return Answer(cbor.encode(value), CBOR)


def in_text(text: str) -> Answer:
    """Return a text, fresh for the moment only."""
    return Answer(text.encode(), TEXT)
