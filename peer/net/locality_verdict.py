"""The result of `peer.net.onlink`, in a module of its own: a client needs no kernel tables."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LocalityVerdict:
    """Whether a datagram is local, and the reason if it is not.

    `rule` is the first rule that failed: "ttl", "interface", "prefix", "destination", or empty.
    `interface` is the name of the receiving interface, `hop_limit` the hop limit on arrival, and
    `detail` explains the failure. No field contains payload.
    """

    is_local: bool
    rule: str
    interface: str
    hop_limit: int | None
    detail: str
