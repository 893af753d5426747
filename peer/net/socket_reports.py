"""Reports of the kernel, or of another host by ICMP, about an address, as errors with advice."""

import errno
from typing import Final

from peer.errors import Cause, Unreachable
from peer.net.address import Address

_REJECTED: Final = (
    Cause.FORBIDDEN,
    "a firewall or a router rejects the packets to {address}",
    "Allow UDP to this port in the firewalls of the device and between it and this machine.",
)
_REPORTS: Final = {
    errno.ECONNREFUSED: (
        Cause.REFUSED,
        "nothing listens at {address}",
        "The host is on, but the device's daemon is stopped, or uses another port.",
    ),
    errno.ENETUNREACH: (
        Cause.NO_NETWORK,
        "this machine has no route to {address}",
        "Check the network of this machine, and the address.",
    ),
    errno.EHOSTUNREACH: _REJECTED,  # IPv4
    errno.EACCES: _REJECTED,  # IPv6
    errno.EPERM: (
        Cause.FORBIDDEN,
        "the firewall of this machine does not let packets out to {address}",
        "Allow UDP to this port in the firewall of this machine.",
    ),
}
"""By the error of the socket: the cause, what happened, and what to do.

Linux does not report that no host has an address: it treats this as temporary.
"""


def unreachable(address: Address, error: OSError) -> Unreachable:
    """Return the error to raise for the error of a socket that is connected to an address."""
    cause, what, advice = _REPORTS.get(
        error.errno or 0,
        (
            Cause.UNKNOWN,
            f"cannot reach {{address}}: {error.strerror or error}",
            "Check that the device is running and that the address is correct.",
        ),
    )
    return Unreachable(what.format(address=address), advice=advice, cause=cause)
