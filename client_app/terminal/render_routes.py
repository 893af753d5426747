"""The routes to a device, in words."""

from types import MappingProxyType
from typing import Final

ROUTE_WORDS: Final = MappingProxyType(
    {
        "local": "local: the device sees this client on its own network",
        "remote": "remote: the device sees this client behind a router, a forwarded port or a VPN",
        "lan": "lan: the device sees this client on its own network",
        "address": "address: the device sees this client behind a router or a VPN",
        "direct": "direct: a path between both networks, which a broker helped to set up",
        "relay": "relay: a path through a relay",
    }
)
"""Words for each route, and for those that an older device states."""
