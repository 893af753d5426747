"""`python -m tests.bench`: measure, and write the table, the JSON and the pictures."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench import arm, instructions, page, requests, sessions, start, users
from tests.bench.harness import Bench

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Group:
    """Measurements that run together, and the programs that they need."""

    measure: Callable[[Bench], None]
    programs: tuple[str, ...] = ()
    is_default: bool = True


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
    "instructions": Group(instructions.instructions, (*COAP, "valgrind")),
    "arm": Group(arm.instructions, ("qemu-aarch64",), is_default=False),
}
GENERATOR: Final = "coap-load"


def main() -> None:
    """Run the groups that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
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
    before, begin = page.read(given.out), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), Path(generator), given.rounds, given.share, base)
        for name in given.groups or [one for one, group in GROUPS.items() if group.is_default]:
            run(bench, name)
            # After each group, so that an interrupted run leaves what it has measured.
            page.write(given.out, page.merged(before, bench.rows))
    if given.docs:
        page.write_docs(page.read(given.out))
    print(f"bench: {time.monotonic() - begin:.0f} s; results in {given.out}", file=sys.stderr)


def run(bench: Bench, name: str) -> None:
    """Run a group, unless this machine lacks a program that it needs."""
    group, begin = GROUPS[name], time.monotonic()
    if missing := [one for one in group.programs if shutil.which(one) is None]:
        print(f"bench: {name} is left out: needs {', '.join(missing)}", file=sys.stderr)
        return
    group.measure(bench)
    print(f"bench: {name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
