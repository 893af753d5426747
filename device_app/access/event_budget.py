"""How many events others may cause, so that nobody blinds the trail or flushes it.

The trail keeps a bounded number of events. Refusals that do not fit the budget are left out, and
counted in the next one that does. A change cannot be left out: one that does not fit is refused. In
both, each source has an allowance of its own inside the common one: a user, with all keys, or the
network prefix of keys that nobody has. So one source uses up neither the others' share nor the
trail, and many together still meet the common bound.
"""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

from iam.errors import TooMany
from iam.limits import IamLimits
from peer.bounded_dict import BoundedDict
from peer.token_bucket import TokenBucket

REFUSAL_SECONDS: Final = 10.0  # refusals of one kind, of one source, are one event in this time
_HOUR = 3600.0
_MOST: Final = 256  # sources, and repeats, that are remembered
_PREFIX_BITS: Final = {4: 24, 6: 64}  # what one network hands out to its members at will


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and so many per hour after that."""

    burst: float
    per_hour: float

    def bucket(self, now: float) -> TokenBucket:
        """A full bucket of this rate."""
        return TokenBucket(per_second=self.per_hour / _HOUR, burst=self.burst, now=now)


OWN_REFUSALS: Final = Rate(5, 5)  # of one source
USERS_REFUSALS: Final = Rate(60, 60)  # of all users
STRANGERS_REFUSALS: Final = Rate(20, 20)  # of all others


class SharedBudget:
    """An allowance for each source, inside one for all. Remembers `most` sources; one that was
    forgotten has its own allowance again, and still meets the common one."""

    def __init__(self, own: Rate, common: Rate, *, most: int = _MOST) -> None:
        self._own_rate = own
        self._common_rate = common
        self._common: TokenBucket | None = None
        self._own: BoundedDict[str, TokenBucket] = BoundedDict(most)

    def wait(self, source: str, count: float, now: float) -> float:
        """Seconds until so many fit; 0 if they do."""
        return max(bucket.seconds_until(count, now) for bucket in self._buckets(source, now))

    def take(self, source: str, count: float, now: float) -> None:
        """Take so many, which `wait` has found."""
        for bucket in self._buckets(source, now):
            bucket.take(count)

    def rename(self, old: str, new: str) -> None:
        """A source has another name, and no more than it had."""
        if (own := self._own.pop(old, None)) is not None:
            self._own[new] = own

    def _buckets(self, source: str, now: float) -> tuple[TokenBucket, TokenBucket]:
        own = self._own[source] = self._own.get(source) or self._own_rate.bucket(now)
        self._common = self._common or self._common_rate.bucket(now)
        return own, self._common


class Omitted(NamedTuple):
    """How many refusals were left out since the last: of the same source, and of others."""

    own: int
    others: int

    def __str__(self) -> str:
        own = f"and {self.own} more" if self.own else ""
        others = f"{self.others} of others" if self.others else ""
        return f"({own}{', ' if own and others else ''}{others})" if own or others else ""


class RefusalBudget:
    """Lets refusals into the trail: one of a kind (`what`) in `seconds`, and within the budget."""

    def __init__(self, seconds: float, own: Rate, common: Rate, *, most: int = _MOST) -> None:
        self._seconds = seconds
        self._budget = SharedBudget(own, common, most=most)
        self._last: BoundedDict[tuple[str, object], float] = BoundedDict(most)
        self._omitted: BoundedDict[str, int] = BoundedDict(most, on_evict=self._forget)
        self._forgotten = 0  # omitted ones of sources that are not remembered

    @property
    def omitted(self) -> int:
        """How many were left out and not told yet."""
        return sum(self._omitted.values()) + self._forgotten

    def admit(self, source: str, what: object, now: float) -> Omitted | None:
        """None if this one is left out; else what was left out before it."""
        last = self._last.get((source, what))
        is_repeat = last is not None and now - last < self._seconds
        if is_repeat or self._budget.wait(source, 1, now):
            self._omit(source)
            return None
        self._budget.take(source, 1, now)
        self._last[source, what] = now
        own = self._omitted.pop(source, 0)
        told = Omitted(own, self.omitted)
        self._omitted.clear()
        self._forgotten = 0
        return told

    def rename(self, old: str, new: str) -> None:
        """A source has another name, and no more than it had."""
        self._budget.rename(old, new)

    def _omit(self, source: str) -> None:
        self._omitted[source] = self._omitted.get(source, 0) + 1

    def _forget(self, _source: str, count: int) -> None:
        self._forgotten += count


def source_of(address: str) -> str:
    """The network prefix of `HOST:PORT`: /24 of IPv4, /64 of IPv6; other text as it is."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        found = ip_address(host)
    except ValueError:
        return host
    return str(ip_network(f"{found}/{_PREFIX_BITS[found.version]}", strict=False))


class EventBudgets:
    """The budgets of one trail. Times are monotonic seconds."""

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
        """None if a refusal is left out; else what was left out before it. `user` is empty for a
        key that nobody has."""
        budget = self._refusals.get((kind, bool(user)))
        if budget is None:
            common = USERS_REFUSALS if user else STRANGERS_REFUSALS
            budget = RefusalBudget(REFUSAL_SECONDS, OWN_REFUSALS, common)
            self._refusals[kind, bool(user)] = budget
        return budget.admit(user or source_of(address), what, now)

    def spend(self, user: str, count: int, now: float, *, is_owner: bool) -> None:
        """Take the events of a change. Owners have a common allowance of their own, so that others
        do not keep them from acting. Raises `TooMany`: the change must not be made."""
        count = min(count, self._limits.change_burst)
        budget = self._changes[is_owner]
        if seconds := budget.wait(user, count, now):
            raise TooMany(
                "there were too many changes in this time",
                seconds=seconds,
                advice="Wait, or make the change at the device. Removing is always possible.",
            )
        budget.take(user, count, now)

    def rename(self, old: str, new: str) -> None:
        """A user has another name, and no more than before."""
        for refusals in self._refusals.values():
            refusals.rename(old, new)
        for changes in self._changes.values():
            changes.rename(old, new)
