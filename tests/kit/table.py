"""The table of results that the measurements print."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows of results: name, microseconds, and a comparison."""

    rows: list[tuple[str, float, str]] = field(default_factory=list)

    def add(self, name: str, seconds: float, compared: str = "") -> None:
        self.rows.append((name, seconds * 1e6, compared))

    def lines(self) -> Iterator[str]:
        width = max(len(name) for name, _, _ in self.rows)
        for name, microseconds, compared in self.rows:
            yield f"{name:<{width}}  {microseconds:>12,.1f} µs  {compared}".rstrip()
