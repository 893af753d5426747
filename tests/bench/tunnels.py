"""Data through a tunnel by each route, beside a plain TCP copy and aioquic alone.

Each of them goes through the same two processes, client and device, and from the device to the same
TCP service, so a ratio to TCP is the cost of the tunnel, and one to aioquic that of everything
above QUIC.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.bench.harness import OURS, Bench, picked
from tests.bench.remote_pair import remote_pair
from tests.bench.worker import MB

if TYPE_CHECKING:
    from tests.bench.remote_pair import RemotePair

ROUTES: Final = {
    "lan": "a LAN session",
    "direct": "a direct path",
    "relay": "a relayed path",
}
BARE: Final = {"tcp": "plain TCP copy", "quic": "aioquic alone"}
COPIED: Final = 4 * MB


@dataclass(frozen=True)
class Copied:
    """One measurement: the same number of bytes in each direction, one after the other."""

    up: float  # MB/s
    down: float
    client: float  # ms of CPU for one MB
    device: float


def throughput(bench: Bench) -> None:
    """The rate in both directions, and the CPU of both ends."""
    count = bench.times(COPIED)
    names = {**BARE, **ROUTES}
    with remote_pair(bench) as pair:
        for over in names:  # opens the session
            pair.client.ask("copy", over=over, send=1, receive=1)
        found = bench.interleaved(
            {name: partial(copy, pair, over, count) for over, name in names.items()},
            min(bench.rounds, 3),
        )
    for key, what, unit, figure in (
        ("up", "from the client: rate", "MB/s", lambda one: one.up),
        ("down", "from the device: rate", "MB/s", lambda one: one.down),
        ("client", "from the client and to it: CPU of the client", "ms/MB", lambda one: one.client),
        ("device", "from the client and to it: CPU of the device", "ms/MB", lambda one: one.device),
    ):
        figures = picked(found, figure)
        for route, name in ROUTES.items():
            beside = {OURS: figures[name], **{one: figures[one] for one in BARE.values()}}
            text = f"a tunnel over {name}, {what}"
            bench.add_figures(f"tunnel-{route}-{key}", text, unit, beside, rate=unit == "MB/s")


def copy(pair: RemotePair, over: str, count: int) -> Copied:
    """Copy to the service, and then from it."""
    before = pair.device.cpu()
    up, up_cpu = pair.client.ask("copy", over=over, send=count, receive=0)
    down, down_cpu = pair.client.ask("copy", over=over, send=0, receive=count)
    device = pair.device.cpu() - before
    size = count / MB
    return Copied(
        size / up, size / down, 1e3 * (up_cpu + down_cpu) / size / 2, 1e3 * device / size / 2
    )
