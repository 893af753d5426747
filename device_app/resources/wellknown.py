"""GET /.well-known/core (RFC 6690) on both ports: links to what the sender may GET."""

from collections.abc import Callable, Iterator, Mapping

import aiocoap
from aiocoap import interfaces
from aiocoap.resource import Resource

from device_app.resources.payloads import reply_as
from peer.net import link_format
from peer.net.link_format import Link, link_to

ACTIONS = {"GET": "Core:Discover"}
PATH = (".well-known", "core")
Path = tuple[str, ...]
Paths = Callable[[], Mapping[Path, interfaces.Resource]]
MayGet = Callable[[aiocoap.Message, Path], bool]


class WellKnownCore(Resource):
    """The list of resources, with the filters of RFC 6690 §4.1.

    Args:
        paths: returns the resources by path.
        may_get: whether the sender of a request may GET the resource at a path.
    """

    ct = link_format.CONTENT_FORMAT

    def __init__(self, paths: Paths, *, may_get: MayGet = lambda _request, _path: True) -> None:
        super().__init__()
        self._paths = paths
        self._may_get = may_get

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
            if path != PATH and self._may_get(request, path):
                link = link_to(path, resource)
                if link is not None:
                    yield link
