"""The DNS-SD announcement of a device (RFC 6763): names, TXT record, and how it is parsed.

A device is a `_coaps._udp` service, which `avahi-browse` shows, and has the subtype `_handfast`,
which clients of handfast search for. An announcement is a hint and never an identity: any host on
the link can send one, so everything received is bounded, parsed strictly, and dropped if invalid.

The TXT record (protocol §2.6) has the entries `v` protocol version, `id` device ID, `name` the
user's name for the device, `pm` 1 while the pairing window is open, `pp` the pairing port, and `st`
random digits that are new at each start of the device: two values at once are two devices.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from peer.errors import Malformed
from peer.limits import (
    MAX_ADVERT_ADDRESSES,
    MAX_DEVICE_NAME_CHARS,
    MAX_TXT_BYTES,
    MAX_TXT_KEYS,
    Limits,
)
from peer.net.interfaces import IpAddress
from peer.net.ranking import kept
from peer.net.routes import IpNetwork

SERVICE: Final = "_coaps._udp.local."
SUBTYPE: Final = f"_handfast._sub.{SERVICE}"
VERSION: Final = 1

_LABEL_BYTES: Final = 63
_TRIED: Final = Limits().announced_addresses_each
_DEVICE_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{8}")
_DIGITS: Final = re.compile(r"[0-9]{1,5}")
_START: Final = re.compile(rb"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Advert:
    """An announcement of a device. It is not authenticated, and its text is unescaped.

    `addresses` are IP addresses, the best first, link-local IPv6 ones with `%` and the index of the
    interface that received the announcement. `interface` is that index, 0 if it is unknown.
    `pairing_port` is valid while `pairing_open`. `is_present` is false in the last advert of a
    device that withdrew its announcement, or whose announcement expired; if its `interface` is not
    0, the device is gone from that link alone. `instance` is the service
    instance name (RFC 6763 §4.1) in lower case; any host can use any name. `start` has the digits
    of `st`; it is empty if there are none, or if the addresses came in another datagram and may be
    those of another device. `is_shared` is set by a search that hears two devices with this ID.
    """

    device_id: str
    name: str
    addresses: tuple[str, ...]
    port: int
    pairing_port: int
    pairing_open: bool
    version: int
    host: str
    is_present: bool = True
    instance: str = field(default="", compare=False)
    interface: int = field(default=0, compare=False)
    start: str = field(default="", compare=False)
    is_shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Vantage:
    """The facts about the link on which an announcement was received.

    Attributes:
        with_loopback: whether loopback addresses are usable. From the network they would lead back
            to this machine.
        interface: the index of the interface that received it; 0 is unknown.
        networks: the prefixes of that interface's neighbours; addresses in them come first.
        own: addresses that are this machine's own. They are dropped: the announcement of another
            machine means its own interface of that address, for example of a container network.
    """

    with_loopback: bool = False
    interface: int = 0
    networks: Sequence[IpNetwork] = ()
    own: Collection[IpAddress] = ()


def merged(adverts: Sequence[Advert]) -> Advert:
    """Return the last of some adverts of one device, with the addresses of all of them."""
    each = dict.fromkeys(text for advert in reversed(adverts) for text in advert.addresses)
    ordered = sorted(each, key=lambda text: ipaddress.ip_address(text).is_link_local)
    return replace(adverts[-1], addresses=tuple(ordered))


def instance_label(name: str, device_id: str) -> str:
    """Return the service instance label: the name and the device ID, at most 63 bytes.

    Dots and control characters become spaces, since zeroconf does not escape them.
    """
    plain = "".join(c if c.isprintable() and c != "." else " " for c in name)
    room = _LABEL_BYTES - len(device_id) - 1
    return f"{shortened(plain, room).strip()} {device_id}".strip()


def shortened(text: str, size: int) -> str:
    """Return the longest prefix of whole characters that takes at most `size` bytes of UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def advert_untrusted(
    *,
    host: str,
    port: int,
    addresses: Iterable[str],
    text: bytes,
    vantage: Vantage,
    instance: str = "",
) -> Advert:
    """Parse the records of one service. Raises `Malformed`, and no other error.

    Args:
        host: the target of the SRV record.
        port: the port of the SRV record.
        addresses: the addresses of `host`; unusable ones are dropped.
        text: the TXT record.
        vantage: where the announcement was received.
        instance: the service instance name.
    """
    entries = txt_untrusted(text)
    version, pairing_port = _number(entries, "v"), _number(entries, "pp", default=b"0")
    device_id = _text(entries, "id").upper()
    name, window = _text(entries, "name"), entries.get("pm", b"0")
    usable = tuple(_usable_addresses(addresses, vantage))
    checks = (
        (_DEVICE_ID.fullmatch(device_id), "the device id"),
        (1 <= len(name) <= MAX_DEVICE_NAME_CHARS, "the name"),
        (window in {b"0", b"1"}, "the window"),
        (0 < port <= 65535, "the port"),
        (pairing_port <= 65535 and (pairing_port or window == b"0"), "the pairing port"),
        (version > 0, "the version"),
        (usable, "the addresses"),
    )
    for holds, what in checks:
        if not holds:
            raise Malformed(f"the announcement of a device is not valid: {what}")
    return Advert(
        device_id=device_id,
        name=name,
        addresses=usable,
        port=port,
        pairing_port=pairing_port,
        pairing_open=window == b"1",
        version=version,
        host=host[:255],
        instance=instance,
        interface=vantage.interface,
        start=start.decode() if _START.fullmatch(start := entries.get("st", b"")) else "",
    )


