"""The client's half of DNS-SD over multicast DNS: it looks who is there.

An advert is what one datagram says of one service, completed from what was heard before only where
the datagram is silent. Other hosts on the link can send records under the same names at any time;
that gives further adverts and does not change those of the device. For the same reason the
question is asked without known answers (RFC 6762 §7.1): a forged one would silence the device.
"""

import asyncio
import ipaddress
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, Self, TypeVar

from zeroconf import DNSQuestionType, Error, RecordUpdate, RecordUpdateListener, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from peer.errors import Malformed, Unreachable
from peer.net.adverts import MAX_TXT, SERVICE, SUBTYPE, Advert, advert_untrusted
from peer.net.interfaces import kernel_table
from peer.net.mdns import (
    FAILURES,
    MAX_TTL,
    DNSAddress,
    DNSPointer,
    DNSRecord,
    DNSService,
    DNSText,
    ask,
    no_multicast,
    open_multicast,
    places,
    settled,
)

__all__ = ["Advert", "discover", "watch"]

MAX_ADVERTS: Final = 256
"""Names of services that a search keeps; for one more, the oldest is forgotten."""
MAX_ALIKE: Final = 4
"""Records of one name and kind that are kept, but for addresses."""
MAX_HOST_ADDRESSES: Final = 32
"""Addresses of one host that are kept."""
RESOLVE_SECONDS: Final = 3.0
"""How long an announced device may take to say where it is."""
RESOLVING: Final = 16
"""Devices asked at the same time: a flood of names must not make us a flood of questions."""
FIRST_QUESTION_SECONDS: Final = (0.02, 0.12)
"""The first question is asked at a random moment between these (RFC 6762 §5.2)."""
LONGEST_PAUSE_SECONDS: Final = 0.8 * MAX_TTL
"""Between two questions of a long search: no record that is still true expires meanwhile."""

_PTR, _TXT, _SRV, _A, _AAAA = 12, 16, 33, 1, 28  # types of DNS records (RFC 1035 §3.2, 2782, 3596)
_IN: Final = 1  # the class of all of them

R = TypeVar("R", bound=DNSRecord)


async def discover(*, timeout: float, interfaces: Sequence[str] | None = None) -> list[Advert]:
    """The devices that answer within ``timeout`` seconds, by name; of each name what it said last.

    Raises Unreachable if this machine has no network to look in, PeerError if multicast DNS
    cannot be had.
    """
    async with _searching(interfaces) as search:
        await asyncio.sleep(timeout)
        return sorted(search.found.values(), key=lambda advert: (advert.name, advert.device_id))


async def watch(*, interfaces: Sequence[str] | None = None) -> AsyncGenerator[Advert, None]:
    """Every device that is there, comes, changes, or goes (``is_present`` false). Does not end.

    Raises what discover() raises. Close the iterator (``contextlib.aclosing``) to stop.
    """
    async with _searching(interfaces) as search:
        while True:
            yield await search.changes.get()


@asynccontextmanager
async def _searching(interfaces: Sequence[str] | None) -> "AsyncIterator[_Search]":
    try:
        where, own = places(kernel_table(), interfaces)
        if not where:
            raise Unreachable(
                "this machine has no network interface on which to search for devices",
                advice="Connect it to a network, or give the address of the device.",
            )
        search = await _Search.start(where, with_loopback=_any_loopback(own))
    except FAILURES as error:
        raise no_multicast(error) from error
    try:
        yield search
    finally:
        await search.close()


