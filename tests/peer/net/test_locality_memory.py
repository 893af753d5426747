"""The remembered verdicts on locality: right for each path, bounded, and gone with their table."""

import gc
import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from peer.limits import LOCALITY_TABLE_SECONDS, LOCALITY_VERDICTS
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.interfaces import InterfaceTable
from peer.net.locality_verdict import LocalityVerdict, LocalMode
from peer.net.onlink import Locality
from tests.kit.interfaces import ETH, LO, TABLE, WLAN

SOURCES = [
    Address("192.0.2.9", 4000),
    Address("198.51.100.9", 4000),
    Address("8.8.8.8", 4000),
    Address("2001:db8::9", 4000),
    Address("fe80::9", 4000, ETH.index),
    Address("fe80::9", 4000, WLAN.index),
]
DESTINATIONS = ["192.0.2.1", "198.51.100.1", "2001:db8::1", "fe80::1", ""]
PATHS = [
    Datagram(b"x", source, destination, interface, hop_limit)
    for source, destination, interface, hop_limit in itertools.product(
        SOURCES, DESTINATIONS, (ETH.index, WLAN.index, LO.index, 99), (255, 64, None)
    )
]


def locality(mode: LocalMode, now: Callable[[], float], table: InterfaceTable = TABLE) -> Locality:
    return Locality(mode=mode, allow_loopback=False, table=lambda: table, now=now)


@pytest.mark.parametrize("mode", LocalMode)
@pytest.mark.parametrize("seed", range(3))
def test_a_remembered_verdict_is_the_one_of_a_device_that_remembers_none(
    mode: LocalMode, seed: int
) -> None:
    paths = 2 * PATHS
    random.Random(seed).shuffle(paths)
    shared = locality(mode, lambda: 100.0)
    local = 0
    for path in paths:
        fresh = locality(mode, lambda: 100.0)
        assert shared.judge(path) == fresh.judge(path), path
        assert shared.answer_interface(path) == fresh.answer_interface(path), path
        local += fresh.judge(path).is_local
    assert 0 < local < len(paths), "some of the paths are local"


@pytest.mark.parametrize("ask", ["judge", "answer_interface"])
def test_a_flood_of_sources_leaves_no_more_verdicts_than_the_bound(ask: str) -> None:
    """Any host can make up sources, and a ClientHello without a cookie has proved none."""
    device = locality(LocalMode.STRICT, lambda: 100.0)
    verdict = getattr(device, ask)
    gc.collect()
    before = live_verdicts()
    for number in range(4 * LOCALITY_VERDICTS):
        source = Address(f"10.0.{number // 250}.{number % 250}", 4000)
        verdict(replace(PATHS[0], source=source))
        if (number + 1) % LOCALITY_VERDICTS <= 1:  # at the bound and just above; counting is slow
            assert live_verdicts() - before <= LOCALITY_VERDICTS


def live_verdicts() -> int:
    return sum(isinstance(thing, LocalityVerdict) for thing in gc.get_objects())


def test_verdicts_end_with_their_table() -> None:
    time = [100.0]
    device = locality(LocalMode.STRICT, lambda: time[0])
    gc.collect()
    before = live_verdicts()
    for number in range(100):
        device.judge(replace(PATHS[0], source=Address(f"192.0.2.{number + 10}", 4000)))
    assert live_verdicts() - before == 100
    time[0] += LOCALITY_TABLE_SECONDS * 1.1
    device.judge(PATHS[0])
    assert live_verdicts() - before == 1
