"""mDNS messages made without the library under test, and a socket to send them from."""

import socket
import struct

from peer.net.adverts import SERVICE, SUBTYPE

GROUP = ("224.0.0.251", 5353)
PTR, TXT, SRV, A = 12, 16, 33, 1
DECADES = 2**31 - 1
"""Seconds: a TTL that no honest responder has."""

Record = tuple[str, int, bytes]
GOOD_TXT = {"v": "1", "id": "7F3K2M1Q", "pm": "1", "pp": "5685", "name": "kitchen"}


def name_bytes(name: str) -> bytes:
    return b"".join(bytes([len(p.encode())]) + p.encode() for p in name.split(".") if p) + b"\0"


def question(name: str, kind: int = PTR, *, dns_class: int = 1) -> bytes:
    """A DNS question."""
    return struct.pack("!6H", 1, 0, 1, 0, 0, 0) + _asked(name, kind, dns_class)


def _asked(name: str, kind: int, dns_class: int) -> bytes:
    return name_bytes(name) + struct.pack("!HH", kind, dns_class)


def _answers(answers: list[Record], ttl: int, dns_class: int = 1) -> bytes:
    return b"".join(
        name_bytes(name) + struct.pack("!HHIH", kind, dns_class, ttl, len(value)) + value
        for name, kind, value in answers
    )


def packet(answers: list[Record], *, ttl: int = 4500, flush: bool = False) -> bytes:
    """An mDNS response; `flush` sets the cache-flush bit (RFC 6762 §10.2)."""
    head = struct.pack("!6H", 0, 0x8400, 0, len(answers), 0, 0)
    return head + _answers(answers, ttl, 0x8001 if flush else 1)


def query(name: str, *, known: list[Record], dns_class: int = 1, truncated: bool = False) -> bytes:
    """A question with known answers; `truncated` sets the TC bit (RFC 6762 §7.2)."""
    head = struct.pack("!6H", 0, 0x0200 if truncated else 0, 1, len(known), 0, 0)
    return head + _asked(name, PTR, dns_class) + _answers(known, DECADES)


def txt(*entries: bytes) -> bytes:
    return b"".join(bytes([len(entry)]) + entry for entry in entries)


def text_record(**changes: str | None) -> bytes:
    entries = {**GOOD_TXT, **changes}
    return txt(*(f"{key}={value}".encode() for key, value in entries.items() if value is not None))


def service_records(
    text: bytes,
    *,
    instance: str = f"kitchen 7F3K2M1Q.{SERVICE}",
    host: str = "kitchen.local.",
    address: str = "127.0.0.1",
    port: int = 5684,
) -> list[Record]:
    """All records of one service, as a responder sends them together."""
    return [
        (instance, TXT, text),
        (instance, SRV, struct.pack("!HHH", 0, 0, port) + name_bytes(host)),
        (host, A, socket.inet_aton(address)),
        (SUBTYPE, PTR, name_bytes(instance)),
    ]


def mdns_sender(address: str = "127.0.0.1") -> socket.socket:
    """A socket that sends to the mDNS group from an address of the current namespace."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    sock.bind((address, 0))
    sock.connect(GROUP)
    return sock


def answer_records(message: bytes) -> list[tuple[int, int, int, bytes]]:
    """Type, class, TTL and data of each record of a response; the names are skipped."""
    _, _, questions, *counts = struct.unpack("!6H", message[:12])
    position, found = 12, []
    for _ in range(questions):
        position = _after_name(message, position) + 4
    for _ in range(sum(counts)):
        position = _after_name(message, position) + 10
        kind, dns_class, ttl, size = struct.unpack("!HHIH", message[position - 10 : position])
        found.append((kind, dns_class, ttl, message[position : position + size]))
        position += size
    return found


def _after_name(message: bytes, position: int) -> int:
    while (size := message[position]) and size < 0xC0:
        position += 1 + size
    return position + (2 if size else 1)
