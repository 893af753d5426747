"""GET /.well-known/core (RFC 6690): links to the resources that the sender may GET."""

from collections.abc import Callable, Mapping

import aiocoap
from aiocoap import interfaces
from aiocoap.resource import Resource, WKCResource
from aiocoap.util.linkformat import Link, LinkFormat

from device_app.access.guard import Guard

ACTIONS = {"GET": "Core:Discover"}
PATH = (".well-known", "core")
Paths = Callable[[], Mapping[tuple[str, ...], interfaces.Resource]]


class WellKnownCore(WKCResource):
    """aiocoap's listing with its filters, of the resources that the sender may GET."""

    def __init__(self, guard: Guard, paths: Paths) -> None:
        super().__init__(LinkFormat, impl_info=None)
        self._guard = guard
        self._paths = paths

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the links; the list is made for each request, so that senders share nothing."""
        listing = WKCResource(lambda: self._links(request), impl_info=None)
        return await listing.render_get(request)

    def _links(self, request: aiocoap.Message) -> LinkFormat:
        return LinkFormat(
            Link("/" + "/".join(path), _description(resource))
            for path, resource in sorted(self._paths().items())
            if path != PATH and self._guard.may_get(request, path)
        )


def _description(resource: interfaces.Resource) -> list[tuple[str, str | None]]:
    """Return the link's attributes; a plain `interfaces.Resource` has none."""
    if not isinstance(resource, Resource):
        return []
    return list((resource.get_link_description() or {}).items())
