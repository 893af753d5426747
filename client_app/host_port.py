"""Addresses of devices as people and files write them: `HOST[:PORT]`.

HOST is a name, an IPv4 address, or an IPv6 address with an optional zone (`fe80::1%eth0`), in
brackets if a port follows.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from peer.errors import Malformed, UsageError
from peer.host_names import ascii_host, is_host_name

if TYPE_CHECKING:  # slow to import, and most verbs use no network
    from peer.net.address import Address

REGULAR_PORT = 5684  # coaps (RFC 7252 §6.2)
PAIRING_PORT = 5685

_ADVICE = "Examples: lamp.example:5684, 192.0.2.1:5684, [2001:db8::1]:5684."


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host and a port; the port 0 stands for the usual one."""

    host: str
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `HOST[:PORT]`; an internationalized name becomes ASCII. Raises `UsageError`."""
        host, port = _split(text.strip())
        try:
            host = ascii_host(host)
        except Malformed as error:
            raise UsageError(str(error), advice=error.advice) from error
        if not (_is_ip(host) or is_host_name(host)):
            raise UsageError(f"{text!r} is not an address", advice=_ADVICE)
        return cls(host, _port(port, text) if port is not None else 0)

    @classmethod
    def from_address(cls, address: "Address") -> Self:
        """Convert a socket address; the interface is named, not numbered."""
        text = str(address)
        host, _, _ = text.rpartition(":")
        return cls(host.strip("[]"), address.port)

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address, which needs no DNS query."""
        return _is_ip(self.host)

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f"{text!r} is not an address", advice=_ADVICE)
        return host, rest[1:] if rest else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _port(digits: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) <= 65535:
        raise UsageError(f"{text!r} has no valid port", advice="Use a port from 1 to 65535.")
    return int(digits)
