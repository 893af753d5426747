"""Selection of the remote candidates that ICE checks.

A connectivity check is a packet to an address that the other side chose. A paired client that is
malicious could name the addresses of third parties, so the checks are limited in number
(`IceLimits`) and in kind: no candidate makes this machine send to itself, to a group, to an
address that is not unicast, or to a port below 1024, where other services than ICE listen. No ICE
library binds such a port, and a NAT assigns none to a host that does not (RFC 4787 §4.2.1).
"""

import ipaddress
from collections.abc import Collection

from peer.remote.limits import LEAST_CANDIDATE_PORT
from peer.remote.messages import CarrierOffer


def checkable_untrusted(offer: CarrierOffer, own: Collection[str]) -> list[str]:
    """Return the candidates of an offer that may be checked, with canonical addresses.

    Args:
        offer: what the other side sent; its syntax is verified already.
        own: the IP addresses of this machine from which the checks would leave.
    """
    found = []
    for one in offer.candidates:
        parts = one.split()
        host, port = parts[4], int(parts[5])
        if is_checkable(host, port, own):
            found.append(" ".join([*parts[:4], str(ipaddress.ip_address(host)), *parts[5:]]))
    return found


def is_checkable(host: str, port: int, own: Collection[str]) -> bool:
    """Whether a connectivity check may be sent to an address.

    A loopback or link-local address is the machine or the link of the other side. It is checked
    only if this machine uses such an address for ICE, too.
    """
    address = ipaddress.ip_address(host)
    if (
        port < LEAST_CANDIDATE_PORT
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    ):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return False
    locals_ = [ipaddress.ip_address(one) for one in own]
    if address.is_loopback:
        return any(one.is_loopback for one in locals_)
    if address.is_link_local:
        return any(one.is_link_local and one.version == address.version for one in locals_)
    return True
