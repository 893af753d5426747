"""Costs of the servers of remote reach: MQTT brokers and a relay, scaled to 1,000 connections.

A measurement holds a few hundred connections and scales the figures to 1,000. The memory is the
resident memory of the server process; the socket buffers of the kernel are not in it.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.harness import Bench, cpu_seconds, picked, resident_bytes
from tests.bench.relay_clients import DATAGRAM
from tests.bench.worker import MB, Worker, settings_of, worker
from tests.kit.brokers import mosquitto, nats
from tests.kit.relays import RunningRelay, coturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from peer.remote.settings import Server
    from tests.kit.brokers import RunningBroker

MOSQUITTO: Final = "Mosquitto"
NATS: Final = "NATS"
CONNECTIONS: Final = 250
WARM: Final = 10
PING_SECONDS: Final = 3.0
#: The usual limits of the example are for one home.
NO_QUOTA: Final = "user-quota=0\ntotal-quota=0\nmax-bps=0\n"
RELAYED_BYTES: Final = 6 * MB


def servers(bench: Bench) -> None:
    """A broker per 1,000 attached devices, and a relay per 1,000 allocations."""
    brokers(bench)
    relay(bench)


@dataclass(frozen=True)
class BrokerCost:
    """One measurement of a broker."""

    memory: float  # MB for 1,000 devices
    ping: float  # ms of CPU for 1,000 of them, in a minute with one ping each
    connect: float  # ms of CPU for one


def brokers(bench: Bench) -> None:
    """Mosquitto and NATS with idle devices."""
    with worker("broker_clients.py", {}) as clients:
        found = bench.interleaved(
            {
                MOSQUITTO: partial(broker_cost, bench, clients, mosquitto),
                NATS: partial(broker_cost, bench, clients, nats),
            },
            min(bench.rounds, 3),
        )
    name = "broker with 1,000 attached devices"
    memory = picked(found, lambda one: one.memory)
    bench.add_figures("broker-memory", f"{name}: memory", "MB", memory)
    ping = picked(found, lambda one: one.ping)
    bench.add_figures("broker-idle-cpu", f"{name}: CPU in a minute", "ms", ping)
    connect = picked(found, lambda one: one.connect)
    bench.add_figures("broker-connect-cpu", "a device attaches: CPU of the broker", "ms", connect)


def broker_cost(
    bench: Bench, clients: Worker, start: Callable[[Path], AbstractContextManager[RunningBroker]]
) -> BrokerCost:
    """Attach devices to a fresh broker, and let each send one ping."""
    count, seconds = bench.times(CONNECTIONS), PING_SECONDS * min(bench.share, 1.0)
    with fresh_folder(bench) as folder, start(folder) as broker:
        pid = broker.process.pid
        clients.ask("use", **settings_of(broker.server()))
        clients.ask("connect", count=WARM)
        memory, cpu = resident_bytes(pid), cpu_seconds(pid)
        clients.ask("connect", count=count)
        connected = cpu_seconds(pid)
        memory = resident_bytes(pid) - memory
        pings = clients.ask("ping", seconds=seconds)
        pinged = cpu_seconds(pid)
        clients.ask("close")
    return BrokerCost(
        1000 * memory / count / MB,
        1000 * 1e3 * (pinged - connected) / pings,
        1e3 * (connected - cpu) / count,
    )


@dataclass(frozen=True)
class RelayCost:
    """One measurement of a relay."""

    memory: float  # MB for 1,000 allocations
    allocation: float  # ms of CPU for one
    traffic: float  # ms of CPU for one MB


def relay(bench: Bench) -> None:
    """coturn with allocations over UDP and over TLS."""
    found = bench.interleaved(
        {
            "over UDP": partial(relay_cost, bench, RunningRelay.udp),
            "over TLS": partial(relay_cost, bench, RunningRelay.over_tls),
        },
        min(bench.rounds, 3),
    )
    memory = picked(found, lambda one: one.memory)
    bench.add_figures("relay-memory", "coturn with 1,000 allocations: memory", "MB", memory)
    allocation = picked(found, lambda one: one.allocation)
    bench.add_figures("relay-allocation-cpu", "an allocation: CPU of coturn", "ms", allocation)
    traffic = picked(found, lambda one: one.traffic)
    bench.add_figures("relay-traffic-cpu", "1 MB relayed: CPU of coturn", "ms", traffic)


def relay_cost(bench: Bench, server: Callable[[RunningRelay], Server]) -> RelayCost:
    """Make allocations at a fresh relay, and send data through one more."""
    count = bench.times(CONNECTIONS)
    with fresh_folder(bench) as folder, coturn(folder, more=NO_QUOTA) as running:
        pid = running.process.pid
        with worker("relay_clients.py", settings_of(server(running))) as clients:
            clients.ask("allocate", count=WARM)
            memory, cpu = resident_bytes(pid), cpu_seconds(pid)
            clients.ask("allocate", count=count)
            allocated = cpu_seconds(pid)
            memory = resident_bytes(pid) - memory
            clients.ask("open")
            before = cpu_seconds(pid)
            arrived = clients.ask("send", datagrams=bench.times(RELAYED_BYTES // len(DATAGRAM)))
            relayed = cpu_seconds(pid) - before
    return RelayCost(
        1000 * memory / count / MB,
        1e3 * (allocated - cpu) / count,
        1e3 * relayed / (arrived / MB),
    )


@contextmanager
def fresh_folder(bench: Bench) -> Iterator[Path]:
    """An empty folder for the files of one server."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        yield Path(folder)
