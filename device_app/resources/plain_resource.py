"""Resources whose handlers are synchronous functions of the request's content and the sender.

Also for the modules of applications (docs/howto/resources.md).

There is one handler for each method: `answer` for GET, and `answer_put`, `answer_post` and
`answer_delete`. The direct path calls it (`peer.net.direct`); for all other requests, such as those
with Observe or in blocks, the handler that aiocoap calls is derived from it.
"""

import abc
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.resources.payloads import CBOR, TEXT, reply_as
from peer import cbor
from peer.net.direct import WriteHandler
from peer.net.plain import WRITES, Answer, Write, checked, checked_done
from peer.net.remote import PeerIdentity, peer_of

_NAMES = {TEXT: "text", CBOR: "CBOR"}
Render = Callable[[Any, aiocoap.Message], Coroutine[object, object, aiocoap.Message]]


def _render(method: str) -> Render:
    """Return the handler of a method that aiocoap calls."""

    async def render(self: Resource, request: aiocoap.Message) -> aiocoap.Message:
        found = request.opt.content_format
        write = Write(
            query=tuple(map(str, request.opt.uri_query)),
            payload=request.payload,
            content_format=None if found is None else int(found),
        )
        handler: WriteHandler = getattr(self, f"answer_{method.lower()}")
        return aiocoap.Message(code=Code(checked_done(handler(write, peer_of(request)))))

    return render


_RENDERS: Final[Mapping[str, Render]] = MappingProxyType(
    {method: _render(method) for method in WRITES.values()}
)


class PlainWrites(Resource):
    """The base class of a resource without GET.

    A subclass has `answer_put`, `answer_post` or `answer_delete`, and no `render_…` for the same
    method. Each takes a `Write` and the sender, both by position, and returns a `Done`. It is
    called once for each request that the guard has allowed, does not wait, and may raise
    `ProblemError` or another error of aiocoap.
    """

    def __init_subclass__(cls, **keywords: object) -> None:
        """Derive the handlers that aiocoap calls."""
        super().__init_subclass__(**keywords)
        for method, render in _RENDERS.items():
            name = method.lower()
            if f"answer_{name}" in vars(cls) and f"render_{name}" not in vars(cls):
                setattr(cls, f"render_{name}", render)

    def plain_writes(self) -> Mapping[str, WriteHandler]:
        """Return the handlers by method."""
        return {
            method: getattr(self, f"answer_{method.lower()}")
            for method, render in _RENDERS.items()
            if getattr(type(self), f"render_{method.lower()}", None) is render
        }


class PlainResource(PlainWrites, abc.ABC):
    """The base class of a resource with GET. A subclass has `answer`, and no `render_get`."""

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
