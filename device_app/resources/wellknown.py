"""GET /.well-known/core (RFC 6690): links to the resources that the sender may GET."""

from collections.abc import Callable, Iterator, Mapping

import aiocoap
from aiocoap import interfaces
from aiocoap.resource import Resource

from device_app.access.guard import Guard
from device_app.resources.payloads import reply_as
from peer.net import link_format
from peer.net.link_format import Link, link_to

ACTIONS = {"GET": "Core:Discover"}
PATH = (".well-known", "core")
Paths = Callable[[], Mapping[tuple[str, ...], interfaces.Resource]]


class WellKnownCore(Resource):
    """The list of resources, with the filters of RFC 6690 §4.1."""

    ct = link_format.CONTENT_FORMAT

    def __init__(self, guard: Guard, paths: Paths) -> None:
        super().__init__()
        self._guard = guard
        self._paths = paths

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the links; the list is made for each request, so that senders share nothing."""
        links = link_format.select(self._links(request), map(str, request.opt.uri_query))
        return reply_as(
            request,
            link_format.encode(links),
            content_format=link_format.CONTENT_FORMAT,
            name="links",
        )

    def _links(self, request: aiocoap.Message) -> Iterator[Link]:
        for path, resource in sorted(self._paths().items()):
            if path != PATH and self._guard.may_get(request, path):
                link = link_to(path, resource)
                if link is not None:
                    yield link
