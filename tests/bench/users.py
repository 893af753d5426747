"""Users, policies and events: starts, reports, decisions, and the stall of a reload."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from device_app.settings.paths import Paths
from iam import Event, Key, State, Store, Subject, User
from iam.policy import Role
from iam.policy_toml import to_toml
from tests.bench import control
from tests.bench.harness import OURS, Bench, Row, Series, process_seconds
from tests.bench.policy_sets import ATTRIBUTES, access, policies
from tests.bench.programs import command, device, generate, new_home, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.programs import Server

MANY: Final = 100_000
FEW: Final = 10
POLICIES: Final = 1_000
EVENT: Final = Event(kind="paired", boot="b", monotonic=1.0, wall=2.0)


def users_of(count: int) -> list[User]:
    """Users with one key each."""
    return [User(f"u{number}", "user", (Key(f"{number:064x}"),)) for number in range(count)]


def home_with(bench: Bench, count: int) -> Path:
    """A device's home with many users beside that of the generator."""
    home = new_home(bench, f"users-{count}")
    with closing(Store.open(Paths(home, home, home).store)) as store:
        known = store.state.users.values()
        store.commit(State.of([*known, *users_of(count)]))
    return home


def many_users(bench: Bench) -> None:
    """A start, a status report, a list and the memory, with few and with many users."""
    sizes = sorted({FEW, bench.times(1_000), bench.times(10_000), bench.times(MANY)})
    rounds = min(bench.rounds, 3)
    homes = {size: home_with(bench, size) for size in sizes}
    columns: dict[str, dict[int, list[float]]] = {}

    def note(key: str, size: int, value: float) -> None:
        columns.setdefault(key, {}).setdefault(size, []).append(value)

    for number in range(rounds):
        for size, home in homes.items():
            bench.step(f"round {number + 1} of {rounds}: {size:,} users")
            begin = time.perf_counter()
            with device(bench, f"{size} users", home=home) as server:
                note("start", size, time.perf_counter() - begin)
                note("memory", size, server.resident() / 2**20)
                note("status", size, 1e3 * seconds(lambda home=home: control.ask(home, "status")))  # type: ignore[misc]
                words = ("--home", str(home), "users", "list")
                argv = command(None, *words)
                note("list", size, process_seconds(argv, surroundings(None)))
    names = {
        "start": ("start of the daemon until it is ready", "s"),
        "status": ("`status`, without the start of the command", "ms"),
        "list": ("`users list` as a command", "s"),
        "memory": ("resident memory of the daemon", "MiB"),
    }
    for key, (name, unit) in names.items():
        found = {size: Series(tuple(values)) for size, values in columns[key].items()}
        most, least = max(sizes), min(sizes)
        pair = {f"{most:,} users": found[most], f"{least:,} users": found[least]}
        bench.add_figures(f"users-{key}", name, unit, pair)
        for size, series in found.items():
            bench.add(Row(f"curve-users-{key}", f"{name}, by users", unit, {OURS: series}, x=size))


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Seconds for one call."""
    begin = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begin) / times


def decisions(bench: Bench) -> None:
    """Identify a key and decide, without and with four conditions; among users and policies."""
    times = bench.times(5_000)
    states = {
        size: State.of([*users_of(size), User("anna", "tester", (Key("a" * 64),))])
        for size in sorted({FEW, bench.times(MANY)})
    }
    asked = {"plain": ("without conditions", "M9:Get")}
    asked |= {"conditions": ("with four conditions", "O9:Get")}
    rules = access(10)
    for key, (name, action) in asked.items():
        assert rules.decide(rules.subject(states[FEW], "a" * 64, 0.0), action, ATTRIBUTES).allowed

        def decide(state: State, action: str = action) -> None:
            rules.decide(rules.subject(state, "a" * 64, 0.0), action, ATTRIBUTES)

        found = bench.compare(
            {
                f"{size:,} users": lambda state=state: 1e6 * seconds(lambda: decide(state), times)  # type: ignore[misc]
                for size, state in reversed(states.items())
            },
            bench.rounds,
        )
        bench.add_figures(f"decision-{key}", f"one decision {name}", "µs", found)
    tester = Subject("a" * 64, User("anna", "tester", (Key("a" * 64),)), "tester")
    for count in (1, 10, 100, 1_000):
        among = access(count)
        action = f"O{count - 1}:Get"
        cost = bench.compare(
            {OURS: lambda: 1e6 * seconds(lambda: among.decide(tester, action, ATTRIBUTES), times)},  # noqa: B023
            bench.rounds,
        )
        name = "a decision with four conditions, by policies"
        bench.add(Row("curve-policies", name, "µs", cost, x=count))


def write_policies(home: Path, count: int, version: int) -> None:
    """Write a policy file with that many policies, and different ones for each version."""
    mine = policies(count)
    text = to_toml([Role(f"tester{version}", 5, tuple(policy.id for policy in mine))], mine)
    (home / "policy.d").mkdir(exist_ok=True)
    (home / "policy.d" / "bench.toml").write_text(text, encoding="utf-8")


def reload(bench: Bench) -> None:
    """The longest wait of a client that reads without pause, with and without a reload."""
    home = new_home(bench, "reload")
    versions = iter(range(10**6))
    with device(bench, home=home) as server:

        def stall(count: int) -> tuple[float, float]:
            """Milliseconds of the longest request, and of the reload."""
            if count:
                write_policies(home, count, next(versions))
            taken = [0.0]
            timer = threading.Timer(0.3, lambda: taken.append(ask_reload(home, count)))
            timer.start()
            longest = longest_wait(bench, server)
            timer.join()
            return longest, taken[-1]

        counts = sorted({0, 1, 10, 100, bench.times(POLICIES)})
        results: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
        for number in range(bench.rounds):
            for count in counts:
                bench.step(f"round {number + 1} of {bench.rounds}: {count:,} policies")
                results[count].append(stall(count))
    waits = {count: Series(tuple(one for one, _ in found)) for count, found in results.items()}
    most = max(counts)
    pair = {f"{most:,} policies": waits[most], "no reload": waits[0]}
    bench.add_figures("reload-stall", "longest wait of another client during a reload", "ms", pair)
    name = "longest wait during a reload, by policies"
    for count, series in waits.items():
        bench.add(Row("curve-reload", name, "ms", {OURS: series}, x=count))


def ask_reload(home: Path, count: int) -> float:
    """Milliseconds of a reload; without policies there is none."""
    return 1e3 * seconds(lambda: control.ask(home, "policy-reload")) if count else 0.0


def longest_wait(bench: Bench, server: Server) -> float:
    """Milliseconds of the slowest of many requests, one after another for a second."""
    count = 100_000 if bench.share == 1 else bench.times(10_000)
    found = generate(bench, server, "requests", path=server.path, count=count, seconds=2)
    return float(found["max"]) / 1e3


def events(bench: Bench) -> None:
    """The start of the daemon, and a durable change, with a long audit trail."""
    for count in sorted({0, bench.times(1_000), bench.times(10_000)}):
        bench.step(f"{count:,} events")
        home = new_home(bench, f"events-{count}")
        with closing(Store.open(Paths(home, home, home).store)) as store:
            if count:
                store.commit(store.state, *([EVENT] * count))
            changes = [change(store, round_) for round_ in range(bench.rounds)]
        starts = [start(bench, home) for _ in range(min(bench.rounds, 3))]
        for key, name, unit, values in (
            ("curve-events-start", "start of the daemon, by events", "s", starts),
            ("curve-events-change", "a user added durably, by events", "ms", changes),
        ):
            bench.add(Row(key, name, unit, {OURS: Series(tuple(values))}, x=count))


def change(store: Store, number: int) -> float:
    """Milliseconds of a durable change with its event."""
    known = store.state.users.values()
    new = State.of([*known, User(f"new{number}", "guest")])
    return 1e3 * seconds(lambda: store.commit(new, EVENT))


def start(bench: Bench, home: Path) -> float:
    """Seconds until the daemon is ready."""
    begin = time.perf_counter()
    with device(bench, home.name, home=home):
        return time.perf_counter() - begin
