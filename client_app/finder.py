"""What the LAN says about where devices are. Hints, all of it: any host on the link can say it.

So nothing that is said takes back what was said before: a device counts as open if any advert of
it says so, and every place that was named for it is a candidate. Which of them is the device, its
key shows.
"""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from client_app.connection_attempts import Candidate
from peer.errors import PeerError
from peer.net.address import resolve

if TYPE_CHECKING:
    from peer.net.discovery import Advert

LOOK_SECONDS: Final = 3.0
"""How long a look around the LAN takes."""

PORT_LOOK_SECONDS: Final = 1.0
"""How long the LAN is asked for the regular port of a device that was given by its address."""

MOST_ADVERTS: Final = 1024
"""Different adverts that one look keeps; for one more, another is dropped at random."""

Look = Callable[[], "AsyncIterator[Advert]"]


class Finder:
    """Looks around the LAN, for a while each time."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def watch(self) -> AsyncIterator[Advert]:
        """Every advert as it comes. Does not end."""
        return self._look()

    async def latest(self, seconds: float) -> list[Advert]:
        """What each service said last, by name; without those that have said goodbye."""
        found: dict[tuple[str, str], Advert] = {}
        async with contextlib.aclosing(self._for(seconds)) as adverts:  # type: ignore[type-var]
            async for advert in adverts:
                found.pop(_key(advert), None)
                if advert.is_present:
                    found[_key(advert)] = advert
                _bound(found)
        return sorted(found.values(), key=lambda advert: (advert.name, advert.device_id))

    async def all(self, seconds: float) -> list[Advert]:
        """All different things that were said, by name; a goodbye takes nothing back."""
        found: dict[Advert, None] = {}
        async with contextlib.aclosing(self._for(seconds)) as adverts:  # type: ignore[type-var]
            async for advert in adverts:
                found.setdefault(replace(advert, is_present=True))
                _bound(found)
        return sorted(found, key=lambda advert: (advert.name, advert.device_id))

    async def regular(self, device_id: str, *, delay: float = 0.0) -> AsyncIterator[Candidate]:
        """Where the regular port of a device is said to be; nothing if there is no network."""
        await asyncio.sleep(delay)
        with contextlib.suppress(PeerError):
            async for advert in self._for(LOOK_SECONDS):
                if advert.device_id == device_id:
                    for candidate in await candidates(advert, advert.port):
                        yield candidate

    async def pairing(self, device_id: str, heard: dict[Advert, None]) -> AsyncIterator[Candidate]:
        """Where the open pairing port of a device is said to be. `heard` gets all that is said
        meanwhile, of any device. Raises `PeerError` if there is no network to ask."""
        async for advert in self._for(LOOK_SECONDS):
            heard.setdefault(replace(advert, is_present=True))
            _bound(heard)
            if advert.device_id == device_id and advert.pairing_open:
                for candidate in await candidates(advert, advert.pairing_port):
                    yield candidate

    async def port_of(self, device_id: str) -> int:
        """The regular port that a device announces; 0 if none is, or more than one."""
        ports: set[int] = set()
        with contextlib.suppress(PeerError):
            found = await self.all(PORT_LOOK_SECONDS)
            ports = {advert.port for advert in found if advert.device_id == device_id}
        return ports.pop() if len(ports) == 1 else 0

    async def _for(self, seconds: float) -> AsyncIterator[Advert]:
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


def _key(advert: Advert) -> tuple[str, str]:
    return advert.instance, advert.device_id


def _bound(found: dict[Advert, None] | dict[tuple[str, str], Advert]) -> None:
    if len(found) > MOST_ADVERTS:
        one: object = secrets.choice(list(found))
        found.pop(one, None)  # type: ignore[call-overload]  # a key of its own


async def candidates(advert: Advert, port: int) -> list[Candidate]:
    """The places of one advert: they share its turns. One that leads nowhere stops no other."""
    found: list[Candidate] = []
    for host in advert.addresses:
        with contextlib.suppress(PeerError):
            resolved = await resolve(host, port)
            found += [Candidate(address, advert, is_hint=True) for address in resolved]
    return found
