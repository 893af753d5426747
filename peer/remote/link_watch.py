"""The interface of a watch of this machine's links."""

from collections.abc import Callable
from typing import Protocol


class LinkWatch(Protocol):
    """Watches the links and addresses of this machine."""

    def close(self) -> None:
        """Stop. Safe to repeat."""


WatchLinks = Callable[[Callable[[], None]], LinkWatch]
"""Begins to call a function whenever the links of this machine change."""
