"""GET /.well-known/core (RFC 6690): the resources that the sender may GET, and no others."""

from collections.abc import Callable, Mapping
from typing import Any

import aiocoap
from aiocoap.resource import WKCResource
from aiocoap.util.linkformat import Link, LinkFormat

from device_app.access.guard import Guard

ACTIONS = {"GET": "Core:Discover"}
PATH = (".well-known", "core")
Paths = Callable[[], Mapping[tuple[str, ...], Any]]


class WellKnownCore(WKCResource):
    """aiocoap's listing with its filters, over what the sender may see."""

    def __init__(self, guard: Guard, paths: Paths) -> None:
        super().__init__(LinkFormat, impl_info=None)
        self._guard = guard
        self._paths = paths

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Links; the list is made per request, so nothing is shared between requests."""
        listing = WKCResource(lambda: self._links(request), impl_info=None)
        return await listing.render_get(request)

    def _links(self, request: aiocoap.Message) -> Any:
        return LinkFormat(
            Link("/" + "/".join(path), **_description(resource))
            for path, resource in sorted(self._paths().items())
            if path != PATH and self._guard.may_get(request, path)
        )


def _description(resource: Any) -> dict[str, Any]:
    describe = getattr(resource, "get_link_description", None)
    return dict(describe() or {}) if describe is not None else {}
