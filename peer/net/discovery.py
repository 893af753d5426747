"""Search for devices with DNS-SD over multicast DNS (RFC 6763, RFC 6762).

An advert is what one datagram says of one service; what the datagram does not say is taken from
earlier ones. Other hosts on the link can send records under the same names at any time: these give
further adverts and do not change those of the device. For the same reason questions are sent
without known answers (RFC 6762 §7.1): a forged one would silence the device.
"""

import asyncio
import ipaddress
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, Self

from zeroconf import DNSQuestionType, Error, RecordUpdate, RecordUpdateListener, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo

from peer.errors import Malformed, Unreachable
from peer.limits import MAX_ADVERTS, MAX_RESOLVING, MAX_TTL_SECONDS, RESOLVE_SECONDS
from peer.net.adverts import SERVICE, SUBTYPE, Advert, Vantage, advert_untrusted, merged
from peer.net.interfaces import IpAddress, kernel_table
from peer.net.link_follower import LinkFollower
from peer.net.mdns import (
    FAILURES,
    DNSAddress,
    DNSPointer,
    DNSRecord,
    Multicast,
    Origin,
    no_multicast,
    open_multicast,
    send_question,
    wait_until_ready,
)
from peer.net.ranking import Link, links
from peer.net.service_records import PTR, ServiceRecords
from peer.net.tasks import cancel_all, to_the_end

__all__ = ["Advert", "Search", "discover", "searching", "watch"]

_FIRST_QUESTION_SECONDS: Final = (0.02, 0.12)
"""The first question is sent after a random delay between these (RFC 6762 §5.2)."""
_LONGEST_PAUSE_SECONDS: Final = 0.8 * MAX_TTL_SECONDS
"""The longest time between two questions: no valid record expires in between."""


async def discover(*, timeout: float, interfaces: Sequence[str] | None = None) -> list[Advert]:
    """Return the newest advert of each name that answers within `timeout` seconds, by name.

    Each has the addresses that were announced on all links.

    Args:
        timeout: how long to search, in seconds.
        interfaces: names of interfaces or own IP addresses; by default, every link that is up.

    Raises:
        Unreachable: this machine has no network interface to search on.
        PeerError: multicast DNS is not available.
    """
    async with searching(interfaces) as search:
        await asyncio.sleep(timeout)
        found = (merged(list(on_links.values())) for on_links in search.found.values())
        return sorted(found, key=lambda advert: (advert.name, advert.device_id))


async def watch(*, interfaces: Sequence[str] | None = None) -> AsyncGenerator[Advert, None]:
    """Yield an advert whenever a device appears, changes or leaves (`is_present` is false).

    It does not end; close the iterator (`contextlib.aclosing`) to stop. The argument and the errors
    are those of `discover`.
    """
    async with searching(interfaces) as search:
        while True:
            yield await search.changes.get()


@asynccontextmanager
async def searching(interfaces: Sequence[str] | None = None) -> "AsyncIterator[Search]":
    """Search in a context. The argument and the errors are those of `discover`."""
    try:
        table = kernel_table()
        where = links(table, interfaces)
        if not where and interfaces:
            raise Unreachable(
                f"no network interface that is up matches {', '.join(interfaces)}",
                advice="Check the names and addresses of this machine's interfaces.",
            )
        if not where:
            raise Unreachable(
                "this machine has no network interface on which to search for devices",
                advice="Connect it to a network, or give the address of the device.",
            )
        search = await Search.start(where, table.own, interfaces)
    except FAILURES as error:
        raise no_multicast(error) from error
    try:
        yield search
    finally:
        await search.close()