def txt_untrusted(text: bytes) -> dict[str, bytes]:
    """Parse a TXT record (RFC 6763 §6). Raises `Malformed`, and no other error.

    Keys are in lower case. The first value of a repeated key counts (§6.4).
    """
    if len(text) > MAX_TXT_BYTES:
        raise Malformed(f"the TXT record has {len(text)} bytes")
    entries: dict[str, bytes] = {}
    position = 0
    while position < len(text):
        end = position + 1 + text[position]
        if end > len(text):
            raise Malformed("the TXT record is truncated")
        key, separator, value = text[position + 1 : end].partition(b"=")
        position = end
        if not key or not key.isascii():  # §6.4: ignore it
            continue
        if separator:
            entries.setdefault(key.decode().lower(), value)
        if len(entries) > MAX_TXT_KEYS:
            raise Malformed("the TXT record has too many keys")
    return entries


def _text(entries: dict[str, bytes], key: str) -> str:
    try:
        return entries.get(key, b"").decode()
    except UnicodeDecodeError:
        raise Malformed(f"the TXT entry {key} is not UTF-8") from None


def _number(entries: dict[str, bytes], key: str, *, default: bytes = b"") -> int:
    digits = entries.get(key, default).decode(errors="replace")
    if not _DIGITS.fullmatch(digits):
        raise Malformed(f"the TXT entry {key} is not a number")
    return int(digits)


def _usable_addresses(addresses: Iterable[str], vantage: Vantage) -> Iterable[str]:
    """Return valid unicast addresses of another machine, the best first.

    Those on the receiving link come first, then the others, then link-local ones, of which one is
    always among those that a client tries.
    """
    usable: dict[IpAddress, None] = {}
    for text in islice(addresses, 4 * MAX_ADVERT_ADDRESSES):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if address.is_multicast or address.is_unspecified or _plain(address) in vantage.own:
            continue
        if address.is_loopback and not vantage.with_loopback:
            continue
        usable[address] = None

    def rank(address: IpAddress) -> tuple[bool, bool, int, bool]:
        is_near = any(address in network for network in vantage.networks)
        return address.is_link_local, not is_near, address.version, not address.is_global

    ordered = sorted(usable, key=rank)
    first = kept(ordered, _TRIED)
    more = [address for address in ordered if address not in first]
    return [str(address) for address in (*first, *more)][:MAX_ADVERT_ADDRESSES]


def _plain(address: IpAddress) -> IpAddress:
    """Return an address without its zone."""
    return ipaddress.ip_address(address.packed)
