"""The limits that the configuration can set: one table, `LIMIT_SETTINGS`.

It holds the range of each setting under `[limits]`. The checks, the error texts, the template of
`device.toml` and docs/reference/configuration.md follow it. The defaults are those of
`peer.limits.Limits` and `iam.limits.IamLimits`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from iam.limits import DEFAULT_IAM_LIMITS, INVITE_USES_MAX, IamLimits
from peer.limits import DEFAULT_LIMITS, Limits

_DEFAULTS: Final[Mapping[str, float]] = MappingProxyType(
    asdict(DEFAULT_LIMITS) | asdict(DEFAULT_IAM_LIMITS)
)
_IAM_NAMES: Final = frozenset(one.name for one in fields(IamLimits))
_DAY: Final = 86_400


class Unit(StrEnum):
    """Unit of a limit; empty for a plain count."""

    COUNT = ""
    SECONDS = "seconds"
    PER_SECOND = "per second"
    PER_HOUR = "per hour"


@dataclass(frozen=True, slots=True)
class LimitSetting:
    """One setting, from `least` to `most`; `is_live` if a reload applies it without a restart."""

    name: str
    least: float
    most: float
    meaning: str
    unit: Unit = Unit.COUNT
    is_live: bool = False

    @property
    def default(self) -> float:
        """The value if the configuration has none."""
        return _DEFAULTS[self.name]

    @property
    def is_whole(self) -> bool:
        """True if the value has to be a whole number."""
        return isinstance(self.default, int)

    @property
    def bounds(self) -> str:
        """The range as the documentation shows it."""
        return f"{self.least:.12g} to {self.most:.12g} {self.unit}".rstrip()

    @property
    def range(self) -> str:
        """The range as an error says it."""
        kind = "a time" if self.unit is Unit.SECONDS else "a number"
        kind = "a whole number" if self.is_whole else kind
        return f"{kind} from {self.bounds}"


LIMIT_SETTINGS: Final[Mapping[str, LimitSetting]] = MappingProxyType(
    {
        one.name: one
        for one in (
            LimitSetting("users", 1, 100_000, "users of the device", is_live=True),
            LimitSetting("keys_per_user", 1, 64, "keys of one user", is_live=True),
            LimitSetting("invites", 0, 1000, "invites with uses left", is_live=True),
            LimitSetting("invite_uses", 1, INVITE_USES_MAX, "uses of one invite", is_live=True),
            LimitSetting(
                "invite_seconds",
                60,
                366 * _DAY,
                "validity of an invite, by default",
                Unit.SECONDS,
                is_live=True,
            ),
            LimitSetting(
                "invite_max_seconds",
                60,
                366 * _DAY,
                "validity of an invite, at most",
                Unit.SECONDS,
                is_live=True,
            ),
            LimitSetting("events_kept", 100, 1_000_000, "events in the audit trail"),
            LimitSetting("change_burst", 10, 1_000_000, "events by changes of one user, at once"),
            LimitSetting(
                "changes_per_hour",
                1,
                1_000_000,
                "events by changes of one user, after that",
                Unit.PER_HOUR,
            ),
            LimitSetting(
                "all_change_burst",
                10,
                1_000_000,
                "events by changes of all owners, and of all others, at once",
            ),
            LimitSetting(
                "all_changes_per_hour",
                1,
                1_000_000,
                "events by changes of all owners, and of all others, after that",
                Unit.PER_HOUR,
            ),
            LimitSetting("sessions", 2, 10_000, "established sessions, per port"),
            LimitSetting("sessions_per_key", 1, 64, "sessions of one key, per port"),
            LimitSetting("session_reserve", 0, 64, "sessions that only owners can use"),
            LimitSetting("unpaired_sessions", 1, 1000, "sessions of unknown keys, per port"),
            LimitSetting(
                "session_idle_seconds", 60, 366 * _DAY, "silence of a paired session", Unit.SECONDS
            ),
            LimitSetting(
                "handshakes_per_second", 0.1, 1000, "handshakes of one address", Unit.PER_SECOND
            ),
            LimitSetting("handshake_burst", 1, 10_000, "handshakes of one address, at once"),
            LimitSetting(
                "first_boot_window_seconds",
                10,
                3600,
                "pairing window of a device that never had an owner",
                Unit.SECONDS,
            ),
            LimitSetting(
                "window_max_seconds", 10, 3600, "any pairing window, at most", Unit.SECONDS
            ),
        )
    }
)

#: The first of each pair must not be larger than the second; `session_reserve` has to be smaller.
ORDERED: Final = (
    ("session_reserve", "sessions"),
    ("sessions_per_key", "sessions"),
    ("unpaired_sessions", "sessions"),
    ("invite_seconds", "invite_max_seconds"),
    ("first_boot_window_seconds", "window_max_seconds"),
    ("change_burst", "all_change_burst"),
    ("changes_per_hour", "all_changes_per_hour"),
)


def contradictions(values: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield the name of each limit that is too large beside another one, and why."""
    known = {**_DEFAULTS, **values}
    for smaller, larger in ORDERED:
        is_reserve = smaller == "session_reserve"
        if known[smaller] > known[larger] or (is_reserve and known[smaller] == known[larger]):
            relation = "smaller than" if is_reserve else "at most"
            name, other = (smaller, larger) if smaller in values else (larger, smaller)
            rule = f"limits.{smaller} has to be {relation} limits.{larger}"
            yield name, f"is {known[name]:.12g}, and limits.{other} is {known[other]:.12g}; {rule}"


def with_values(
    limits: Limits, iam_limits: IamLimits, values: Mapping[str, float]
) -> tuple[Limits, IamLimits]:
    """Return both with these values by name."""
    of_iam = {name: value for name, value in values.items() if name in _IAM_NAMES}
    of_peer = {name: value for name, value in values.items() if name not in _IAM_NAMES}
    return replace(limits, **of_peer), replace(iam_limits, **of_iam)  # type: ignore[arg-type]
