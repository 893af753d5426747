"""Announce a device with DNS-SD over multicast DNS (RFC 6763, RFC 6762).

python-zeroconf has no subtypes. It announces any PTR name of a `ServiceInfo`, but stores only one
`ServiceInfo` per instance name, so the subtype is a second one under a key of its own. An instance
name contains the device ID, which is derived from the key, so it is unique. Probing for conflicts
would only let other hosts rename the device (RFC 6762 §8.1 requires it where a name may not be
unique). Each link gets the addresses of that link only (`peer.net.mdns_links`).
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from zeroconf import ServiceInfo, Zeroconf

from peer.limits import ANNOUNCEMENT_REPEAT_SECONDS, DUPLICATE_QUESTION_SECONDS
from peer.net.adverts import SERVICE, SUBTYPE, VERSION, instance_label, shortened
from peer.net.duplicate_watch import DuplicateWatch, OnDuplicate
from peer.net.interfaces import kernel_table
from peer.net.link_follower import LinkFollower
from peer.net.mdns import (
    DNSAddress,
    DNSRecord,
    DNSService,
    DNSText,
    Multicast,
    Origin,
    no_multicast,
    open_multicast,
    send_question,
    wait_until_ready,
)
from peer.net.ranking import Link, links
from peer.net.service_records import AAAA, A
from peer.net.tasks import cancel_all

NO_LINK: Final = "this device has no network interface on which to announce itself"


class Advertiser:
    """Announces one device until `close`, and follows changes of addresses.

    Without a network, it waits for one. If multicast DNS fails, it tries again. `trouble` says why
    the device is not announced; it is empty while it is.

    Args:
        name: the user's name for the device.
        device_id: the device ID.
        port: the regular port.
        pairing_port: the pairing port.
        interfaces: names of interfaces or own IP addresses; None selects every link that is up,
            except loopback and point-to-point interfaces.
        on_trouble: called with `trouble` whenever it has changed.
        on_duplicate: called when another host announces the same device ID (`DuplicateWatch`).
    """

    def __init__(
        self,
        *,
        name: str,
        device_id: str,
        port: int,
        pairing_port: int,
        interfaces: Sequence[str] | None,
        on_trouble: Callable[[str], None] = lambda _: None,
        on_duplicate: OnDuplicate = lambda _address, _interface: None,
    ) -> None:
        self._name = name
        self._device_id = device_id
        self._port = port
        self._pairing_port = pairing_port
        self._pairing_open = False
        self._start = secrets.token_hex(4)
        self._interfaces = interfaces
        self._links: tuple[Link, ...] = ()
        self._zeroconf: Multicast | None = None
        self._records: frozenset[DNSRecord] = frozenset()
        self._is_registered = False
        self.trouble = ""
        self._on_trouble = on_trouble
        self._follower = LinkFollower(self._reconcile, on_attempt=self._note_trouble)
        self._broadcasts: set[asyncio.Future[None]] = set()
        self._host = f"handfast-{device_id.lower()}.local."
        self._duplicates = DuplicateWatch(
            self._host,
            own=lambda: kernel_table().own,
            now=lambda: asyncio.get_running_loop().time(),
            on_duplicate=on_duplicate,
        )
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announce the device as soon as multicast DNS is available."""
        try:
            await self._follower.start()
            self._asking = asyncio.create_task(self._ask_for_duplicates(), name="ask for own name")
        except BaseException:  # also a cancellation
            await self.close()
            raise

    async def set_pairing(self, *, open: bool, pairing_port: int) -> None:  # noqa: A002 - the state's own name
        """Announce at once that the pairing window is open or closed."""
        self._pairing_open = open
        self._pairing_port = pairing_port
        await self._republish()

    def text(self) -> dict[str, str]:
        """Return the entries of the TXT record."""
        return {
            "v": str(VERSION),
            "id": self._device_id,
            "pm": "1" if self._pairing_open else "0",
            "pp": str(self._pairing_port),
            "st": self._start,
            "name": shortened(self._name, 250),  # a TXT entry has 255 bytes, "name=" included
        }

    async def close(self) -> None:
        """Withdraw the announcement and stop. Safe to repeat."""
        await self._follower.close()
        broadcasts = [*self._broadcasts, *([self._asking] if self._asking is not None else ())]
        await cancel_all(broadcasts)
        zeroconf, self._zeroconf = self._zeroconf, None
        self._is_registered = False
        if zeroconf is not None:
            zeroconf.zeroconf.is_current = _is_goodbye
            await zeroconf.async_close()

    async def _reconcile(self) -> None:
        """Update sockets and records to the current addresses."""
        table = kernel_table()
        self._duplicates.note_own(table.own)
        found = links(table, self._interfaces)
        is_new, self._links = found != self._links, found
        if self._zeroconf is not None:
            if is_new and self._is_registered:  # the change of links announces the service again
                for info in self._infos():
                    self._zeroconf.zeroconf.registry.async_update(info)
            await self._zeroconf.set_links(found)
            await wait_until_ready(self._zeroconf)
        elif found:
            self._zeroconf = await self._opened(found)
        else:
            return
        if not self._is_registered:
            await self._register(self._zeroconf)
        elif is_new and found:
            await self._republish()

    async def _opened(self, found: Sequence[Link]) -> Multicast:
        opened = open_multicast(found, keep=self._own_records)
        try:
            await wait_until_ready(opened)
        except BaseException:  # also a cancellation
            await opened.async_close()
            raise
        opened.zeroconf.is_current = self._is_current
        return opened

    def _note_trouble(self) -> None:
        trouble = ""
        if self._follower.failure is not None:
            error = no_multicast(self._follower.failure)
            trouble = f"{error}. {error.advice}"
        elif not self._links:
            trouble = NO_LINK
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_trouble(trouble)

    async def _register(self, zeroconf: Multicast) -> None:
        for info in self._infos():
            self._remember(await zeroconf.async_register_service(info, cooperating_responders=True))
        self._is_registered = True
        await self._republish()  # the pairing window may have opened meanwhile

    async def _republish(self) -> None:
        if self._zeroconf is None or not self._is_registered:
            return
        for broadcast in self._broadcasts:  # it would repeat an outdated announcement
            broadcast.cancel()
        infos = self._infos()
        for info in infos:
            self._remember(await self._zeroconf.async_update_service(info))
        self._remember(asyncio.create_task(self._repeat(self._zeroconf.zeroconf, infos)))

    async def _repeat(self, zeroconf: Zeroconf, infos: list[ServiceInfo]) -> None:
        """Repeat an announcement after a second (RFC 6762 §8.3).

        python-zeroconf sends everything three times within half a second, and ignores packets that
        it received in the last second: without this, a client may miss a window that is opened,
        closed and opened again.
        """
        await asyncio.sleep(ANNOUNCEMENT_REPEAT_SECONDS)
        for info in infos:
            zeroconf.async_send(zeroconf.generate_service_broadcast(info, None))

    async def _ask_for_duplicates(self) -> None:
        """Ask for the addresses of this device's own name, which only another one answers.

        A copy of this device that runs already says nothing by itself.
        """
        while True:
            await asyncio.sleep(ANNOUNCEMENT_REPEAT_SECONDS)
            if self._zeroconf is not None and self._is_registered:
                for kind in (A, AAAA):
                    send_question(self._zeroconf.zeroconf, self._host, kind)
                await asyncio.sleep(DUPLICATE_QUESTION_SECONDS)

    def _remember(self, broadcast: object) -> None:
        """Keep a reference to a task until it is done: the loop has only a weak one."""
        if isinstance(broadcast, asyncio.Future):
            self._broadcasts.add(broadcast)
            broadcast.add_done_callback(self._broadcasts.discard)

    def _infos(self) -> list[ServiceInfo]:
        addresses = dict.fromkeys(str(own) for link in self._links for own in link.addresses)
        instance = f"{instance_label(self._name, self._device_id)}.{SERVICE}"
        infos = [
            ServiceInfo(
                kind,
                instance,
                port=self._port,
                properties=self.text(),
                server=self._host,
                parsed_addresses=list(addresses),  # of all links; each link gets its own
            )
            for kind in (SERVICE, SUBTYPE)
        ]
        infos[1].key = f"{SUBTYPE}{infos[1].key}"
        self._records = frozenset(record for info in infos for record in _records_of(info))
        return infos

    def _is_current(self, record: DNSRecord) -> bool:
        """Return whether a record is announced now; those without a state always are."""
        has_state = isinstance(record, DNSText | DNSService | DNSAddress)
        return not has_state or record in self._records

    def _own_records(self, heard: list[DNSRecord], origin: Origin) -> list[DNSRecord]:
        """Return the received records that this device announces itself.

        python-zeroconf looks them up, so that it sends no record twice in a second (RFC 6762 §6).
        """
        self._duplicates.heard_untrusted(heard, origin)
        return [record for record in heard if record in self._records]


def _is_goodbye(record: DNSRecord) -> bool:
    return not record.ttl


def _records_of(info: ServiceInfo) -> list[DNSRecord]:
    return [
        info.dns_pointer(),
        info.dns_service(),
        info.dns_text(),
        *info.get_address_and_nsec_records(),
    ]
