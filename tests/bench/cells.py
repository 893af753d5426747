"""First answer and throughput behind each combination of routers, in network namespaces."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

from tests.bench.harness import OURS, Bench, Series
from tests.bench.worker import MB
from tests.kit.namespaces import Namespaces
from tests.kit.nat_lab import BROKER, Nat
from tests.kit.remote_home import remote_home
from tests.kit.system import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kit.remote_home import RemoteHome

COPIED: Final = 2 * MB
PORT: Final = 7000
NAMES: Final = {
    Nat.OPEN: "no NAT",
    Nat.CONE: "cone NAT",
    Nat.SYMMETRIC: "symmetric NAT",
    Nat.BLOCKED: "no UDP",
}


def networks(bench: Bench) -> None:
    """Measure each cell beside a session on the LAN and a TCP copy through the client's router."""
    rounds, count = min(bench.rounds, 2), bench.times(COPIED)
    nats = list(Nat) if bench.share >= 1 else [Nat.CONE]
    stage = Stage(bench.folder / "cells")
    stage.folder.mkdir()
    with ExitStack() as stack:
        namespaces = stack.enter_context(closing(Namespaces()))
        stack.callback(stage.end)
        home = stack.enter_context(remote_home(stage, namespaces))
        serve(home)
        home.lab.plug_in()
        lan = ask(home, "lan", rounds, count)
        for device_nat in nats:
            home.device.stop()
            home.boot(device_nat)
            for client_nat in nats:
                bench.step(f"device: {NAMES[device_nat]}, client: {NAMES[client_nat]}")
                home.lab.move_away(client_nat)
                found = ask(home, "direct,relay", rounds, count)
                add(bench, f"{device_nat}-{client_nat}", lan, found, device_nat, client_nat)


def add(
    bench: Bench,
    key: str,
    lan: Sequence[dict[str, float]],
    found: Sequence[dict[str, float]],
    device_nat: Nat,
    client_nat: Nat,
) -> None:
    where = f"device behind {NAMES[device_nat]}, client behind {NAMES[client_nat]}"
    first = {OURS: series(found, "first"), "LAN session": series(lan, "first")}
    bench.add_figures(f"cell-first-{key}", f"first answer, {where}", "ms", first)
    rate = {
        OURS: series(found, "rate"),
        "LAN session": series(lan, "rate"),
        "plain TCP copy": series(found, "bare"),
    }
    bench.add_figures(f"cell-rate-{key}", f"a tunnel, {where}: rate", "MB/s", rate, rate=True)


def series(found: Sequence[dict[str, float]], key: str) -> Series:
    return Series(tuple(one[key] for one in found))


def serve(home: RemoteHome) -> None:
    """Start a source of bytes on the device, as the service `source`, and one on the internet."""
    settings = home.device.home / "device.d" / "source.toml"
    settings.write_text(f'[tunnel.services]\nsource = "127.0.0.1:{PORT}"\n')
    home.device.stop()
    program = [sys.executable, "-m", "tests.bench.source_server"]
    for place, host in ((home.device.place, "127.0.0.1"), (core(home), BROKER)):
        home.stage.start([*place, *program, host, str(PORT)]).until("ready", on="out")
    home.device.boot()
    home.attached()


def core(home: RemoteHome) -> tuple[str, ...]:
    return ("ip", "netns", "exec", home.lab.core.name)


def ask(home: RemoteHome, via: str, rounds: int, count: int) -> list[dict[str, float]]:
    """Run the client where it is now."""
    program = [sys.executable, "-m", "tests.bench.cell_client", str(home.client.home), via]
    source = [BROKER, str(PORT)]
    words = [*home.client.place, *program, str(rounds), str(count), *source]
    found: list[dict[str, float]] = json.loads(home.stage.start(words).end(code=0).out)
    return found
