"""`python -m tests.bench`: measure, and write the table, the JSON and the pictures."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from tests.bench import (
    arm,
    cells,
    instructions,
    machine,
    page,
    remote,
    requests,
    scale,
    sessions,
    start,
    tunnels,
    users,
)
from tests.bench.harness import Bench
from tests.bench.page import Run
from tests.bench.progress import Progress, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True)
class Group:
    """Measurements that run together, and the programs that they need."""

    measure: Callable[[Bench], None]
    programs: tuple[str, ...] = ()
    needs_root: bool = False

    def missing(self) -> list[str]:
        """The programs that this machine lacks, and root."""
        programs = [one for one in self.programs if shutil.which(one) is None]
        return programs + (["root"] if self.needs_root and os.geteuid() != 0 else [])


COAP: Final = ("coap-server-openssl", "coap-client-openssl")
GROUPS: Final = {
    "get": Group(requests.small_gets, COAP),
    "client": Group(requests.own_client),
    "other": Group(requests.other_path, COAP),
    "notify": Group(requests.notifications, COAP),
    "block2": Group(requests.large_body, COAP),
    "payload": Group(requests.payloads, COAP),
    "handshakes": Group(sessions.handshakes, COAP),
    "live": Group(sessions.live_sessions),
    "memory": Group(sessions.idle_memory),
    "rounds": Group(sessions.opened_and_closed),
    "pairing": Group(sessions.pairing),
    "users": Group(users.many_users),
    "decisions": Group(users.decisions),
    "reload": Group(users.reload),
    "events": Group(users.events),
    "start": Group(start.verbs),
    "remote": Group(remote.device, ("mosquitto", "turnserver")),
    "tunnels": Group(tunnels.throughput, ("mosquitto", "turnserver")),
    "cells": Group(cells.networks, ("ip", "nft", "mosquitto", "turnserver"), needs_root=True),
    "scale": Group(scale.servers, ("mosquitto", "nats-server", "turnserver")),
    "instructions": Group(instructions.instructions, (*COAP, "valgrind")),
    "arm": Group(arm.instructions, ("qemu-aarch64", arm.PYTHON)),
}
GENERATOR: Final = "coap-load"
ROUNDS: Final = 5
INTERRUPTED: Final = 130


def main() -> int:
    """Run the groups that are named, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is measured")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual operations")
    parser.add_argument("--base", type=Path, help="another checkout with a .venv, to compare with")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--docs", action="store_true", help="also write docs/performance.md")
    given = parser.parse_args()
    unknown = set(given.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}: {', '.join(GROUPS)}")
    generator = shutil.which(GENERATOR)
    if generator is None:
        parser.error(f"{GENERATOR} is missing: `make bench` builds it with gcc and libssl-dev")
    base = given.base.absolute() if given.base else None
    names = list(dict.fromkeys(given.groups or GROUPS))
    is_usual = (given.rounds, given.share) == (ROUNDS, 1.0)
    times = {**page.read_run(page.FOLDER).seconds, **page.read_run(given.out).seconds}
    progress = Progress(names, times)
    with ends_at_signals(), tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), Path(generator), given.rounds, given.share, base)
        bench.report, bench.step = progress.report, progress.step
        try:
            failed = run(bench, names, progress, given.out, is_usual=is_usual)
        except KeyboardInterrupt:
            end_children()
            done = ", ".join(progress.seconds) or "none"
            print(f"\nbench: interrupted; measured until then: {done}", file=sys.stderr)
            return INTERRUPTED
    if given.docs:
        page.write_docs(page.read(given.out), page.read_run(given.out), list(GROUPS))
    if failed:
        print(
            f"bench: failed: {', '.join(failed)}; their rows are those of an earlier run, if any",
            file=sys.stderr,
        )
    took = duration(sum(progress.seconds.values()))
    print(f"bench: {took}; results in {given.out}", file=sys.stderr)
    return 1 if failed else 0


def run(
    bench: Bench, names: Sequence[str], progress: Progress, out: Path, *, is_usual: bool = True
) -> list[str]:
    """Measure groups, and write the results after each; return the groups that failed.

    Rows of a group that fails, or is interrupted, are not kept: they would appear beside rows of an
    earlier run as if they were measured together.

    Args:
        is_usual: note the time of each group, for the announcement of the next run.
    """
    before, failed = page.read(out), []
    known = page.read_run(out)
    times, busy = known.seconds, {*known.busy}
    progress.announce()
    for name in names:
        if missing := GROUPS[name].missing():
            progress.fail(name, f"is left out: it needs {', '.join(missing)}")
            continue
        progress.begin(name)
        kept, is_busy = list(bench.rows), machine.is_busy(machine.load())
        try:
            GROUPS[name].measure(bench)
        except Exception:
            failed.append(name)
            bench.rows[:] = kept
            progress.fail(name, f"has failed:\n{traceback.format_exc()}")
            continue
        bench.rows[len(kept) :] = [replace(one, group=name) for one in bench.rows[len(kept) :]]
        progress.end(name)
        page.write(out, page.merged(before, bench.rows, list(GROUPS)))
        if is_usual:
            times = {**times, name: progress.seconds[name]}
        busy = busy | {name} if is_busy else busy - {name}
        page.write_run(out, Run(machine.described(), times, sorted(busy)))
    return failed


def end_children() -> None:
    """Kill the child processes that an interrupted measurement has not ended."""
    for file in Path("/proc/self/task").glob("*/children"):
        for pid in file.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@contextmanager
def ends_at_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run like Ctrl-C does: with its child processes."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {one: signal.signal(one, interrupt) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
