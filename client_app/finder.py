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
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, MutableMapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from client_app.connection_attempts import Candidate
from client_app.limits import (
    ADVERTS,
    DISCOVERY_SECONDS,
    DISCOVERY_SETTLE_SECONDS,
    PORT_DISCOVERY_SECONDS,
)
from client_app.shared_ids import SharedIds
from peer.errors import PeerError
from peer.net.address import resolve
from peer.net.tasks import cancel_all

if TYPE_CHECKING:
    from peer.net.discovery import Advert

Look = Callable[[], AsyncIterator["Advert"]]
"""Starts an endless search; yields every announcement."""
OnShared = Callable[[str, tuple[str, ...]], object]
"""Gets a device ID that two devices announce, and the addresses of both."""

K = TypeVar("K")
V = TypeVar("V")

_INTERFACES: Final = "HANDFAST_INTERFACES"


def look_at_lan(interfaces: Sequence[str] | None) -> AsyncIterator[Advert]:
    """Search by mDNS on some interfaces, by default those of `HANDFAST_INTERFACES`, else on all."""
    from peer.net import discovery  # noqa: PLC0415 - zeroconf is slow to import and seldom needed

    named = interfaces or [one for one in os.environ.get(_INTERFACES, "").split(",") if one]
    return discovery.watch(interfaces=named or None)


class AnnouncedDevices:
    """The devices that were announced, each with its addresses on all links.

    A service that two hosts announce under one instance name with different IDs is two devices.
    Two devices with one ID are one entry, with the addresses of both; its `is_shared` is set. `now`
    returns monotonic seconds.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._shared = SharedIds(now)
        self._found: dict[tuple[str, str], dict[int, Advert]] = {}

    def devices(self) -> list[Advert]:
        """Return each device that is present, the one that was announced last at the end."""
        return [_merged(on_links) for on_links in self._found.values()]

    def note(self, advert: Advert) -> Advert | None:
        """Take an announcement; return the device if that changed it."""
        if others := self._shared.others(advert):
            advert = replace(_merged_adverts([*others, advert]), is_shared=True)
        key = advert.instance, advert.device_id
        before = self._found.pop(key, {})
        on_links = {link: one for link, one in before.items() if link != advert.interface}
        if advert.is_present:
            on_links[advert.interface] = advert
        elif not advert.interface:  # gone from all links
            on_links = {}
        if on_links:
            self._found[key] = on_links
            _bound(self._found)
        elif before:
            return replace(_merged(before), is_present=False)
        else:
            return None
        now = _merged(on_links)
        return None if before and _is_same(_merged(before), now) else now


def _merged(on_links: dict[int, Advert]) -> Advert:
    return _merged_adverts(list(on_links.values()))


def _merged_adverts(adverts: list[Advert]) -> Advert:
    from peer.net.adverts import merged  # noqa: PLC0415 - zeroconf is slow to import

    return merged(adverts)


def _is_same(one: Advert, other: Advert) -> bool:
    """Return whether two adverts of a device differ in nothing but the order of addresses."""
    return {*one.addresses} == {*other.addresses} and one == replace(other, addresses=one.addresses)


class Finder:
    """Searches the LAN, for a limited time on each call.

    `on_shared` is called, once for each ID, if the search for a device hears that two devices
    announce its ID.
    """

    def __init__(self, look: Look, *, on_shared: OnShared = lambda _id, _addresses: None) -> None:
        self._look = look
        self._on_shared = on_shared
        self._reported: set[str] = set()  # IDs that the user has asked for

    async def watch(self) -> AsyncGenerator[Advert, None]:
        """Yield each device when it appears, changes or leaves. Does not end.

        What arrives within `DISCOVERY_SETTLE_SECONDS` is one change: a device is announced on each
        of its links, several times.
        """
        loop = asyncio.get_running_loop()
        announced = AnnouncedDevices()
        changed: dict[tuple[str, str], Advert] = {}
        until = 0.0
        stream = self._look()
        upcoming: asyncio.Future[Advert] | None = None
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(anext(stream))
                await asyncio.wait({upcoming}, timeout=until - loop.time() if changed else None)
                if upcoming.done() and not isinstance(upcoming.exception(), StopAsyncIteration):
                    advert, upcoming = upcoming.result(), None
                    until = until if changed else loop.time() + DISCOVERY_SETTLE_SECONDS
                    if (device := announced.note(advert)) is not None:
                        key = advert.instance, advert.device_id
                        older = changed.get(key, device)
                        if older.is_present != device.is_present:
                            yield older
                        changed[key] = device
                        _bound(changed)
                    continue
                for device in changed.values():
                    yield device
                if upcoming.done():
                    return
                changed.clear()
        finally:
            if upcoming is not None:
                await cancel_all([upcoming])
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    async def latest(self, seconds: float) -> list[Advert]:
        """Return the last announcement of each service that has not left, sorted by name.

        Each has the addresses that were announced on all links.
        """
        announced = AnnouncedDevices()
        async with contextlib.aclosing(self._for(seconds)) as adverts:
            async for advert in adverts:
                announced.note(advert)
        return sorted(announced.devices(), key=lambda advert: (advert.name, advert.device_id))

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
        shared = SharedIds(time.monotonic)
        with contextlib.suppress(PeerError):
            async for advert in self._for(DISCOVERY_SECONDS):
                if advert.device_id == device_id:
                    self._note_shared(shared, advert)
                    for candidate in await candidates(advert, advert.port):
                        yield candidate

    async def pairing(self, device_id: str, heard: dict[Advert, None]) -> AsyncIterator[Candidate]:
        """Yield announced addresses of a device's open pairing port.

        All announcements of the search are added to `heard`, those of other devices too. Raises
        `PeerError` if there is no network.
        """
        shared = SharedIds(time.monotonic)
        async for advert in self._for(DISCOVERY_SECONDS):
            _note(heard, advert)
            if advert.device_id == device_id:
                self._note_shared(shared, advert)
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

    def _note_shared(self, shared: SharedIds, advert: Advert) -> None:
        others = shared.others(advert)
        if others and advert.device_id not in self._reported:
            self._reported.add(advert.device_id)
            self._on_shared(advert.device_id, _merged_adverts([*others, advert]).addresses)

    async def _for(self, seconds: float) -> AsyncGenerator[Advert, None]:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        stream = self._look()
        try:
            while (left := until - loop.time()) > 0:
                try:
                    async with asyncio.timeout(left):
                        advert = await anext(stream)
                except (TimeoutError, StopAsyncIteration):
                    return
                yield advert
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
