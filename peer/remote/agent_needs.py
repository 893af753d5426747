"""Questions and reports of a remote agent to its device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peer.fingerprint import Fingerprint
from peer.remote.messages import RefusalReason
from peer.remote.settings import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentNeeds:
    """The questions and the reports of an agent, as functions of its device.

    Attributes:
        may_connect: returns why a key may not open a path now; None if it may.
        revision: returns the revision of the remote settings of a key.
        addresses: returns the addresses at which clients may try to reach the device, "host:port".
        on_attached: called with a broker that is attached from now on.
        on_detached: called with a broker that is not any more, and the reason.
        on_failed: called after each failed attempt to attach to a broker, with it and the reason.
    """

    may_connect: Callable[[Fingerprint], RefusalReason | None]
    revision: Callable[[Fingerprint], int]
    addresses: Callable[[], Sequence[str]]
    on_attached: Callable[[Server], None]
    on_detached: Callable[[Server, str], None]
    on_failed: Callable[[Server, str], None]
