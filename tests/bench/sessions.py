"""Sessions: handshakes, their growth with live sessions, memory, and pairing."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.bench.harness import BASE, OURS, Bench, Row, Series, picked
from tests.bench.programs import (
    HERE,
    Server,
    bare_pyopenssl,
    device,
    generator,
    libcoap,
    load,
)
from tests.kit.process import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.process import Program

LIVE: Final = 1_000
WARM: Final = 100
BURST: Final = 16
ROUNDS: Final = 9
OPENED: Final = 500


def handshakes(bench: Bench) -> None:
    """Full handshakes one after another, and hellos without a cookie."""
    with ExitStack() as stack:
        servers = [stack.enter_context(device(bench, OURS)), stack.enter_context(libcoap(bench))]
        if bench.base:
            servers.append(stack.enter_context(device(bench, BASE, base=True)))
        hello = "ClientHello without a cookie"
        for mode, usual, window, key, name in (
            ("handshakes", 200, 1, "handshake-cpu", "full handshake"),
            ("hellos", 2_000, 1, "hello-cpu", f"{hello}, one by one"),
            ("hellos", 4_000, BURST, "hello-burst-cpu", f"{hello}, {BURST} at a time"),
        ):
            given = {"count": bench.times(usual)} | ({"window": window} if window > 1 else {})
            found = bench.interleaved(
                {one.name: partial(load, bench, one, mode, **given) for one in servers},
                bench.rounds,
            )
            cpu = picked(found, lambda one: one.cpu)
            bench.add_figures(key, f"{name}: CPU of the server", "µs", cpu)


@contextmanager
def held(bench: Bench, server: Server, sessions: int) -> Iterator[Program]:
    """Keep sessions open."""
    with generator(bench, server, "hold", sessions=sessions) as program:
        program.until("open", on="out")
        yield program


def live_sessions(bench: Bench) -> None:
    """A handshake and a request with many other sessions open: two curves."""
    with ExitStack() as stack:
        empty = stack.enter_context(device(bench, OURS))
        full = stack.enter_context(device(bench, f"{OURS} with live sessions"))
        open_now = 0
        for live in sorted({0, bench.times(100), bench.times(300), bench.times(LIVE)}):
            if live > open_now:
                stack.enter_context(held(bench, full, live - open_now))
                open_now = live
            for mode, key, name, usual in (
                ("handshakes", "live-handshake", "a full handshake with live sessions", 100),
                ("requests", "live-get", "a small GET with live sessions", 2_000),
            ):
                names = {full: "live sessions", empty: "an empty device"}
                given = {"window": 16} if mode == "requests" else {}
                found = bench.interleaved(
                    {
                        name_of: partial(load, bench, one, mode, count=bench.times(usual), **given)
                        for one, name_of in names.items()
                    },
                    bench.rounds,
                )
                figures = picked(found, lambda one: one.cpu)
                bench.add(Row(key, f"{name}: CPU of the server", "µs", figures, x=live))
        most = {row.key: row for row in bench.rows if row.x == live}
        for row in most.values():
            name = row.name.replace("live", f"{live:,} live")
            bench.add_figures(f"{row.key}-most", name, row.unit, row.figures)


def idle_memory(bench: Bench) -> None:
    """Resident memory of one idle session, beside pyOpenSSL's sessions alone."""

    def measure(name: str) -> float:
        with bare_pyopenssl(bench) if name != OURS else device(bench, OURS) as server:
            sessions = bench.times(LIVE)
            with held(bench, server, WARM):
                before = server.resident()
                with held(bench, server, sessions):
                    return (server.resident() - before) / sessions / 1024

    names = (OURS, "pyOpenSSL alone")
    figures = bench.compare({name: partial(measure, name) for name in names}, min(bench.rounds, 3))
    bench.add_figures("session-memory", "memory of an idle session", "KiB", figures)


def opened_and_closed(bench: Bench) -> None:
    """Resident memory after rounds of sessions that are all opened and then all closed."""
    with device(bench, OURS) as server:
        sizes = [server.resident() / 2**20]
        count = bench.times(OPENED)
        with generator(bench, server, "hold", sessions=count, rounds=ROUNDS) as program:
            for round_ in range(ROUNDS):
                bench.step(f"round {round_ + 1} of {ROUNDS}")
                program.until('"open"', on="out", times=round_ + 1)
                program.type("")
                program.until('"closed"', on="out", times=round_ + 1)
                sizes.append(server.resident() / 2**20)
            program.end(code=0)
    for round_, size in enumerate(sizes):
        name = f"memory after rounds of {OPENED} sessions"
        bench.add(Row("rounds-memory", name, "MiB", {OURS: Series((size,))}, x=round_))
    last = {"after the ninth round": Series((sizes[9],)), "after the third": Series((sizes[3],))}
    bench.add_figures("rounds-growth", "memory with sessions opened and closed", "MiB", last)


def pairing(bench: Bench) -> None:
    """From connecting to the stored user by `compare`, and a handshake alone."""

    def measure() -> list[float]:
        argv = [sys.executable, str(HERE / "pairing_loop.py"), str(bench.times(20))]
        done = subprocess.run(
            argv, env=environment(), check=True, capture_output=True, text=True, timeout=300
        )
        return [1e3 * one for one in json.loads(done.stdout.splitlines()[-1])]

    names = ("connect and pair", "a handshake", "a user added durably")
    rounds = bench.interleaved({"pairing": measure}, bench.rounds)["pairing"]
    results = zip(*rounds, strict=True)
    figures = {name: Series(tuple(each)) for name, each in zip(names, results, strict=True)}
    bench.add_figures("pairing", "pairing by `compare`, both users accept at once", "ms", figures)
