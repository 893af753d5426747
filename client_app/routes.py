"""The routes to a device: which of them a client may use.

`lan` is an address on a network of this machine, or one that the device announces there. `address`
is any other address: a forwarded port, a VPN, a DNS name. `direct` and `relay` are the carriers of
a path that a broker helps to set up. A device decides by the same words (`Connection:Path`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from peer.errors import UsageError
from peer.net.session_route import SessionRoute

if TYPE_CHECKING:
    from peer.net.connection import CoapsConnection

ALL_ROUTES: Final = frozenset(SessionRoute)
ADDRESS_ROUTES: Final = frozenset({SessionRoute.LAN, SessionRoute.ADDRESS})
PATH_ROUTES: Final = frozenset({SessionRoute.DIRECT, SessionRoute.RELAY})


def parse_routes(routes: str | Iterable[str] | None) -> frozenset[SessionRoute]:
    """Return the routes that a text names, separated by commas, or a list; None means all.

    Raises `UsageError`.
    """
    if routes is None:
        return ALL_ROUTES
    words = routes.split(",") if isinstance(routes, str) else list(routes)
    found = {word.strip().lower() for word in words}
    if unknown := found - set(ALL_ROUTES):
        raise UsageError(
            f"{', '.join(map(repr, sorted(unknown)))} is not a route",
            advice=f"Routes: {', '.join(SessionRoute)}.",
        )
    if not found:
        raise UsageError("no route is given", advice=f"Routes: {', '.join(SessionRoute)}.")
    return frozenset(map(SessionRoute, found))


def in_order(routes: Iterable[SessionRoute]) -> str:
    """Return routes as a text, the one that is preferred first."""
    return ", ".join(one for one in SessionRoute if one in set(routes))


def is_path(connection: "CoapsConnection") -> bool:
    """Whether a session runs over a path, and not at an address of the device."""
    return connection.association.path is not None
