"""What pairing by a code costs, and whether the time tells anything about a scalar.

The second is a table, not a verdict: machines are noisy. For each class of scalars it gives the
median next to random ones', and Welch's t between the two: beyond ±5 is a leak that this many
measurements can see. `ecdsa`, which is not of constant time, is printed beside it to show what one
looks like.
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
from peer.pairing.jpake import EcJpake, stretched

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
SLOWEST = 0.1  # of the samples, left out: the machine did something else


def each(work: Callable[[], object], times: int, rounds: int = 5) -> float:
    """Seconds of this processor for one, the median of some rounds."""
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


def test_an_exchange(table: Table) -> None:
    dice = random.Random(1)
    generator = ecdsa.NIST256p.generator
    point = generator * dice.randrange(1, N)

    def oracle() -> None:
        """Nothing but the same number of multiplications, with as many of the generator."""
        for number in range(MULTIPLICATIONS):
            (generator if number < 12 else point) * dice.randrange(1, N)

    ours = each(exchange, 20)
    theirs = each(oracle, 2)
    table.add("J-PAKE, both sides together", ours)
    table.add("its multiplications with ecdsa", theirs, f"{theirs / ours:.1f} × ours")
    table.add("scrypt of a printed code", each(lambda: stretched(b"7K3MQ2ZX", b"salt"), 2))


def classes(dice: random.Random) -> dict[str, Callable[[], int]]:
    """Kinds of scalars that a leak of length, weight or zeros would tell apart."""
    return {
        "random": lambda: dice.randrange(1, N),
        "random again": lambda: dice.randrange(1, N),
        "one": lambda: 1,
        "32 bits": lambda: dice.randrange(1, 2**32),
        "128 bits": lambda: dice.randrange(2**127, 2**128),
        "one bit, the highest": lambda: 2**255,
        "all ones": lambda: 2**255 - 1,
        "order - 1": lambda: N - 1,
    }


def compared(work: Callable[[int], Callable[[], object]], times: int) -> dict[str, list[float]]:
    """Seconds of `work` for each class, in turns that are shuffled."""
    dice = random.Random(2)
    # Drawn beforehand, no list that grows, no collector: what is done in between shows.
    drawn = {name: [kind() for _ in range(times)] for name, kind in classes(dice).items()}
    samples = {name: [0.0] * times for name in drawn}
    gc.disable()
    for turn in range(times):
        for name in dice.sample(list(drawn), len(drawn)):
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
        told = f"{ratio:.3f} × random, t = {welch(taken, usual):+.1f}"
        table.add(f"{what}, {name}", median(taken), told)


def ours(point: Any) -> Callable[[int], Callable[[], object]]:
    def prepared(number: int) -> Callable[[], object]:
        scalar = p256.secret_scalar(number.to_bytes(32))
        return lambda: p256.times(point, scalar)

    return prepared


def test_the_time_of_a_multiplication_and_the_scalar(table: Table) -> None:
    generator = p256.base()
    point = p256.times(generator, p256.secret_scalar(b"\x7b" * 32))
    add(table, "k·G", compared(ours(generator), 1500))
    add(table, "k·P", compared(ours(point), 1500))

    theirs = ecdsa.NIST256p.generator * 12345
    add(table, "k·P with ecdsa", compared(lambda number: lambda: theirs * number, 40))


def test_the_time_of_what_is_done_with_scalars(table: Table) -> None:
    """x·s modulo the order, and v - x·h: numbers of the library as well, not Python's."""
    x = p256.secret_scalar(b"\x5a" * 32)

    def times(number: int) -> Callable[[], object]:
        s = p256.secret_scalar(number.to_bytes(32))
        return lambda: p256.product(x, s)

    def answer(number: int) -> Callable[[], object]:
        secret, h = p256.secret_scalar(number.to_bytes(32)), p256.public_scalar(b"\x33" * 32)
        return lambda: p256.reduce(x + secret * p256.negate(h))

    add(table, "x·s", compared(times, 3000))
    add(table, "v - x·h", compared(answer, 3000))
