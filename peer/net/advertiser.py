"""The device's half of DNS-SD over multicast DNS: it says where it is.

python-zeroconf has no subtypes of its own. It does announce any PTR name we give a ServiceInfo, but
keeps one ServiceInfo per instance name; so the subtype is a second one, under a key of its own.
An instance name holds the device id, which comes from the key: it is unique by construction, and
probing for conflicts would only give a stranger a way to rename us (RFC 6762 §8.1 asks for probes
where uniqueness is not known).
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from zeroconf import ServiceInfo, Zeroconf
from zeroconf.asyncio import AsyncZeroconf

from peer.net.adverts import SERVICE, SUBTYPE, VERSION, instance_label, shortened
from peer.net.interfaces import InterfaceWatch, kernel_table
from peer.net.mdns import (
    FAILURES,
    DNSRecord,
    no_multicast,
    open_multicast,
    places,
    settled,
)

SETTLE_SECONDS: Final = 1.0
"""Address changes come in swarms; this long after the first one they are looked at together."""
REPEAT_SECONDS: Final = 1.2
"""An announcement is repeated this long after it."""

_log = logging.getLogger(__name__)


class Advertiser:
    """Announces one device until close(), also when addresses come and go.

    ``interfaces`` are names of interfaces or own IP addresses; None means every link that is up,
    without the loopback and point-to-point ones. Without a network it waits for one.
    """

    def __init__(
        self,
        *,
        name: str,
        device_id: str,
        port: int,
        pairing_port: int,
        interfaces: Sequence[str] | None,
    ) -> None:
        self._name = name
        self._device_id = device_id
        self._port = port
        self._pairing_port = pairing_port
        self._pairing_open = False
        self._interfaces = interfaces
        self._addresses: tuple[str, ...] = ()
        self._zeroconf: AsyncZeroconf | None = None
        self._records: frozenset[DNSRecord] = frozenset()
        self._is_registered = False
        self._changed = asyncio.Event()
        self._watch: InterfaceWatch | None = None
        self._follower: asyncio.Task[None] | None = None
        self._broadcasts: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """Announce the device. Raises PeerError if multicast DNS cannot be had at all."""
        try:
            self._watch = InterfaceWatch(self._changed.set)
            await self._reconcile()
        except FAILURES as error:
            await self.close()
            raise no_multicast(error) from error
        self._follower = asyncio.create_task(self._follow(), name="advertised addresses")

    async def set_pairing(self, *, open: bool, pairing_port: int) -> None:  # noqa: A002 - the state's own name
        """Tell everybody, at once, that the pairing window has opened or closed."""
        self._pairing_open = open
        self._pairing_port = pairing_port
        await self._republish()

    async def close(self) -> None:
        """Say goodbye and stop; a second call does nothing."""
        if self._watch is not None:
            self._watch.close()
        tasks: list[asyncio.Future[None]] = [*self._broadcasts]
        if self._follower is not None:
            tasks.append(self._follower)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._follower = None
        zeroconf, self._zeroconf = self._zeroconf, None
        self._is_registered = False
        if zeroconf is not None:
            await zeroconf.async_close()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._changed.clear()
            try:
                await self._reconcile()
            except FAILURES as error:
                # An interface that went away under our hands. The next change brings us back.
                _log.warning("the advertised addresses could not be brought up to date: %s", error)

    async def _reconcile(self) -> None:
        """Make sockets and records fit the addresses of this moment."""
        where, addresses = places(kernel_table(), self._interfaces)
        if not where:
            return
        is_new, self._addresses = addresses != self._addresses, addresses
        if self._zeroconf is None:
            self._zeroconf = open_multicast(where, keep=self._own_records)
        else:
            await self._zeroconf.async_update_interfaces(where)
        await settled(self._zeroconf)
        if not self._is_registered:
            await self._register(self._zeroconf)
        elif is_new:
            await self._republish()

    async def _register(self, zeroconf: AsyncZeroconf) -> None:
        for info in self._infos():
            self._remember(await zeroconf.async_register_service(info, cooperating_responders=True))
        self._is_registered = True
        await self._republish()  # the window may have opened meanwhile

    async def _republish(self) -> None:
        if self._zeroconf is None or not self._is_registered:
            return
        for broadcast in self._broadcasts:  # it would repeat what is no longer true
            broadcast.cancel()
        infos = self._infos()
        for info in infos:
            self._remember(await self._zeroconf.async_update_service(info))
        self._remember(asyncio.create_task(self._repeat(self._zeroconf.zeroconf, infos)))

    async def _repeat(self, zeroconf: Zeroconf, infos: list[ServiceInfo]) -> None:
        """Say it again after a second (RFC 6762 §8.3).

        python-zeroconf says everything three times within half a second, and drops packets that
        it has heard in the last second: a window opened, closed and opened would stay closed.
        """
        await asyncio.sleep(REPEAT_SECONDS)
        for info in infos:
            zeroconf.async_send(zeroconf.generate_service_broadcast(info, None))

    def _remember(self, broadcast: object) -> None:
        """Tasks are held weakly by the loop: keep the repeats of an announcement until done."""
        if isinstance(broadcast, asyncio.Future):
            self._broadcasts.add(broadcast)
            broadcast.add_done_callback(self._broadcasts.discard)

    def _infos(self) -> list[ServiceInfo]:
        instance = f"{instance_label(self._name, self._device_id)}.{SERVICE}"
        infos = [
            ServiceInfo(
                kind,
                instance,
                port=self._port,
                properties=self._text(),
                server=f"handfast-{self._device_id.lower()}.local.",
                parsed_addresses=list(self._addresses),
            )
            for kind in (SERVICE, SUBTYPE)
        ]
        infos[1].key = f"{SUBTYPE}{infos[1].key}"
        self._records = frozenset(record for info in infos for record in _records_of(info))
        return infos

    def _own_records(self, heard: list[DNSRecord]) -> list[DNSRecord]:
        """Of the records that were heard, those that are ours: python-zeroconf looks them up to
        say nothing twice in a second (RFC 6762 §6). Those of others are of no use to a device."""
        return [record for record in heard if record in self._records]

    def _text(self) -> dict[str, str]:
        return {
            "v": str(VERSION),
            "id": self._device_id,
            "pm": "1" if self._pairing_open else "0",
            "pp": str(self._pairing_port),
            "name": shortened(self._name, 250),  # a TXT entry has 255 bytes, "name=" included
        }


def _records_of(info: ServiceInfo) -> list[DNSRecord]:
    return [
        info.dns_pointer(),
        info.dns_service(),
        info.dns_text(),
        *info.get_address_and_nsec_records(),
    ]
