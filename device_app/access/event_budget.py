"""Bounds how many events others can cause, so that no one fills the audit trail or hides in it.

The audit trail keeps a bounded number of events. A refusal that does not fit the budget is not
written, and is counted in the next one that does. A change that does not fit is refused. Each
source has a budget of its own within the common one: a user with all keys, or the network prefix of
keys without a user. One source cannot use up the audit trail or the budgets of the others, and
many sources together still meet the common bound.

Times are monotonic seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Final, NamedTuple

from device_app.limits import REFUSAL_REPEAT_SECONDS, REFUSAL_SOURCES_MAX
from iam.errors import TooMany
from iam.limits import IamLimits
from peer.bounded_dict import BoundedDict
from peer.token_bucket import TokenBucket

_HOUR: Final = 3600.0
#: The length of a prefix whose addresses one host can usually choose among.
_PREFIX_BITS: Final[Mapping[int, int]] = MappingProxyType({4: 24, 6: 64})


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` events at once, and `per_hour` after that."""

    burst: float
    per_hour: float

    def bucket(self, now: float) -> TokenBucket:
        """A full bucket of this rate."""
        return TokenBucket(per_second=self.per_hour / _HOUR, burst=self.burst, now=now)


SOURCE_REFUSALS: Final = Rate(5, 5)  # of one source
USERS_REFUSALS: Final = Rate(60, 60)  # of all users
STRANGERS_REFUSALS: Final = Rate(20, 20)  # of all keys without a user


class SharedBudget:
    """A budget for each source, within one for all.

    Remembers `most` sources. A source that was forgotten has its whole budget again, and still
    meets the common bound.
    """

    def __init__(self, own: Rate, common: Rate, *, most: int = REFUSAL_SOURCES_MAX) -> None:
        self._own_rate = own
        self._common_rate = common
        self._common: TokenBucket | None = None
        self._own: BoundedDict[str, TokenBucket] = BoundedDict(most)

    def seconds_until(self, source: str, count: float, now: float) -> float:
        """How long it takes until `count` events fit: 0 if they do."""
        return max(bucket.seconds_until(count, now) for bucket in self._buckets(source, now))

    def take(self, source: str, count: float, now: float) -> None:
        """Take `count` events from both budgets."""
        for bucket in self._buckets(source, now):
            bucket.take(count)

    def rename(self, old: str, new: str) -> None:
        """Let the budget of a source follow its new name."""
        if (own := self._own.pop(old, None)) is not None:
            self._own[new] = own

    def _buckets(self, source: str, now: float) -> tuple[TokenBucket, TokenBucket]:
        own = self._own[source] = self._own.get(source) or self._own_rate.bucket(now)
        self._common = self._common or self._common_rate.bucket(now)
        return own, self._common


class Omitted(NamedTuple):
    """How many refusals were not written since the last: of the same source, and of others."""

    own: int
    others: int

    def __str__(self) -> str:
        own = f"and {self.own} more" if self.own else ""
        others = f"{self.others} of others" if self.others else ""
        return f"({own}{', ' if own and others else ''}{others})" if own or others else ""


class RefusalBudget:
    """Admits refusals to the audit trail: one of the same `what` in `seconds`, and the budget."""

    def __init__(
        self, seconds: float, own: Rate, common: Rate, *, most: int = REFUSAL_SOURCES_MAX
    ) -> None:
        self._seconds = seconds
        self._budget = SharedBudget(own, common, most=most)
        self._last: BoundedDict[tuple[str, object], float] = BoundedDict(most)
        self._omitted: BoundedDict[str, int] = BoundedDict(most, on_evict=self._forget_source)
        self._omitted_of_forgotten = 0

    @property
    def omitted(self) -> int:
        """How many refusals were not written and not yet counted in another one."""
        return sum(self._omitted.values()) + self._omitted_of_forgotten

    def admit(self, source: str, what: object, now: float) -> Omitted | None:
        """None if this refusal must not be written; else what was omitted before it."""
        last = self._last.get((source, what))
        is_repeated = last is not None and now - last < self._seconds
        if is_repeated or self._budget.seconds_until(source, 1, now):
            self._omitted[source] = self._omitted.get(source, 0) + 1
            return None
        self._budget.take(source, 1, now)
        self._last[source, what] = now
        own = self._omitted.pop(source, 0)
        omitted = Omitted(own, self.omitted)
        self._omitted.clear()
        self._omitted_of_forgotten = 0
        return omitted

    def rename(self, old: str, new: str) -> None:
        """Let the budget of a source follow its new name."""
        self._budget.rename(old, new)

    def _forget_source(self, _source: str, count: int) -> None:
        self._omitted_of_forgotten += count


def network_of(address: str) -> str:
    """The network prefix of `HOST:PORT`: /24 of IPv4, /64 of IPv6; the host if it is no address."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        found = ip_address(host)
    except ValueError:
        return host
    return str(ip_network(f"{found}/{_PREFIX_BITS[found.version]}", strict=False))


class EventBudgets:
    """The budgets of one audit trail."""

    def __init__(self, limits: IamLimits) -> None:
        self._limits = limits
        self._refusals: dict[tuple[str, bool], RefusalBudget] = {}
        own = Rate(limits.change_burst, limits.changes_per_hour)
        common = Rate(limits.all_change_burst, limits.all_changes_per_hour)
        self._changes = {
            is_owner: SharedBudget(own, common, most=limits.users) for is_owner in (True, False)
        }

    def admit_refusal(
        self, kind: str, user: str, address: str, what: str, now: float
    ) -> Omitted | None:
        """None if a refusal must not be written; else what was omitted before it.

        `user` is empty for a key without a user; then the network of the address is the source.
        `what` was refused, for example an action.
        """
        budget = self._refusals.get((kind, bool(user)))
        if budget is None:
            common = USERS_REFUSALS if user else STRANGERS_REFUSALS
            budget = RefusalBudget(REFUSAL_REPEAT_SECONDS, SOURCE_REFUSALS, common)
            self._refusals[kind, bool(user)] = budget
        return budget.admit(user or network_of(address), what, now)

    def spend(self, user: str, count: int, now: float, *, is_owner: bool) -> None:
        """Take the events of a change from a user's budget.

        Owners have a common budget of their own, so that other users cannot prevent their changes.

        Raises:
            TooMany: the change must not be made.
        """
        count = min(count, self._limits.change_burst)
        budget = self._changes[is_owner]
        if seconds := budget.seconds_until(user, count, now):
            raise TooMany(
                "there were too many changes in this time",
                seconds=seconds,
                advice="Wait, or make the change at the device. Removing is always possible.",
            )
        budget.take(user, count, now)

    def rename(self, old: str, new: str) -> None:
        """Let the budgets of a user follow the new name."""
        for refusals in self._refusals.values():
            refusals.rename(old, new)
        for changes in self._changes.values():
            changes.rename(old, new)
