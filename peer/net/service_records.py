"""The DNS records that a search keeps: those of handfast services and of their hosts, bounded.

Other hosts on the link can send records under the same names at any time. So the number of names,
of records of one name and type, and of addresses of one host is bounded; the oldest are dropped.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from zeroconf._cache import DNSCache

from peer.limits import MAX_ADVERTS, MAX_ALIKE_RECORDS, MAX_HOST_ADDRESSES, MAX_TXT_BYTES
from peer.net.adverts import SERVICE, SUBTYPE
from peer.net.mdns import DNSAddress, DNSPointer, DNSRecord, DNSService, DNSText

PTR, TXT, SRV, A, AAAA = 12, 16, 33, 1, 28  # types of DNS records (RFC 1035 §3.2, 2782, 3596)
_IN: Final = 1  # the class of all of them

R = TypeVar("R", bound=DNSRecord)


class ServiceRecords:
    """The records of services in python-zeroconf's cache: which stay, and those of one service.

    Args:
        cache: python-zeroconf's cache.
        is_idle: whether nothing was found yet under a name; idle names are dropped first.
        on_drop: called with each name that is dropped.
    """

    def __init__(
        self, cache: DNSCache, *, is_idle: Callable[[str], bool], on_drop: Callable[[str], None]
    ) -> None:
        self._cache = cache
        self._is_idle = is_idle
        self._on_drop = on_drop
        self.names: dict[str, str] = {}  # lower case: as announced; the oldest first

    def keep_untrusted(self, records: list[DNSRecord]) -> list[DNSRecord]:
        """Return the records of one datagram that the cache may store."""
        kept: dict[tuple[str, int], dict[DNSRecord, None]] = {}
        hosts: set[str] = set()

        def keep(record: DNSRecord) -> None:
            kept.setdefault((record.key, record.type), {})[record] = None

        internet = [record for record in records if record.class_ == _IN]
        for record in internet:
            if isinstance(record, DNSPointer) and record.key == SUBTYPE and self._admit(record):
                keep(record)
        for record in internet:
            if record.key in self.names:
                if isinstance(record, DNSService):
                    hosts.add(record.server_key)
                    keep(record)
                elif isinstance(record, DNSText) and len(record.text) <= MAX_TXT_BYTES:
                    keep(record)
        for record in internet:
            if isinstance(record, DNSAddress) and (
                record.key in hosts or record.key in self._cache.service_cache
            ):
                keep(record)
        return [record for alike in kept.values() for record in self._make_room(list(alike))]

    def forget(self, key: str) -> None:
        """Drop a name, and every record of it."""
        if self.names.pop(key, None) is not None:
            pointers = self._cache.async_all_by_details(SUBTYPE, PTR, _IN)
            gone = [p for p in pointers if isinstance(p, DNSPointer) and p.alias.lower() == key]
            self._cache.async_remove_records([*self._cache.async_entries_with_name(key), *gone])
        self._on_drop(key)

    def services_of(self, records: Iterable[DNSRecord]) -> list[str]:
        """Return the names of the services that records are about, each once."""
        keys: dict[str, None] = {}
        for record in records:
            if isinstance(record, DNSPointer):
                keys[record.alias.lower()] = None
            elif isinstance(record, DNSAddress):
                of_host = self._cache.async_entries_with_server(record.key)
                keys |= dict.fromkeys(one.key for one in of_host)
            else:
                keys[record.key] = None
        return [key for key in keys if key in self.names]

    def text(self, key: str, heard: Iterable[DNSRecord]) -> DNSText | None:
        """Return the TXT record of a service: of this datagram, else the newest one."""
        return self._newest(DNSText, key, TXT, heard)

    def service(self, key: str, heard: Iterable[DNSRecord]) -> DNSService | None:
        """Return the SRV record of a service: of this datagram, else the newest one."""
        return self._newest(DNSService, key, SRV, heard)

    def addresses(self, host: str, key: str, heard: Iterable[DNSRecord]) -> list[DNSAddress]:
        """Return the addresses of a service's host.

        A datagram that also has other records of the service decides alone; otherwise all known
        addresses of the host count.
        """
        in_datagram = [one for one in heard if isinstance(one, DNSAddress) and one.key == host]
        if in_datagram and any(record.key == key for record in heard):
            return in_datagram
        return [
            record
            for kind in (A, AAAA)
            for record in self._cache.async_all_by_details(host, kind, _IN)
            if isinstance(record, DNSAddress)
        ]

    def _admit(self, pointer: DNSPointer) -> bool:
        """Return whether a service is known now. Only an announcement makes a new one known."""
        key = pointer.alias.lower()
        if key not in self.names and pointer.ttl and key.endswith(f".{SERVICE}"):
            while len(self.names) >= MAX_ADVERTS:
                idle = (known for known in self.names if self._is_idle(known))
                self.forget(next(idle, next(iter(self.names))))
            self.names[key] = pointer.alias
        return key in self.names

    def _make_room(self, alike: list[DNSRecord]) -> list[DNSRecord]:
        """Return as many records of one name and type as are kept, and drop older ones for them."""
        first = alike[0]
        if isinstance(first, DNSPointer):
            return alike  # as many as there are names
        most = MAX_HOST_ADDRESSES if isinstance(first, DNSAddress) else MAX_ALIKE_RECORDS
        known = self._cache.async_all_by_details(first.name, first.type, _IN)
        older = sorted((one for one in known if one not in alike), key=lambda one: one.created)
        fit = alike[:most]
        self._cache.async_remove_records(older[: max(0, len(older) + len(fit) - most)])
        return fit

    def _newest(self, kind: type[R], key: str, number: int, heard: Iterable[DNSRecord]) -> R | None:
        for record in heard:
            if isinstance(record, kind) and record.key == key:
                return record
        known = [
            record
            for record in self._cache.async_all_by_details(key, number, _IN)
            if isinstance(record, kind)
        ]
        # A record that is about to be removed has a TTL of one second.
        return max(known, key=lambda record: (record.created, record.ttl), default=None)
