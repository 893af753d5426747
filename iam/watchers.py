"""Callbacks that are called after something has become durable."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, ParamSpec

_Values = ParamSpec("_Values")
_log = logging.getLogger(__name__)


class Watchers(Generic[_Values]):
    """The callbacks of one kind of event, in the order in which they subscribed."""

    def __init__(self) -> None:
        self._watchers: list[Callable[_Values, None]] = []

    def add(self, watcher: Callable[_Values, None]) -> Callable[[], None]:
        """Subscribe; return the function that ends the subscription."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def __len__(self) -> int:
        """Return the number of subscriptions."""
        return len(self._watchers)

    def notify(self, *values: _Values.args, **named: _Values.kwargs) -> None:
        """Call every watcher. An error of one is logged: the author of the change gets none."""
        for watcher in tuple(self._watchers):
            try:
                watcher(*values, **named)
            except Exception:
                _log.exception("a watcher of the store failed")
