"""Requests: a small GET at two windows, what takes aiocoap's path, notifications, a large body."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tests.bench.harness import (
    BASE,
    OURS,
    Bench,
    Row,
    Series,
    cpu_seconds,
    picked,
    process_seconds,
)
from tests.bench.programs import (
    HERE,
    IPV6,
    Measured,
    Server,
    aiocoap,
    device,
    generator,
    libcoap,
    load,
    load_keys,
    pin,
    surroundings,
)
from tests.kit.process import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BIG: Final = 1_048_576
#: Requests of one measurement by window, and those of libcoap, which answers faster.
COUNTS: Final = {16: (6_000, 24_000), 1: (3_000, 9_000)}


def small_gets(bench: Bench) -> None:
    """A small GET with 16 requests in progress, and one after another."""
    with ExitStack() as stack:
        ours = stack.enter_context(device(bench, OURS, "--local", "compat"))
        strict = stack.enter_context(device(bench, f"{OURS}, strict", "--local", "strict"))
        peer = stack.enter_context(libcoap(bench))
        kinds = (True, False) if has_tinydtls() else (False,)
        servers = [
            ours,
            peer,
            *(stack.enter_context(aiocoap(bench, secured=one)) for one in kinds),
            Server(f"{OURS}, IPv6", ours.program, ours.port, ours.security, host=IPV6),
            strict,
        ]
        if bench.base:
            other = device(bench, BASE, "--local", "compat", base=True)
            servers.append(stack.enter_context(other))
        for window, (few, many) in COUNTS.items():
            counts = {one: bench.times(many if one is peer else few) for one in servers}
            found = bench.interleaved(
                {
                    one.name: partial(load, bench, one, window=window, count=count)
                    for one, count in counts.items()
                },
                bench.rounds,
            )
            name = f"small GET, {window} in progress" if window > 1 else "small GET, one by one"
            add_cpu_and_rate(bench, f"get-{window}", name, found)


def has_tinydtls() -> bool:
    """Whether aiocoap can use DTLS here: its library has to be compiled, which may have failed."""
    return importlib.util.find_spec("DTLSSocket") is not None


def add_cpu_and_rate(
    bench: Bench, key: str, name: str, found: Mapping[str, tuple[Measured, ...]]
) -> None:
    """Keep two rows of what the generator measured."""
    cpu = picked(found, lambda one: one.cpu)
    bench.add_figures(f"{key}-cpu", f"{name}: CPU of the server", "µs", cpu)
    rate = picked(found, lambda one: one.rate)
    bench.add_figures(f"{key}-rate", f"{name}: rate", "/s", rate, rate=True)


#: The path on the device and on libcoap's server, if it has such a one; the generator's settings.
OTHER: Final[Mapping[str, tuple[str, str, str, Mapping[str, object]]]] = {
    "observe": ("an observation begun", "/value", "/example_data", {"observe": 0, "slots": 1}),
    "block": ("a block asked for", "/hello", "/", {"block2": 6}),
    "write": ("a small PUT", "/value", "/example_data", {"method": "PUT", "body": "on"}),
    "post": ("a small POST", "/value", "", {"method": "POST", "body": "on"}),
    "delete": ("a DELETE", "/value", "", {"method": "DELETE"}),
}


def other_path(bench: Bench) -> None:
    """Requests beside the plain GET: Observe, a block that is asked for, writes."""
    with ExitStack() as stack:
        modules = ["bench_bodies"]
        devices = [stack.enter_context(device(bench, OURS, modules=modules))]
        if bench.base:
            other = device(bench, BASE, base=True, modules=modules)
            devices.append(stack.enter_context(other))
        peer = stack.enter_context(libcoap(bench))
        load(bench, peer, path="/example_data", method="PUT", body="off", count=1)
        for kind, (name, of_ours, of_peer, settings) in OTHER.items():
            candidates = {
                one.name: partial(ask_server, bench, one, of_ours, 2_000, settings)
                for one in devices
            }
            if of_peer:
                candidates[peer.name] = partial(ask_server, bench, peer, of_peer, 6_000, settings)
            cpu = bench.compare(candidates, bench.rounds)
            bench.add_figures(f"other-{kind}", f"{name}: CPU of the server", "µs", cpu)


def ask_server(
    bench: Bench, server: Server, path: str, usual: int, settings: Mapping[str, object]
) -> float:
    """Microseconds of CPU of the server for one request, four in progress."""
    given: dict[str, Any] = {"path": path, "window": 4, "count": bench.times(usual), **settings}
    return load(bench, server, **given).cpu


OBSERVERS: Final = 20


def notifications(bench: Bench) -> None:
    """One change of a resource, and its notification to 20 observers."""
    with ExitStack() as stack:
        servers = [(stack.enter_context(device(bench, OURS, modules=["bench_bodies"])), "/value")]
        servers.append((stack.enter_context(libcoap(bench)), "/example_data"))
        if bench.base:
            other = device(bench, BASE, base=True, modules=["bench_bodies"])
            servers.append((stack.enter_context(other), "/value"))
        changes = bench.times(100)
        cpu = bench.compare(
            {one.name: partial(notify, bench, one, path, changes) for one, path in servers},
            bench.rounds,
        )
        name = f"one notification, {OBSERVERS} observers: CPU of the server"
        bench.add_figures("notify", name, "µs", cpu)


def notify(bench: Bench, server: Server, path: str, changes: int) -> float:
    """Microseconds of CPU of the server for one notification, with its part of the change."""
    given = {"path": path, "body": "on", "other": "off", "sessions": OBSERVERS, "count": changes}
    if server.name == "libcoap":  # the resource must exist before it can be observed
        load(bench, server, path=path, method="PUT", body="off", count=1)
    with generator(bench, server, "observe", **given) as program:
        program.until("observers", on="out")
        before = cpu_seconds(server.pid)
        program.type("")
        program.end(code=0)
        spent = cpu_seconds(server.pid) - before
    result = json.loads(program.output("out").splitlines()[-1])
    return 1e6 * spent / int(result["count"])


def large_body(bench: Bench) -> None:
    """1 MiB in blocks by libcoap's client, from the device and from libcoap's server."""
    source = bench.folder / "body"
    source.write_bytes(bytes(number % 251 for number in range(BIG)))
    with ExitStack() as stack:
        ours = stack.enter_context(device(bench, OURS, modules=["bench_bodies"]))
        peer = stack.enter_context(libcoap(bench))
        fetch(bench, peer, "/example_data", "-m", "put", "-f", str(source))
        servers = [ours, peer]
        if bench.base:
            other = device(bench, BASE, base=True, modules=["bench_bodies"])
            servers.append(stack.enter_context(other))

        def measure(server: Server) -> tuple[float, float]:
            path = "/example_data" if server is peer else f"/bytes/{BIG}"
            before = cpu_seconds(server.pid)
            taken, body = fetch(bench, server, path)
            assert body == source.read_bytes(), (
                f"{server.name} sent another body of {len(body)} bytes"
            )
            return taken, cpu_seconds(server.pid) - before

        found = bench.interleaved(
            {one.name: partial(measure, one) for one in servers}, bench.rounds
        )
        rate = picked(found, lambda one: 1 / one[0])
        name = "1 MiB in blocks, libcoap's client: rate"
        bench.add_figures("block2-rate", name, "MiB/s", rate, rate=True)
        cpu = picked(found, lambda one: 1e6 * one[1] / (BIG / 1024))
        bench.add_figures("block2-cpu", "one block of 1 MiB: CPU of the server", "µs", cpu)


def payloads(bench: Bench) -> None:
    """A GET of bodies of several lengths: in one datagram, and in blocks by libcoap's client."""
    with device(bench, modules=["bench_bodies"]) as server:
        for length in (16, 256, 1024):
            measure = partial(ask_server, bench, server, f"/bytes/{length}", 3_000, {})
            cpu = bench.compare({OURS: measure}, bench.rounds)
            bench.add(Row("curve-payload", "a GET, by bytes of its body", "µs", cpu, x=length))

        def whole(path: str, times: int) -> float:
            before = cpu_seconds(server.pid)
            for _ in range(times):
                fetch(bench, server, path)
            return 1e6 * (cpu_seconds(server.pid) - before) / times

        for length in (4_096, 16_384, 65_536, BIG):
            times = 1 if length == BIG else bench.times(10)
            found = bench.compare(
                {
                    "session alone": partial(whole, "/bytes/16", times),
                    OURS: partial(whole, f"/bytes/{length}", times),
                },
                bench.rounds,
            )
            pairs = zip(found[OURS].values, found["session alone"].values, strict=True)
            cpu = {OURS: Series(tuple(max(one - other, 1.0) for one, other in pairs))}
            bench.add(Row("curve-payload", "a GET, by bytes of its body", "µs", cpu, x=length))


