"""Costs of many users and policies, as printed by `make bench`; none is a limit.

Each figure for 1,000 and 100,000 users is printed next to that for 10, from the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

from iam import Access, Event, Key, Policy, Role, Rules, State, Statement, Store, User, changed_keys
from iam import changes as to
from iam.builtin import POLICIES, ROLES
from iam.condition import Condition, Operator
from iam.limits import IamLimits
from iam.policy import Effect

if TYPE_CHECKING:
    from tests.kit.table import Table

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
SIZES = (10, 1_000, 100_000)
RULES = Rules(Access().roles, IamLimits(users=10**6))
EVENT = Event(kind="paired", boot="b", monotonic=1.0, wall=2.0)


def each(
    work: Callable[[], object],
    times: int,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds for one call: the median of several rounds."""
    taken = []
    for _ in range(rounds):
        begin = clock()
        for _ in range(times):
            work()
        taken.append((clock() - begin) / times)
    return median(taken)


def state_of(size: int) -> State:
    users = [User(f"u{n}", "user", (Key(f"{n:064x}"),)) for n in range(size)]
    return State.of([*users, User("anna", "owner", (Key("a" * 64),))])


def add_compared(table: Table, name: str, seconds: list[float]) -> None:
    """Add one row per number of users; each is compared with the first."""
    for size, taken in zip(SIZES, seconds, strict=True):
        compared = "" if size == SIZES[0] else f"{taken / seconds[0]:.2f} × {SIZES[0]} users"
        table.add(f"{name}, {size:,} users", taken, compared)


def names() -> Iterator[str]:
    return (f"new{number}" for number in count(1))


def test_the_cost_of_adding_a_user_in_memory(table: Table) -> None:
    """In memory: from the request to the sessions that end because of it."""
    found = []
    for size in SIZES:
        state, fresh = state_of(size), names()

        def add(state: State = state, fresh: Iterator[str] = fresh) -> None:
            changed_keys(state, to.add_user(state, None, User(next(fresh), "guest"), rules=RULES))

        found.append(each(add, 200))
    add_compared(table, "add a user, in memory", found)


def test_the_cost_of_adding_a_user_durably(table: Table, tmp_path: Path) -> None:
    """The complete change: rules, rows, an event, and the sync to the disk."""
    found = []
    for size in SIZES:
        with closing(Store.open(tmp_path / f"{size}.db")) as store:
            store.commit(state_of(size))
            fresh = names()

            def add(store: Store = store, fresh: Iterator[str] = fresh) -> None:
                user = User(next(fresh), "guest")
                store.commit(to.add_user(store.state, None, user, rules=RULES), EVENT)

            found.append(each(add, 20))
    add_compared(table, "add a user, durably", found)


def test_the_cost_of_opening_the_store(table: Table, tmp_path: Path) -> None:
    found = []
    for size in SIZES:
        path = tmp_path / f"{size}.db"
        with closing(Store.open(path)) as store:
            store.commit(state_of(size))
        found.append(each(lambda path=path: Store.open(path).close(), 1, rounds=3))  # type: ignore[misc]
    add_compared(table, "open the store", found)


def test_the_cost_of_counting_users(table: Table) -> None:
    """The counts of a status report: users, keys, and users per role."""
    found = []
    for size in SIZES:
        state = state_of(size)

        def report(state: State = state) -> tuple[int, ...]:
            roles = (state.count_in(role.id) for role in ROLES)
            return (len(state.users), state.key_count, *roles)

        assert sum(report()) == 3 * (size + 1)
        found.append(each(report, 2000))
    add_compared(table, "count users, keys and roles", found)


def test_the_cost_of_listing_users(table: Table) -> None:
    """All users sorted by name; the cost per user."""
    found = []
    for size in SIZES:
        state = state_of(size)
        taken = each(lambda state=state: sorted(state.users.items()), 3)  # type: ignore[misc]
        found.append(taken / size)
    add_compared(table, "list users by name, per user", found)


def test_the_cost_of_a_decision(table: Table) -> None:
    """Identify a key and decide about one action, for few and many users and policies."""
    policies = [
        Policy(f"p{n}", (Statement(Effect.ALLOW, (f"App{n}:Get", f"Other{n}:*")),))
        for n in range(1000)
    ]
    every = tuple(policy.id for policy in policies)
    roles = [Role(r.id, r.rank, (*r.policies, *every) if r.rank else r.policies) for r in ROLES]
    found = {}
    for name, access, action in (
        ("built-in policies", Access(), "Iam:GetMe"),
        ("1,000 policies", Access(roles, [*POLICIES, *policies]), "App999:Get"),
    ):
        assert access.decide(access.subject(state_of(10), f"{3:064x}", 0.0), action).allowed
        for size in SIZES:
            state = state_of(size)

            def decide(access: Access = access, state: State = state, action: str = action) -> None:
                access.decide(access.subject(state, f"{3:064x}", 0.0), action)

            found[name, size] = each(decide, 2000, clock=time.process_time)
        add_compared(table, f"decide, {name}", [found[name, size] for size in SIZES])
    ratio = found["1,000 policies", 10] / found["built-in policies", 10]
    table.add(
        "decide, 1,000 policies", found["1,000 policies", 10], f"{ratio:.2f} × built-in policies"
    )


def test_the_cost_of_a_decision_with_conditions(table: Table) -> None:
    """Identify a key and decide by a statement with four conditions, for few and many users."""
    conditions = (
        Condition(Operator.BOOL, "Connection:IsLocal", ("true",)),
        Condition(Operator.IP_ADDRESS, "Connection:Address", ("192.168.0.0/16",)),
        Condition(Operator.DATE_GREATER_THAN, "Clock:Now", ("2020-01-01T00:00:00Z",)),
        Condition(Operator.STRING_LIKE, "Connection:Username", ("u*",)),
    )
    four = Policy("four", (Statement(Effect.ALLOW, ("Lamp:Get",), conditions),))
    roles = [Role(r.id, r.rank, (*r.policies, "four")) if r.rank else r for r in ROLES]
    access = Access(roles, [*POLICIES, four])
    attributes = {
        "Connection:IsLocal": "true",
        "Connection:Address": "192.168.1.7",
        "Connection:Interface": "eth0",
        "Clock:Now": "1767225600",
    }
    found = []
    for size in SIZES:
        state = state_of(size)
        assert access.decide(
            access.subject(state, f"{3:064x}", 0.0), "Lamp:Get", attributes
        ).allowed

        def decide(state: State = state) -> None:
            access.decide(access.subject(state, f"{3:064x}", 0.0), "Lamp:Get", attributes)

        found.append(each(decide, 2000, clock=time.process_time))
    add_compared(table, "decide, four conditions", found)


def test_the_cost_of_loading_policies(table: Table) -> None:
    def load(number: int) -> Access:
        policies = [
            Policy(f"p{n}", (Statement(Effect.ALLOW, (f"App{n}:Get",)),)) for n in range(number)
        ]
        return Access(ROLES, [*POLICIES, *policies])

    few, many = each(lambda: load(10), 20), each(lambda: load(1000), 3)
    table.add("load 1,000 policies", many, f"{many / few:.1f} × 10 policies")
