"""Costs of remote reach on a device, and the time until the first answer by each route."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

from peer.errors import Malformed
from peer.remote.messages import CarrierKind, ConnectRequest
from peer.remote.pair_keys import device_topic
from tests.bench.harness import OURS, Bench, Series, cpu_seconds, picked
from tests.bench.remote_client import GARBAGE_BYTES
from tests.bench.remote_limits import REMOTE_LIMITS
from tests.bench.remote_pair import RemotePair, remote_pair
from tests.bench.worker import MB
from tests.kit.rendezvous import PREFIX, SimulatedDevice, client_of, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

LAN: Final = "LAN session"
ROUTES: Final = {"direct": "a direct path", "relay": "a relayed path"}
OPENED: Final = 5
MESSAGES: Final = 10_000
ATTEMPTS: Final = 300
#: Less than the messages that a device holds before it reads them.
BURST: Final = 40
PATHS: Final = 16


def device(bench: Bench) -> None:
    """Messages, sessions and memory of a device."""
    messages(bench)
    paths, sizes = bench.times(PATHS), []
    for left in reversed(range(min(bench.rounds, 3))):
        with remote_pair(bench) as pair:
            sizes.append(path_memory(pair, paths))
            if not left:
                first_answers(bench, pair)
                flood(bench, pair)
    first, others = (Series(tuple(values)) for values in zip(*sizes, strict=True))
    figures = {OURS: others, "the first path": first}
    name = f"memory of the device for each path, from the second to number {paths}"
    bench.add_figures("remote-memory", name, "MB", figures)


# -- messages alone -------------------------------------------------------------------------------


def messages(bench: Bench) -> None:
    """One message of the rendezvous, without the broker and its connection."""
    simulated = SimulatedDevice(limits=REMOTE_LIMITS)
    keys = simulated.keys(key_of(1))
    topic = device_topic(PREFIX, keys.topic)
    source = random.Random("bench").randbytes
    request = ConnectRequest(source(16), source(16))
    sealed = keys.seal_to_device(request, topic, source)
    garbage = source(len(sealed))
    assert len(garbage) == GARBAGE_BYTES

    def drop() -> None:
        assert not simulated.rendezvous.receive_untrusted(topic, garbage, 0.0)

    def open_sealed() -> None:
        keys.open_from_client_untrusted(sealed, topic)

    def refuse() -> None:
        try:
            keys.open_from_client_untrusted(garbage, topic)
        except Malformed:
            return
        raise AssertionError("garbage was opened")

    count = bench.times(MESSAGES)
    candidates = {
        OURS: partial(each, open_sealed, count),
        "garbage refused": partial(each, refuse, count),
        "garbage dropped by the rendezvous": partial(each, drop, count),
    }
    found = bench.compare(candidates, bench.rounds)
    bench.add_figures("remote-message", "a sealed message opened: CPU", "µs", found)
    attempts = bench.times(ATTEMPTS)
    found = bench.compare({OURS: partial(rendezvous_cpu, attempts)}, bench.rounds)
    name = "the messages of one rendezvous: CPU of the device"
    bench.add_figures("remote-rendezvous", name, "µs", found)


def each(call: Callable[[], None], count: int) -> float:
    """Microseconds of CPU of one call."""
    begin = time.process_time()
    for _ in range(count):
        call()
    return 1e6 * (time.process_time() - begin) / count


def rendezvous_cpu(attempts: int) -> float:
    """Microseconds of CPU of the device in one attempt: two messages received, three sent."""
    spent, now = 0.0, 0.0
    simulated = SimulatedDevice(limits=REMOTE_LIMITS)
    for number in range(attempts):
        client = client_of(simulated, seed=number)
        client.gather(*CarrierKind, now=now)
        queue = [client.start(now)]
        while queue:
            message = queue.pop(0)
            if message.topic == client.rendezvous.reply_topic:
                queue += client.receive(message, now)
                continue
            opened = len(simulated.opened)
            begin = time.process_time()
            queue += simulated.receive(message, now)
            for one in simulated.opened[opened:]:
                queue += simulated.gather(one.path_id, *CarrierKind, now=now)
            spent += time.process_time() - begin
        path_id = client.agreed[-1].path_id
        simulated.act(simulated.rendezvous.path_ended(path_id, now))
        now += 1.0
    return 1e6 * spent / attempts


# -- sessions -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """One measurement of sessions that were opened and closed."""

    first: float  # ms
    device: float  # ms of CPU
    broker: float  # ms of CPU


def first_answers(bench: Bench, pair: RemotePair) -> None:
    """From nothing to the first answer, by each route, beside a session on the LAN."""
    count = bench.times(OPENED)
    routes = {LAN: "lan", **{name: route for route, name in ROUTES.items()}}
    for route in routes.values():  # imports, and the first allocation
        pair.client.ask("first", route=route, count=1)
    found = bench.interleaved(
        {name: partial(open_sessions, pair, route, count) for name, route in routes.items()},
        bench.rounds,
    )
    first = picked(found, lambda one: one.first)
    cpu = picked(found, lambda one: one.device)
    broker = picked(found, lambda one: one.broker)
    for route, name in ROUTES.items():
        figures = {OURS: first[name], LAN: first[LAN]}
        bench.add_figures(f"remote-first-{route}", f"first answer over {name}", "ms", figures)
        figures = {OURS: cpu[name], LAN: cpu[LAN]}
        text = f"a session over {name} and one answer: CPU of the device"
        bench.add_figures(f"remote-open-cpu-{route}", text, "ms", figures)
    text = "a client connects to a device: CPU of Mosquitto"
    bench.add_figures("remote-broker-cpu", text, "ms", {OURS: broker[ROUTES["direct"]]})


def open_sessions(pair: RemotePair, route: str, count: int) -> Opened:
    """Open sessions one after another, each with one answer."""
    broker = pair.broker.process.pid
    device, before = pair.device.cpu(), cpu_seconds(broker)
    times = pair.client.ask("first", route=route, count=count)
    pair.device.ask("settle")
    spent = pair.device.cpu() - device
    at_broker = cpu_seconds(broker) - before
    return Opened(median(times), 1e3 * spent / count, 1e3 * at_broker / count)


def flood(bench: Bench, pair: RemotePair) -> None:
    """Garbage messages from the broker, with all that its connection costs the device."""
    measure = partial(garbage_cpu, pair, bench.times(1_000))
    found = bench.compare({OURS: measure}, bench.rounds)
    name = "a garbage message over the broker: CPU of the device"
    bench.add_figures("remote-flood-cpu", name, "µs", found)


def garbage_cpu(pair: RemotePair, count: int) -> float:
    """Microseconds of CPU of the device for one garbage message, all of which arrive."""
    dropped, before, sent = pair.state()["dropped"], pair.device.cpu(), 0
    while sent < count:
        sent += pair.client.ask("garbage", count=min(BURST, count - sent))
        pair.device.ask("drop", count=dropped + sent)
    return 1e6 * (pair.device.cpu() - before) / count


def path_memory(pair: RemotePair, paths: int) -> tuple[float, float]:
    """MB of resident memory of a fresh device for its first path, and for each further one."""
    pair.client.ask("first", route="lan", count=1)
    sizes = [pair.device.resident()]
    for more in (1, paths - 1):
        pair.client.ask("open", route="direct", count=more)
        sizes.append(pair.device.resident())
    pair.client.ask("close")
    pair.device.ask("settle")
    empty, one, many = sizes
    return (one - empty) / MB, (many - one) / (paths - 1) / MB
