"""The progress of a run: the present measurement, and how long the rest takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

MINUTE = 60


class Progress:
    """Counts the groups of a run.

    On a terminal, one line is written again and again. Elsewhere, each group has one line at its
    start and one at its end.

    Args:
        names: the groups, in their order.
        before: the seconds that a group took in an earlier run.
    """

    def __init__(
        self, names: Sequence[str], before: Mapping[str, float], stream: TextIO = sys.stderr
    ) -> None:
        self._names = list(names)
        self._before = before
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._place = ""
        self._began = 0.0
        #: The seconds of each group that has ended.
        self.seconds: dict[str, float] = {}

    def announce(self) -> None:
        """Say how many groups there are, and how long they took before."""
        count = len(self._names)
        self._say(f"{count} group{'s' * (count != 1)}{self._left(self._names)}")

    def begin(self, name: str) -> None:
        """A group begins."""
        at = self._names.index(name)
        self._place = f"[{at + 1}/{len(self._names)}] {name}"
        self._began = time.monotonic()
        if self._is_terminal:
            self.step("begins")
        else:
            self._say(f"{self._place}{self._left(self._names[at:])}")

    def step(self, what: str) -> None:
        """Say what is measured now, on a terminal only."""
        if self._is_terminal:
            self._stream.write(f"\r\033[K{self._place}: {what}")
            self._stream.flush()

    def report(self, line: str) -> None:
        """Print a result."""
        self._clear()
        print(line, flush=True)

    def end(self, name: str) -> None:
        """A group has been measured."""
        self.seconds[name] = time.monotonic() - self._began
        rest = self._names[self._names.index(name) + 1 :]
        self._say(f"{self._place}: {self.seconds[name]:.0f} s{self._left(rest)}")

    def fail(self, name: str, why: str) -> None:
        """A group has failed, or cannot be measured here."""
        self._say(f"{name} {why}")

    def _left(self, names: Sequence[str]) -> str:
        """How long groups took before, if that is known of most of them."""
        known = [self._before[name] for name in names if name in self._before]
        if not known or 2 * len(known) < len(names):
            return ""
        return f", about {duration(sum(known) * len(names) / len(known))} left"

    def _say(self, text: str) -> None:
        self._clear()
        print(f"bench: {text}", file=self._stream, flush=True)

    def _clear(self) -> None:
        if self._is_terminal:
            self._stream.write("\r\033[K")


def duration(seconds: float) -> str:
    """Seconds, or minutes from two on."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} minutes"
