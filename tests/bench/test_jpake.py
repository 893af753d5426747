"""The cost of pairing by a code, and whether run times depend on secret scalars.

Run times are reported, not judged, since machines are noisy. For each class of scalars the table
has the median relative to random scalars, and Welch's t between both: a value beyond ±5 is a leak
that this number of measurements can detect. `ecdsa`, which is not constant-time, is included to
show how a leak looks.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from math import sqrt
from os import urandom
from statistics import fmean, median, variance
from typing import TYPE_CHECKING, Any

import ecdsa
import pytest

from peer.pairing import p256
from peer.pairing.jpake import EcJpake
from peer.pairing.typed import stretched

if TYPE_CHECKING:
    from tests.kit.table import Table

pytestmark = pytest.mark.bench
N = p256.ORDER
BINDING: dict[str, Any] = {
    "profile": "handfast",
    "context": b"\xe0" * 32,
    "client": b"\x0c" * 32,
    "device": b"\x0d" * 32,
}
MULTIPLICATIONS = 28  # both sides together: 12 to write six items, 12 to check them, 4 for K
SLOWEST = 0.1  # the share of the slowest samples, which is dropped as disturbed by other programs


def each(work: Callable[[], object], times: int, rounds: int = 5) -> float:
    """Processor seconds for one call: the median of several rounds."""
    taken = []
    for _ in range(rounds):
        begin = time.process_time()
        for _ in range(times):
            work()
        taken.append((time.process_time() - begin) / times)
    return median(taken)


def exchange() -> None:
    client, server = (
        EcJpake(role, b"48219930", **BINDING, random_bytes=urandom) for role in ("client", "server")
    )
    server.read_round_one(client.write_round_one())
    client.read_round_one(server.write_round_one())
    client.read_round_two(server.write_round_two())
    server.read_round_two(client.write_round_two())
    assert client.premaster() == server.premaster()


def test_the_cost_of_an_exchange(table: Table) -> None:
    rng = random.Random(1)
    generator = ecdsa.NIST256p.generator
    point = generator * rng.randrange(1, N)

    def oracle() -> None:
        """The same number of multiplications alone, as many of them with the generator."""
        for number in range(MULTIPLICATIONS):
            (generator if number < 12 else point) * rng.randrange(1, N)

    ours = each(exchange, 20)
    theirs = each(oracle, 2)
    table.add("J-PAKE, both sides together", ours)
    table.add("its multiplications with ecdsa", theirs, f"{theirs / ours:.1f} × ours")
    table.add("scrypt of a printed code", each(lambda: stretched(b"7K3MQ2ZX", b"salt"), 2))


def scalar_classes(rng: random.Random) -> dict[str, Callable[[], int]]:
    """Classes of scalars that reveal a leak of length, Hamming weight or zero bits."""
    return {
        "random": lambda: rng.randrange(1, N),
        "random again": lambda: rng.randrange(1, N),
        "one": lambda: 1,
        "32 bits": lambda: rng.randrange(1, 2**32),
        "128 bits": lambda: rng.randrange(2**127, 2**128),
        "one bit, the highest": lambda: 2**255,
        "all ones": lambda: 2**255 - 1,
        "order - 1": lambda: N - 1,
    }


def times_per_class(
    work: Callable[[int], Callable[[], object]], times: int
) -> dict[str, list[float]]:
    """Seconds of `work` for each class, measured in shuffled turns."""
    rng = random.Random(2)
    # Scalars are drawn and lists allocated beforehand, and the garbage collector is off, so that
    # only `work` is measured.
    drawn = {name: [kind() for _ in range(times)] for name, kind in scalar_classes(rng).items()}
    samples = {name: [0.0] * times for name in drawn}
    gc.disable()
    for turn in range(times):
        for name in rng.sample(list(drawn), len(drawn)):
            ready = work(drawn[name][turn])
            begin = time.perf_counter()
            ready()
            samples[name][turn] = time.perf_counter() - begin
    gc.enable()
    return {
        name: sorted(taken)[: int(len(taken) * (1 - SLOWEST))] for name, taken in samples.items()
    }


def welch(one: list[float], other: list[float]) -> float:
    spread = sqrt(variance(one) / len(one) + variance(other) / len(other))
    return (fmean(one) - fmean(other)) / spread


def add(table: Table, what: str, samples: dict[str, list[float]]) -> None:
    usual = samples["random"]
    for name, taken in samples.items():
        ratio = median(taken) / median(usual)
        compared_text = f"{ratio:.3f} × random, t = {welch(taken, usual):+.1f}"
        table.add(f"{what}, {name}", median(taken), compared_text)


def ours(point: Any) -> Callable[[int], Callable[[], object]]:
    def prepared(number: int) -> Callable[[], object]:
        scalar = p256.secret_scalar(number.to_bytes(32))
        return lambda: p256.times(point, scalar)

    return prepared


def test_the_time_of_a_multiplication_per_scalar_class(table: Table) -> None:
    generator = p256.base()
    point = p256.times(generator, p256.secret_scalar(b"\x7b" * 32))
    add(table, "k·G", times_per_class(ours(generator), 1500))
    add(table, "k·P", times_per_class(ours(point), 1500))

    theirs = ecdsa.NIST256p.generator * 12345
    add(table, "k·P with ecdsa", times_per_class(lambda number: lambda: theirs * number, 40))


def test_the_time_of_scalar_arithmetic_per_scalar_class(table: Table) -> None:
    """x·s modulo the order, and v - x·h: both use numbers of the library, not Python integers."""
    x = p256.secret_scalar(b"\x5a" * 32)

    def times(number: int) -> Callable[[], object]:
        s = p256.secret_scalar(number.to_bytes(32))
        return lambda: p256.product(x, s)

    def answer(number: int) -> Callable[[], object]:
        secret, h = p256.secret_scalar(number.to_bytes(32)), p256.public_scalar(b"\x33" * 32)
        return lambda: p256.reduce(x + secret * p256.negate(h))

    add(table, "x·s", times_per_class(times, 3000))
    add(table, "v - x·h", times_per_class(answer, 3000))