class Search(RecordUpdateListener):
    """A running search on some links of a machine with these own addresses; it follows changes.

    `found` has the newest advert of each name on each link, by its index; `changes` has every
    change.
    """

    def __init__(
        self,
        where: Sequence[Link],
        own: frozenset[IpAddress],
        interfaces: Sequence[str] | None = None,
    ) -> None:
        self.found: dict[str, dict[int, Advert]] = {}
        self.changes: asyncio.Queue[Advert] = asyncio.Queue(maxsize=4 * MAX_ADVERTS)
        self._links = {link.index: link for link in where}
        self._opened = self._links  # those with open sockets
        self._own = own
        self._interfaces = interfaces
        self._heard: list[DNSRecord] = []  # of the current datagram
        self._origin = Origin()  # of the current datagram
        self._now = 0.0  # when it was received, by zeroconf's clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resolving = asyncio.Semaphore(MAX_RESOLVING)
        self._zeroconf: Multicast = open_multicast(where, keep=self._keep_untrusted)
        self.records = ServiceRecords(
            self._zeroconf.zeroconf.cache,
            is_idle=lambda key: key not in self.found,
            on_drop=self._dropped,
        )
        self._zeroconf.zeroconf.async_add_listener(self, None)
        self._asking: asyncio.Task[None] | None = None
        self._follower = LinkFollower(self._reconcile)

    @classmethod
    async def start(
        cls,
        where: Sequence[Link],
        own: frozenset[IpAddress],
        interfaces: Sequence[str] | None = None,
    ) -> Self:
        """Begin to ask on these links of a machine with these own addresses.

        Later it asks on those links that `discover` would choose for `interfaces`.
        """
        search = cls(where, own, interfaces)
        try:
            await search._follower.start()
            if search._follower.failure is not None:
                raise search._follower.failure
            search._ask_anew()
        except BaseException:  # also a cancellation: the caller has no search to close
            await search.close()
            raise
        return search

    async def close(self) -> None:
        """Stop asking, and free the sockets. A cancellation meanwhile is raised afterwards."""
        await to_the_end(self._close())

    async def _close(self) -> None:
        await self._follower.close()
        self._zeroconf.zeroconf.async_remove_listener(self)
        tasks = [*self._tasks.values(), *([self._asking] if self._asking is not None else ())]
        await cancel_all(tasks)
        await self._zeroconf.async_close()

    async def _reconcile(self) -> None:
        """Search on the current links; adverts of a link that is gone are no longer valid."""
        await wait_until_ready(self._zeroconf)
        table = kernel_table()
        found = {link.index: link for link in links(table, self._interfaces)}
        gone, self._links, self._own = self._links.keys() - found.keys(), found, table.own
        for index in gone:
            self._link_left(index)
        if found != self._opened:
            await self._zeroconf.set_links(list(found.values()))
            await wait_until_ready(self._zeroconf)
            self._opened = found
            self._ask_anew()

    def _ask_anew(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asking = asyncio.create_task(self._ask_repeatedly(), name="mDNS question")

    async def _ask_repeatedly(self) -> None:
        """Ask now, after one second, and then at intervals that double (RFC 6762 §5.2)."""
        first, last = _FIRST_QUESTION_SECONDS
        await asyncio.sleep(first + secrets.randbelow(1000) / 1000 * (last - first))
        pause = 1.0
        while True:
            send_question(self._zeroconf.zeroconf, SUBTYPE, PTR)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _keep_untrusted(self, records: list[DNSRecord], origin: Origin) -> list[DNSRecord]:
        self._origin = origin
        return self.records.keep_untrusted(records)

    # -- received records -------------------------------------------------------------------------

    def async_update_records(self, _zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Implement zeroconf's listener: records came or expired; the cache is not updated yet."""
        self._heard += [update.new for update in records]
        self._now = now

    def async_update_records_complete(self) -> None:
        """Implement zeroconf's listener: the cache is updated."""
        heard, self._heard = self._heard, []
        live = [record for record in heard if not record.is_expired(self._now)]
        for record in heard:
            if isinstance(record, DNSPointer) and record not in live:
                self._left(record.alias.lower())
        for key in self.records.services_of(heard):
            if live:
                self._received_untrusted(key, live)
            else:  # records expired
                self._resolve(key)

    def _left(self, key: str) -> None:
        """Report that a device withdrew its announcement, or that it expired."""
        adverts = list(self.found.get(key, {}).values())
        self.records.forget(key)
        if adverts:
            self._report(replace(merged(adverts), is_present=False, interface=0))

    def _link_left(self, index: int) -> None:
        """Report that what was announced on a link is no longer announced there."""
        for key, on_links in list(self.found.items()):
            if (advert := on_links.pop(index, None)) is not None:
                self._report(replace(advert, is_present=False))
            if not on_links:
                self.records.forget(key)

    def _dropped(self, key: str) -> None:
        self.found.pop(key, None)
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()

    def _received_untrusted(self, key: str, heard: list[DNSRecord]) -> None:
        """Report the advert of a datagram; ask for the records of the service that are missing."""
        text = self.records.text(key, heard)
        service = self.records.service(key, heard)
        addresses = self.records.addresses(service.server_key, key, heard) if service else []
        if text is None or service is None or not addresses:
            self._resolve(key)
            return
        try:
            advert = advert_untrusted(
                host=service.server,
                port=service.port,
                addresses=[_ip(address, self._origin.interface) for address in addresses],
                text=text.text,
                vantage=self._vantage(),
                instance=key,
            )
        except Malformed:
            return  # another kind of device, or a damaged announcement
        if text not in heard or addresses[0] not in heard:
            advert = replace(advert, start="")
        on_links = self.found.setdefault(key, {})
        before = on_links.pop(advert.interface, None)
        if before is None or before != advert or advert.start not in {"", before.start}:
            self._report(advert)
        on_links[advert.interface] = advert  # the newest is the last

    def _vantage(self) -> Vantage:
        """Return the facts about the link that received the current datagram."""
        link = self._links.get(self._origin.interface)
        return Vantage(
            with_loopback=any(
                own.is_loopback for one in self._links.values() for own in one.addresses
            ),
            interface=link.index if link else 0,
            networks=link.networks if link else (),
            # A device on this machine is announced from an own address.
            own=() if self._origin.source in self._own else self._own,
        )

    def _report(self, advert: Advert) -> None:
        with suppress(asyncio.QueueFull):  # nothing reads the queue, or there is a flood
            self.changes.put_nowait(advert)

    # -- missing records --------------------------------------------------------------------------

    def _resolve(self, key: str) -> None:
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._ask_for(key))

    async def _ask_for(self, key: str) -> None:
        """Ask for the missing records of a service. The answers arrive like any others."""
        async with self._resolving:
            with suppress(Error, ValueError):  # a name that zeroconf cannot ask for
                await AsyncServiceInfo(SERVICE, self.records.names[key]).async_request(
                    self._zeroconf.zeroconf,
                    RESOLVE_SECONDS * 1000,
                    # By multicast: if two programs of one machine share port 5353, a unicast
                    # answer reaches only one of them.
                    question_type=DNSQuestionType.QM,
                )
        del self._tasks[key]


def _ip(record: DNSAddress, interface: int) -> str:
    """Return an address; the zone of a link-local one is the interface that received it."""
    address = ipaddress.ip_address(record.address)
    zone = interface or record.scope_id
    return (
        f"{address}%{zone}"
        if zone and address.version == 6 and address.is_link_local
        else str(address)
    )
