"""Search for devices with DNS-SD over multicast DNS (RFC 6763, RFC 6762).

An advert is what one datagram says of one service; what the datagram does not say is taken from
earlier ones. Other hosts on the link can send records under the same names at any time: these give
further adverts and do not change those of the device. For the same reason questions are sent
without known answers (RFC 6762 §7.1): a forged one would silence the device.
"""

import asyncio
import ipaddress
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, Self

from zeroconf import DNSQuestionType, Error, RecordUpdate, RecordUpdateListener, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from peer.errors import Malformed, Unreachable
from peer.limits import MAX_ADVERTS, MAX_RESOLVING, MAX_TTL_SECONDS, RESOLVE_SECONDS
from peer.net.adverts import SERVICE, SUBTYPE, Advert, advert_untrusted
from peer.net.interfaces import kernel_table
from peer.net.mdns import (
    FAILURES,
    DNSAddress,
    DNSPointer,
    DNSRecord,
    multicast_addresses,
    no_multicast,
    open_multicast,
    send_question,
    wait_until_ready,
)
from peer.net.service_records import PTR, ServiceRecords

__all__ = ["Advert", "Search", "discover", "searching", "watch"]

_FIRST_QUESTION_SECONDS: Final = (0.02, 0.12)
"""The first question is sent after a random delay between these (RFC 6762 §5.2)."""
_LONGEST_PAUSE_SECONDS: Final = 0.8 * MAX_TTL_SECONDS
"""The longest time between two questions: no valid record expires in between."""


async def discover(*, timeout: float, interfaces: Sequence[str] | None = None) -> list[Advert]:
    """Return the newest advert of each name that answers within `timeout` seconds, by name.

    Args:
        timeout: how long to search, in seconds.
        interfaces: names of interfaces or own IP addresses; by default, every link that is up.

    Raises:
        Unreachable: this machine has no network interface to search on.
        PeerError: multicast DNS is not available.
    """
    async with searching(interfaces) as search:
        await asyncio.sleep(timeout)
        return sorted(search.found.values(), key=lambda advert: (advert.name, advert.device_id))


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
        where, own = multicast_addresses(kernel_table(), interfaces)
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
        search = await Search.start(where, with_loopback=_any_loopback(own))
    except FAILURES as error:
        raise no_multicast(error) from error
    try:
        yield search
    finally:
        await search.close()


class Search(RecordUpdateListener):
    """A running search. `found` has the newest advert of each name; `changes` has every change."""

    def __init__(self, where: Sequence[str | int], *, with_loopback: bool) -> None:
        self.found: dict[str, Advert] = {}
        self.changes: asyncio.Queue[Advert] = asyncio.Queue(maxsize=4 * MAX_ADVERTS)
        self._with_loopback = with_loopback
        self._heard: list[DNSRecord] = []  # of the current datagram
        self._now = 0.0  # when it was received, by zeroconf's clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resolving = asyncio.Semaphore(MAX_RESOLVING)
        self._zeroconf: AsyncZeroconf = open_multicast(where, keep=self._keep_untrusted)
        self.records = ServiceRecords(
            self._zeroconf.zeroconf.cache,
            is_idle=lambda key: key not in self.found,
            on_drop=self._dropped,
        )
        self._zeroconf.zeroconf.async_add_listener(self, None)
        self._asking: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, where: Sequence[str | int], *, with_loopback: bool) -> Self:
        """Begin to ask on these interfaces, given by address (IPv4) or index (IPv6)."""
        search = cls(where, with_loopback=with_loopback)
        try:
            await wait_until_ready(search._zeroconf)
            search._asking = asyncio.create_task(search._ask_repeatedly(), name="mDNS question")
        except BaseException:  # also a cancellation: the caller has no search to close
            await search.close()
            raise
        return search

    async def close(self) -> None:
        """Stop asking, and free the sockets."""
        self._zeroconf.zeroconf.async_remove_listener(self)
        tasks = [*self._tasks.values(), *([self._asking] if self._asking is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._zeroconf.async_close()

    async def _ask_repeatedly(self) -> None:
        """Ask now, after one second, and then at intervals that double (RFC 6762 §5.2)."""
        first, last = _FIRST_QUESTION_SECONDS
        await asyncio.sleep(first + secrets.randbelow(1000) / 1000 * (last - first))
        pause = 1.0
        while True:
            send_question(self._zeroconf.zeroconf, SUBTYPE, PTR)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _keep_untrusted(self, records: list[DNSRecord]) -> list[DNSRecord]:
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
            self._received_untrusted(key, live)

    def _left(self, key: str) -> None:
        """Report that a device withdrew its announcement, or that it expired."""
        advert = self.found.get(key)
        self.records.forget(key)
        if advert is not None:
            self._report(replace(advert, is_present=False))

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
                addresses=map(_ip, addresses),
                text=text.text,
                with_loopback=self._with_loopback,
                instance=key,
            )
        except Malformed:
            return  # another kind of device, or a damaged announcement
        if self.found.get(key) != advert:
            self.found[key] = advert
            self._report(advert)

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


def _ip(record: DNSAddress) -> str:
    address = str(ipaddress.ip_address(record.address))
    return f"{address}%{record.scope_id}" if record.scope_id else address


def _any_loopback(addresses: Iterable[str]) -> bool:
    return any(ipaddress.ip_address(address).is_loopback for address in addresses)