def fetch(bench: Bench, server: Server, path: str, *words: str) -> tuple[float, bytes]:
    """Run libcoap's client once; return its time in seconds and the body of the answer."""
    _, keys = load_keys(bench)
    out = bench.folder / "fetched"
    out.unlink(missing_ok=True)
    argv = ["coap-client-openssl", *keys[0].coap, "-B", "60", "-b", "1024", "-o", str(out), *words]
    taken = process_seconds([*argv, f"coaps://{server.host}:{server.port}{path}"])
    return taken, out.read_bytes() if out.exists() else b""


def own_client(bench: Bench) -> None:
    """Our client and our server, one request after another, and aiocoap's on plain UDP."""
    with ExitStack() as stack:
        ours = stack.enter_context(device(bench, OURS))
        plain = stack.enter_context(aiocoap(bench, secured=False))
        candidates: dict[str, Callable[[], tuple[float, float]]] = {
            OURS: partial(ask, bench, ours),
            plain.name: partial(ask, bench, plain),
        }
        if bench.base:
            other = stack.enter_context(device(bench, BASE, base=True))
            candidates[BASE] = partial(ask, bench, other, base=True)
        found = bench.interleaved(candidates, bench.rounds)
        rate = picked(found, lambda one: one[0])
        name = "our client and our server, one by one: rate"
        bench.add_figures("client-rate", name, "/s", rate, rate=True)
        cpu = picked(found, lambda one: one[1])
        bench.add_figures("client-cpu", "the same: CPU of the client", "µs", cpu)


def ask(bench: Bench, server: Server, *, base: bool = False) -> tuple[float, float]:
    """Requests per second of one client, and its CPU time for one in microseconds."""
    tree = bench.base if base else None
    python = str(tree / ".venv" / "bin" / "python") if tree else sys.executable
    argv = [python, str(HERE / "client_loop.py"), server.host, str(server.port)]
    argv += [str(bench.times(2_000)), *server.security]
    rate, cpu = json.loads(run_client(argv, surroundings(tree)))
    return rate, cpu


def run_client(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Run a client on the core of the generator; return what it printed."""
    program = Program(argv, dict(env))
    pin(program.process.pid, to_last=False)
    try:
        return program.end(code=0).out
    finally:
        program.close()