class _Search(RecordUpdateListener):
    """A running search: names come from the network, each is resolved and parsed, or dropped."""

    def __init__(self, where: Sequence[str | int], *, with_loopback: bool) -> None:
        self.found: dict[str, Advert] = {}
        self.changes: asyncio.Queue[Advert] = asyncio.Queue(maxsize=4 * MAX_ADVERTS)
        self._with_loopback = with_loopback
        self._names: dict[str, str] = {}  # lower case -> as announced; the oldest first
        self._heard: list[DNSRecord] = []  # of the present datagram
        self._now = 0.0  # its moment, by zeroconf's clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(RESOLVING)
        self._zeroconf: AsyncZeroconf = open_multicast(where, keep=self._keep_untrusted)
        self._cache = self._zeroconf.zeroconf.cache
        self._zeroconf.zeroconf.async_add_listener(self, None)
        self._asking = asyncio.create_task(self._ask_again_and_again(), name="mDNS question")

    @classmethod
    async def start(cls, where: Sequence[str | int], *, with_loopback: bool) -> Self:
        made = cls(where, with_loopback=with_loopback)
        try:
            await settled(made._zeroconf)
        except FAILURES:
            await made.close()
            raise
        return made

    async def close(self) -> None:
        self._zeroconf.zeroconf.async_remove_listener(self)
        tasks = [self._asking, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._zeroconf.async_close()

    async def _ask_again_and_again(self) -> None:
        """Ask at once, after a second, and then ever more seldom (RFC 6762 §5.2)."""
        await self._zeroconf.zeroconf.async_wait_for_start()
        first, last = FIRST_QUESTION_SECONDS
        await asyncio.sleep(first + secrets.randbelow(1000) / 1000 * (last - first))
        pause = 1.0
        while True:
            ask(self._zeroconf.zeroconf, SUBTYPE, _PTR)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    # -- what python-zeroconf may keep ------------------------------------------------------------

    def _keep_untrusted(self, records: list[DNSRecord]) -> list[DNSRecord]:
        """Of the records of one datagram, those of services like ours and of their hosts."""
        kept: dict[tuple[str, int], dict[DNSRecord, None]] = {}
        hosts: set[str] = set()

        def keep(record: DNSRecord) -> None:
            kept.setdefault((record.key, record.type), {})[record] = None

        ours = [record for record in records if record.class_ == _IN]
        for record in ours:
            if isinstance(record, DNSPointer) and record.key == SUBTYPE and self._admit(record):
                keep(record)
        for record in ours:
            if record.key in self._names:
                if isinstance(record, DNSService):
                    hosts.add(record.server_key)
                    keep(record)
                elif isinstance(record, DNSText) and len(record.text) <= MAX_TXT:
                    keep(record)
        for record in ours:
            if isinstance(record, DNSAddress) and (
                record.key in hosts or record.key in self._cache.service_cache
            ):
                keep(record)
        return [record for alike in kept.values() for record in self._make_room(list(alike))]

    def _admit(self, pointer: DNSPointer) -> bool:
        """Whether a service is among those that are kept; a goodbye is of a known one alone."""
        key = pointer.alias.lower()
        if key not in self._names and pointer.ttl and key.endswith(f".{SERVICE}"):
            while len(self._names) >= MAX_ADVERTS:
                idle = (known for known in self._names if known not in self.found)
                self._forget(next(idle, next(iter(self._names))))
            self._names[key] = pointer.alias
        return key in self._names

    def _make_room(self, alike: list[DNSRecord]) -> list[DNSRecord]:
        """Of records of one name and kind, as many as are kept; older ones make way for them."""
        first = alike[0]
        if isinstance(first, DNSPointer):
            return alike  # as many as there are names
        most = MAX_HOST_ADDRESSES if isinstance(first, DNSAddress) else MAX_ALIKE
        known = self._cache.async_all_by_details(first.name, first.type, _IN)
        older = sorted((one for one in known if one not in alike), key=lambda one: one.created)
        fit = alike[:most]
        self._cache.async_remove_records(older[: max(0, len(older) + len(fit) - most)])
        return fit

    def _forget(self, key: str) -> None:
        name = self._names.pop(key, None)
        self.found.pop(key, None)
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()
        if name is not None:
            pointers = self._cache.async_all_by_details(SUBTYPE, _PTR, _IN)
            gone = [p for p in pointers if isinstance(p, DNSPointer) and p.alias.lower() == key]
            self._cache.async_remove_records([*self._cache.async_entries_with_name(key), *gone])

    # -- what it says -----------------------------------------------------------------------------

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Of zeroconf: records have come or expired, the cache does not know it yet."""
        self._heard += [update.new for update in records]
        self._now = now

    def async_update_records_complete(self) -> None:
        """Of zeroconf: now it has."""
        heard, self._heard = self._heard, []
        live = [record for record in heard if not record.is_expired(self._now)]
        for record in heard:
            if isinstance(record, DNSPointer) and record not in live:
                self._goodbye(record.alias.lower())
        for key in self._touched(heard):
            self._look_at_untrusted(key, live)

    def _touched(self, records: Iterable[DNSRecord]) -> list[str]:
        """The services that records are about, each once."""
        keys: dict[str, None] = {}
        for record in records:
            if isinstance(record, DNSPointer):
                keys[record.alias.lower()] = None
            elif isinstance(record, DNSAddress):
                of_host = self._cache.async_entries_with_server(record.key)
                keys |= dict.fromkeys(one.key for one in of_host)
            else:
                keys[record.key] = None
        return [key for key in keys if key in self._names]

    def _goodbye(self, key: str) -> None:
        advert = self.found.get(key)
        self._forget(key)
        if advert is not None:
            self._tell(replace(advert, is_present=False))

    def _look_at_untrusted(self, key: str, heard: list[DNSRecord]) -> None:
        """The advert that a datagram gives, if it is one; what it lacks is asked for."""
        text = self._newest(DNSText, key, _TXT, heard)
        service = self._newest(DNSService, key, _SRV, heard)
        addresses = self._addresses(service.server_key, key, heard) if service else []
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
            return  # not a device of ours, or broken
        if self.found.get(key) != advert:
            self.found[key] = advert
            self._tell(advert)

    def _newest(self, kind: type[R], key: str, number: int, heard: Iterable[DNSRecord]) -> R | None:
        """The record of this datagram, else the one that came last; one that is on its way out has
        a lifetime of a second."""
        for record in heard:
            if isinstance(record, kind) and record.key == key:
                return record
        known = [
            record
            for record in self._cache.async_all_by_details(key, number, _IN)
            if isinstance(record, kind)
        ]
        return max(known, key=lambda record: (record.created, record.ttl), default=None)

    def _addresses(self, host: str, key: str, heard: Iterable[DNSRecord]) -> list[DNSAddress]:
        """Where the host of a service is: by the datagram that also tells of the service, else by
        all that was heard of the host."""
        said = [one for one in heard if isinstance(one, DNSAddress) and one.key == host]
        if said and any(record.key == key for record in heard):
            return said
        return [
            record
            for number in (_A, _AAAA)
            for record in self._cache.async_all_by_details(host, number, _IN)
            if isinstance(record, DNSAddress)
        ]

    # -- what it does not say ---------------------------------------------------------------------

    def _resolve(self, key: str) -> None:
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._ask_for(key))

    async def _ask_for(self, key: str) -> None:
        """Ask for all that is not known of a service. The answers come like any others."""
        async with self._turns:
            with suppress(Error, ValueError):  # a name that cannot be asked for
                await AsyncServiceInfo(SERVICE, self._names[key]).async_request(
                    self._zeroconf.zeroconf,
                    RESOLVE_SECONDS * 1000,
                    # By multicast: where two programs of one machine share port 5353, a unicast
                    # answer reaches only one of them.
                    question_type=DNSQuestionType.QM,
                )
        del self._tasks[key]

    def _tell(self, advert: Advert) -> None:
        with suppress(asyncio.QueueFull):  # nobody listens, or somebody floods: bounded
            self.changes.put_nowait(advert)


def _ip(record: DNSAddress) -> str:
    address = str(ipaddress.ip_address(record.address))
    return f"{address}%{record.scope_id}" if record.scope_id else address


def _any_loopback(addresses: Iterable[str]) -> bool:
    return any(ipaddress.ip_address(address).is_loopback for address in addresses)
