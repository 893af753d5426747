"""Another host that announces this device: a copy of its SD card, or a pretender.

Two devices with one key have the same ID, and so the same host name in DNS-SD. A device notices the
other one when that sends an address of this name from that very address. This leaves out

- packets of this device that it hears on another link: their source is an own address;
- packets that a reflector repeats on another link: they contain own addresses, or those of another
  machine than their source;
- an old address of this device after DHCP gave it another one: it is no longer the source of
  anything, unless another machine has it and announces this device.

Any host on the link can send such a packet, so this is a notice and proves nothing.
"""

import ipaddress
from collections.abc import Callable, Iterable

from peer.bounded_dict import BoundedDict
from peer.limits import DUPLICATE_CHECK_SECONDS, DUPLICATE_OWN_ADDRESSES
from peer.net.interfaces import IpAddress
from peer.net.mdns import DNSAddress, DNSRecord, Origin

OnDuplicate = Callable[[IpAddress, int], None]
"""Gets the address of the other host, and the index of the interface that heard it."""


class DuplicateWatch:
    """Looks for such a packet among those that a device hears.

    Args:
        host: the host name of the device in DNS-SD.
        own: returns the addresses that this machine has now.
        now: monotonic seconds.
        on_duplicate: called for a packet of another host, at most once in
            `DUPLICATE_CHECK_SECONDS`, whatever others send.
    """

    def __init__(
        self,
        host: str,
        *,
        own: Callable[[], Iterable[IpAddress]],
        now: Callable[[], float],
        on_duplicate: OnDuplicate,
    ) -> None:
        self._host = host.lower()
        self._own = own
        self._now = now
        self._on_duplicate = on_duplicate
        self._was_own: BoundedDict[IpAddress, bool] = BoundedDict(DUPLICATE_OWN_ADDRESSES)
        self._next = 0.0

    def note_own(self, addresses: Iterable[IpAddress]) -> None:
        """Remember addresses of this machine: packets from them may arrive after they changed."""
        for address in addresses:
            self._was_own[_plain(address)] = True

    def heard_untrusted(self, records: Iterable[DNSRecord], origin: Origin) -> None:
        """Look at the records of one packet."""
        source, now = origin.source, self._now()
        if source is None or now < self._next:
            return
        source = _plain(source)
        if source in self._was_own or not any(self._is_of(one, source) for one in records):
            return
        self._next = now + DUPLICATE_CHECK_SECONDS
        self.note_own(self._own())  # an address that was added just now
        if source not in self._was_own:
            self._on_duplicate(source, origin.interface)

    def _is_of(self, record: DNSRecord, source: IpAddress) -> bool:
        return (
            isinstance(record, DNSAddress)
            and record.key == self._host
            and record.ttl > 0
            and len(record.address) == len(source.packed)
            and record.address == source.packed
        )


def _plain(address: IpAddress) -> IpAddress:
    """Return an address without its zone."""
    return ipaddress.ip_address(address.packed)
