"""What a device announces by DNS-SD (RFC 6763): the names, the TXT record, and how it is read.

A device is a ``_coaps._udp`` service for everybody (``avahi-browse`` shows it) and has the subtype
``_handfast`` for our clients. An announcement is a hint and never identity: any host on the link
can send one, so everything received is bounded, parsed strictly, and dropped if it does not fit.

The TXT record: ``v`` protocol version, ``id`` device id, ``name`` the user's name for the device,
``pm`` 1 while the pairing window is open, ``pp`` the pairing port.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from peer.errors import Malformed

SERVICE: Final = "_coaps._udp.local."
SUBTYPE: Final = f"_handfast._sub.{SERVICE}"
VERSION: Final = 1

MAX_ADDRESSES: Final = 16
MAX_TXT: Final = 1024
"""Bytes of a TXT record that are looked at; a longer one is not ours."""
MAX_TXT_KEYS: Final = 32
MAX_NAME: Final = 64
"""Characters of a device's name."""

_LABEL_BYTES: Final = 63
_DEVICE_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{8}")
_DIGITS: Final = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Advert:
    """What a device says of itself, or a stranger in its place. Text is unescaped.

    ``addresses`` are IP addresses, link-local ones with ``%`` and the interface's index.
    ``pairing_port`` means something while ``pairing_open``. ``is_present`` is false in the last
    advert of a device that has said goodbye or was not heard of for too long. ``instance`` is the
    name under which it was said (RFC 6763 §4.1), in lower case; any host can use any name.
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


def instance_label(name: str, device_id: str) -> str:
    """The label people see in a browser of services: the name and the device id, 63 bytes.

    Dots and control characters become blanks: zeroconf does not escape them.
    """
    plain = "".join(c if c.isprintable() and c != "." else " " for c in name)
    room = _LABEL_BYTES - len(device_id) - 1
    return f"{shortened(plain, room).strip()} {device_id}".strip()


def shortened(text: str, size: int) -> str:
    """At most ``size`` bytes of UTF-8, whole characters."""
    return text.encode()[:size].decode(errors="ignore")


def advert_untrusted(
    *,
    host: str,
    port: int,
    addresses: Iterable[str],
    text: bytes,
    with_loopback: bool,
    instance: str = "",
) -> Advert:
    """The records of one service as an Advert. Raises Malformed, and nothing else.

    ``with_loopback`` keeps loopback addresses; from the network they would lead to ourselves.
    """
    entries = txt_untrusted(text)
    version, pairing_port = _number(entries, "v"), _number(entries, "pp", default=b"0")
    device_id = _text(entries, "id").upper()
    name, window = _text(entries, "name"), entries.get("pm", b"0")
    usable = tuple(_usable_addresses(addresses, with_loopback=with_loopback))
    checks = (
        (_DEVICE_ID.fullmatch(device_id), "the device id"),
        (1 <= len(name) <= MAX_NAME, "the name"),
        (window in {b"0", b"1"}, "the window"),
        (0 < port <= 65535, "the port"),
        (pairing_port <= 65535 and (pairing_port or window == b"0"), "the pairing port"),
        (version > 0, "the version"),
        (usable, "the addresses"),
    )
    for holds, what in checks:
        if not holds:
            raise Malformed(f"an announced device does not fit: {what}")
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
    )


def txt_untrusted(text: bytes) -> dict[str, bytes]:
    """The entries of a TXT record (RFC 6763 §6): keys lower case, of a repeated one the first.

    Raises Malformed, and nothing else.
    """
    if len(text) > MAX_TXT:
        raise Malformed(f"a TXT record of {len(text)} bytes")
    entries: dict[str, bytes] = {}
    position = 0
    while position < len(text):
        end = position + 1 + text[position]
        if end > len(text):
            raise Malformed("a TXT record that is cut off")
        key, separator, value = text[position + 1 : end].partition(b"=")
        position = end
        if not key or not key.isascii():  # to be ignored, says §6.4
            continue
        if separator:
            entries.setdefault(key.decode().lower(), value)
        if len(entries) > MAX_TXT_KEYS:
            raise Malformed("a TXT record of too many keys")
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


def _usable_addresses(addresses: Iterable[str], *, with_loopback: bool) -> Iterable[str]:
    """The first addresses that can be a device's: IPv4, then IPv6, then link-local ones."""
    usable: set[tuple[bool, int, str]] = set()
    for text in islice(addresses, 4 * MAX_ADDRESSES):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if address.is_multicast or address.is_unspecified:
            continue
        if address.is_loopback and not with_loopback:
            continue
        usable.add((address.is_link_local, address.version, text))
    return [text for *_, text in sorted(usable)[:MAX_ADDRESSES]]
