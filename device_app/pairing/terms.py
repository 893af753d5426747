"""Defaults of a pairing window, from the configuration."""

from dataclasses import dataclass

from peer.limits import DEFAULT_LIMITS
from peer.pairing.ceremony import OverlapRule


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingTerms:
    """Settings of a window, unless its opener asks for others.

    Attributes:
        role: the role of the user who pairs; None is `owner` for the first pairing, then `guest`.
        methods: the methods to offer; empty offers all that the board has.
        seconds: how long a window is open.
        overlap: what happens when a second key starts a ceremony in the same window.
    """

    role: str | None = None
    methods: tuple[str, ...] = ()
    seconds: float = DEFAULT_LIMITS.window_seconds
    overlap: OverlapRule = OverlapRule.REFUSE
