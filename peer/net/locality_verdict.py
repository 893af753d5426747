"""The mode and the result of `peer.net.onlink`: values that need no table of the kernel."""

from dataclasses import dataclass
from enum import StrEnum


class LocalMode(StrEnum):
    """The mode: `COMPAT` is for CoAP clients of other projects, which send hop limit 64."""

    STRICT = "strict"
    COMPAT = "compat"


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
