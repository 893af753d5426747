"""Searching the LAN for devices.

Announcements are hints, since any host on the link can send them. Therefore no announcement revokes
another one: a device counts as open for pairing if any announcement says so, and every announced
address is a candidate. The device is identified by its key.
"""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, MutableMapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from client_app.connection_attempts import Candidate
from client_app.limits import ADVERTS, DISCOVERY_SECONDS, PORT_DISCOVERY_SECONDS
from peer.errors import PeerError
from peer.net.address import resolve

if TYPE_CHECKING:
    from peer.net.discovery import Advert

Look = Callable[[], AsyncIterator["Advert"]]
"""Starts an endless search; yields every announcement."""

K = TypeVar("K")
V = TypeVar("V")

_INTERFACES: Final = "HANDFAST_INTERFACES"


def look_at_lan(interfaces: Sequence[str] | None) -> AsyncIterator[Advert]:
    """Search by mDNS on some interfaces, by default those of `HANDFAST_INTERFACES`, else on all."""
    from peer.net import discovery  # noqa: PLC0415 - zeroconf is slow to import and seldom needed

    named = interfaces or [one for one in os.environ.get(_INTERFACES, "").split(",") if one]
    return discovery.watch(interfaces=named or None)


class Finder:
    """Searches the LAN, for a limited time on each call."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def watch(self) -> AsyncIterator[Advert]:
        """Yield every announcement. Does not end."""
        return self._look()

    async def latest(self, seconds: float) -> list[Advert]:
        """Return the last announcement of each service that has not left, sorted by name.

        Each has the addresses that were announced on all links.
        """
        from peer.net.adverts import merged  # noqa: PLC0415 - see above

        found: dict[tuple[str, str], dict[int, Advert]] = {}
        async with contextlib.aclosing(self._for(seconds)) as adverts:
            async for advert in adverts:
                key = advert.instance, advert.device_id
                on_links = found.pop(key, {})
                on_links.pop(advert.interface, None)
                if advert.is_present:
                    found[key] = {**on_links, advert.interface: advert}
                _bound(found)
        each = (merged(list(on_links.values())) for on_links in found.values())
        return sorted(each, key=lambda advert: (advert.name, advert.device_id))

    async def all(self, seconds: float) -> list[Advert]:
        """Return all different announcements, sorted by name; services that left are included."""
        found: dict[Advert, None] = {}
        async with contextlib.aclosing(self._for(seconds)) as adverts:
            async for advert in adverts:
                _note(found, advert)
        return sorted(found, key=lambda advert: (advert.name, advert.device_id))

    async def regular(self, device_id: str, *, delay: float = 0.0) -> AsyncIterator[Candidate]:
        """Yield announced addresses of a device's regular port; none if there is no network."""
        await asyncio.sleep(delay)
        with contextlib.suppress(PeerError):
            async for advert in self._for(DISCOVERY_SECONDS):
                if advert.device_id == device_id:
                    for candidate in await candidates(advert, advert.port):
                        yield candidate

    async def pairing(self, device_id: str, heard: dict[Advert, None]) -> AsyncIterator[Candidate]:
        """Yield announced addresses of a device's open pairing port.

        All announcements of the search are added to `heard`, those of other devices too. Raises
        `PeerError` if there is no network.
        """
        async for advert in self._for(DISCOVERY_SECONDS):
            _note(heard, advert)
            if advert.device_id == device_id and advert.pairing_open:
                for candidate in await candidates(advert, advert.pairing_port):
                    yield candidate

    async def port_of(self, device_id: str) -> int:
        """Return the regular port that a device announces; 0 if there is none or more than one."""
        ports: set[int] = set()
        with contextlib.suppress(PeerError):
            found = await self.all(PORT_DISCOVERY_SECONDS)
            ports = {advert.port for advert in found if advert.device_id == device_id}
        return ports.pop() if len(ports) == 1 else 0

    async def _for(self, seconds: float) -> AsyncGenerator[Advert, None]:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        stream = self._look()
        try:
            while (left := until - loop.time()) > 0:
                try:
                    yield await asyncio.wait_for(anext(stream), left)
                except (TimeoutError, StopAsyncIteration):
                    return
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()


def _note(found: dict[Advert, None], advert: Advert) -> None:
    found.setdefault(replace(advert, is_present=True))
    _bound(found)


def _bound(found: MutableMapping[K, V]) -> None:
    """Drop an entry at random if there are too many, so that no one can choose which."""
    if len(found) > ADVERTS:
        del found[secrets.choice(list(found))]


async def candidates(advert: Advert, port: int) -> list[Candidate]:
    """Return the addresses of one announcement. An address that does not resolve is left out."""
    found: list[Candidate] = []
    for host in advert.addresses:
        with contextlib.suppress(PeerError):
            resolved = await resolve(host, port)
            found += [Candidate(address, advert, is_hint=True) for address in resolved]
    return found
