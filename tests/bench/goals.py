"""The goals of the project for its costs, and whether a row meets them.

A goal bounds the first figure of a row: by a number in the unit of the row, by a multiple of other
candidates that were measured in the same round, or by a sum of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from tests.bench.harness import BASE, Row, Series

LIBCOAP: Final = "libcoap"
TINYDTLS: Final = "aiocoap, tinydtls PSK"
PLAIN: Final = "aiocoap, plain UDP"
BARE: Final = "python -c pass"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound: at most, or at least for a rate.

    Attributes:
        text: the bound, as the table shows it.
        number: the part of the bound in the unit of the row.
        times: the factors of the other candidates.
        stretch: the part of the bound that would be better still, 1 for none.
    """

    text: str
    number: float = 0.0
    times: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    stretch: float = 1.0

    @property
    def beside(self) -> str:
        """The candidate in whose line the goal is shown, or nothing."""
        return next(iter(self.times), "")

    def part(self, row: Row) -> Series | None:
        """The figure as a part of the bound, for each round; None without these candidates."""
        if not self.times.keys() <= row.figures.keys():
            return None
        own = next(iter(row.figures.values())).values
        bounds = [
            self.number + sum(row.figures[name].values[at] * by for name, by in self.times.items())
            for at in range(len(own))
        ]
        return Series(own).over(Series(tuple(bounds)))

    def verdict(self, row: Row) -> str | None:
        """Whether the median meets the goal; None if that was not measured."""
        part = self.part(row)
        if part is None:
            return None
        at = 1 / part.median if row.more_is_better and part.median else part.median
        if at > 1:
            return "no"
        is_more = self.stretch != 1 and at <= min(self.stretch, 1 / self.stretch)
        return "yes, both" if is_more else "yes"


def ratio(limit: float, against: str, stretch: float = 0.0, *, least: bool = False) -> Goal:
    """A bound for the ratio to a candidate."""
    sign, more = "≥" if least else "≤", f" ({stretch:g})" if stretch else ""
    part = stretch / limit if stretch else 1.0
    return Goal(f"{sign} {limit:g} ×{more}", times={against: limit}, stretch=part)


def most(limit: float, unit: str, stretch: float = 0.0) -> Goal:
    """A bound for the figure itself."""
    more = f" ({stretch:g})" if stretch else ""
    return Goal(f"≤ {limit:g} {unit}{more}", limit, stretch=stretch / limit if stretch else 1.0)


#: The goals of each row, by its key.
GOALS: Final[Mapping[str, tuple[Goal, ...]]] = {
    "get-16-rate": (ratio(0.33, LIBCOAP, 0.45, least=True), ratio(5, TINYDTLS, least=True)),
    "get-16-cpu": (ratio(3, LIBCOAP),),
    "get-1-rate": (ratio(0.55, LIBCOAP, 0.65, least=True), ratio(1.5, TINYDTLS, least=True)),
    "get-1-cpu": (ratio(2.6, LIBCOAP),),
    "client-rate": (ratio(1.1, PLAIN, 1.25, least=True),),
    # The other checkout is one from before the direct path.
    "other-observe": (ratio(0.65, BASE, 0.55),),
    "other-block": (ratio(0.65, BASE, 0.55),),
    "other-write": (ratio(0.65, BASE, 0.55),),
    "other-post": (ratio(0.65, BASE, 0.55),),
    "other-delete": (ratio(0.65, BASE, 0.55),),
    "notify": (most(90, "µs"),),
    "block2-rate": (ratio(0.3, LIBCOAP, least=True),),
    "handshake-cpu": (ratio(1.1, LIBCOAP, 1.05),),
    "hello-burst-cpu": (most(60, "µs", 34),),
    "live-handshake-most": (ratio(1.1, "an empty device"),),
    "session-memory": (Goal("≤ pyOpenSSL + 3 KiB", 3, MappingProxyType({"pyOpenSSL alone": 1.0})),),
    "rounds-growth": (ratio(1.1, "after the third"),),
    "pairing": (
        Goal(
            "≤ 2.5 handshakes + 2 durable writes",
            times=MappingProxyType({"a handshake": 2.5, "a user added durably": 2.0}),
        ),
    ),
    "users-start": (most(1.5, "s"),),
    "users-status": (most(10, "ms"),),
    "users-memory": (most(120, "MiB"),),
    "decision-plain": (most(5, "µs"), ratio(1.1, "10 users")),
    "decision-conditions": (most(9, "µs"), ratio(1.1, "10 users")),
    "reload-stall": (most(10, "ms"),),
    "verb-0": (ratio(6, BARE),),
    "verb-1": (ratio(8, BARE),),
    "verb-2": (ratio(17, BARE),),
    "verb-3": (ratio(9, BARE),),
    "idle-memory": (most(60, "MiB", 56),),
}


def verdicts(row: Row) -> Iterator[tuple[Goal, str]]:
    """The goals of a row that its candidates can show, each with what came out."""
    for goal in GOALS.get(row.key, ()):
        if (verdict := goal.verdict(row)) is not None:
            yield goal, verdict
