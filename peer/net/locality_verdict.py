"""What `peer.net.onlink` finds; a value of its own, since a client needs no kernel tables."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LocalityVerdict:
    """Whether a datagram is local, and if not, why.

    ``rule`` is the first rule that failed: "ttl", "interface", "prefix", "destination", or empty.
    ``interface`` is the receiving interface's name, ``hop_limit`` what was left on arrival, and
    ``detail`` a sentence for a person. They hold addresses and names, never payload.
    """

    is_local: bool
    rule: str
    interface: str
    hop_limit: int | None
    detail: str
