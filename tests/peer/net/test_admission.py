"""Admission rules: handshake rates, eviction and known hosts, with a simulated clock."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from hypothesis import given
from hypothesis import strategies as st

from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.address import Address
from peer.net.association import Association, PeerAddress
from peer.net.eviction import FairEviction, FairSlots, network_of
from peer.net.half_open import HalfOpen
from peer.net.known_hosts import KnownHosts
from peer.net.rate import HandshakeRate

K = TypeVar("K")


def seeded_eviction(seed: int = 1) -> FairEviction:
    return FairEviction(random.Random(seed).randbytes)


def slots(holders: Mapping[K, str]) -> FairSlots[K]:
    """The slots of holders at hosts."""
    made: FairSlots[K] = FairSlots()
    for holder, host in holders.items():
        made.add(holder, host)
    return made


def rate(limits: Limits, seed: int = 1) -> HandshakeRate:
    return HandshakeRate(limits, random.Random(seed).randbytes)


# -- networks -------------------------------------------------------------------------------------


def test_a_network_is_an_ipv4_24_or_an_ipv6_64_prefix() -> None:
    assert network_of("192.0.2.1") == network_of("192.0.2.254") != network_of("192.0.3.1")
    assert network_of("2001:db8::1") == network_of("2001:db8:0:0:ffff::9")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("fe80::1") == network_of("fe80::aaaa:bbbb:cccc:dddd")


# -- the handshake rate ----------------------------------------------------------------------------


def test_below_half_the_burst_every_hello_is_admitted() -> None:
    def never(_count: int) -> bytes:
        raise AssertionError("no random bytes are needed")

    one = HandshakeRate(Limits(handshake_port_share=1), never)
    assert all(one.admits(Address("192.0.2.1", 4000), is_known=False, now=0.0) for _ in range(25))


def test_ports_addresses_networks_and_the_total_each_have_a_rate() -> None:
    """The number admitted in 10 s at 1000 per second matches the rate plus the burst."""
    limits = Limits()
    shares: dict[str, tuple[float, Callable[[int], Address]]] = {
        "port": (limits.handshake_port_share, lambda _: Address("192.0.2.1", 4000)),
        "address": (1.0, lambda n: Address("192.0.2.1", 1024 + n % 60_000)),
        "network": (
            limits.handshake_network_share,
            lambda n: Address(f"192.0.2.{n % 250}", 1024 + n),
        ),
        "/64": (
            limits.handshake_network_share,
            lambda n: Address(f"2001:db8::{n % 60_000:x}:1", 4000),
        ),
        "all": (
            limits.handshake_total_share,
            lambda n: Address(f"10.{n % 250}.{n // 250}.1", 4000),
        ),
    }
    for name, (share, source) in shares.items():
        one = rate(limits)
        through = sum(
            one.admits(source(number), is_known=False, now=number / 1000)
            for number in range(10_000)
        )
        least = share * limits.handshakes_per_second * 10
        most = least + share * limits.handshake_burst
        assert least * 0.8 <= through <= most * 1.05, (name, through)


def test_above_the_rate_all_clients_of_an_address_have_equal_chances() -> None:
    """Random selection gives an honest client its share.

    Each of its ClientHellos arrives right after one of the flood, so in order of arrival the flood
    would take every new token.
    """
    one = rate(Limits())
    ports = 0
    through: Counter[str] = Counter()
    for number in range(200_000):  # a thousand a second, from changing ports
        now = number / 1000
        ports = (ports + 1) % 30_000
        flood = Address("192.0.2.1", 1024 + ports)
        through["flood"] += one.admits(flood, is_known=False, now=now)
        if number % 100 == 0:  # ten a second
            owner = Address("192.0.2.1", 40_000 + number // 100)
            through["owner"] += one.admits(owner, is_known=False, now=now)
    fair = 2_000 / 202_000 * sum(through.values())
    assert fair / 2 < through["owner"] < fair * 2, through
    assert 3_500 < sum(through.values()) < 4_500


def test_slightly_above_the_rate_most_hellos_of_a_client_are_admitted() -> None:
    """At 25 ClientHellos a second against a rate of 20, most of each client's are admitted."""
    one = rate(Limits())
    for number in range(25 * 60):
        one.admits(Address("192.0.2.1", 1024 + number), is_known=False, now=number / 25)
    owners = [
        one.admits(Address("192.0.2.1", 40_000 + number), is_known=False, now=60 + number / 10)
        for number in range(10)
    ]
    assert sum(owners) >= 5


def test_a_known_address_is_exempt_from_the_network_and_total_rates() -> None:
    one = rate(Limits())
    for number in range(20_000):
        source = Address(f"192.0.2.{number % 250}", 1024 + number)
        one.admits(source, is_known=False, now=number / 1000)
    assert one.admits(Address("192.0.2.251", 4000), is_known=True, now=20.0)


def test_rate_tables_are_bounded() -> None:
    limits = Limits(rate_sources=16)
    one = rate(limits)
    for number in range(1000):
        one.admits(Address(f"10.0.{number % 250}.{number // 250}", 4000), is_known=False, now=0.0)
    assert len(one) <= 4 * 16


# -- eviction -------------------------------------------------------------------------------------


def test_the_network_with_two_more_entries_loses_one_whatever_its_age() -> None:
    holders = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.1.1"}
    found = {
        seeded_eviction(n).victim("10.0.2.1", slots(holders), evictable=lambda _: False)
        for n in range(50)
    }
    assert found == {"a", "b"}


def test_within_a_network_the_address_with_two_more_entries_loses_one() -> None:
    holders = {"a": "10.0.0.1", "b": "10.0.0.1", "c": "10.0.0.2"}
    found = {
        seeded_eviction(n).victim("10.0.0.3", slots(holders), evictable=lambda _: False)
        for n in range(50)
    }
    assert found == {"a", "b"}


def test_among_equal_networks_only_evictable_entries_are_evicted() -> None:
    holders = {number: f"10.0.{number}.1" for number in range(8)}
    assert seeded_eviction().victim("10.0.99.1", slots(holders), evictable=lambda _: False) is None
    found = {
        seeded_eviction(n).victim("10.0.99.1", slots(holders), evictable=lambda one: one in (3, 5))
        for n in range(50)
    }
    assert found == {3, 5}


def test_a_network_with_one_entry_evicts_none_of_another_with_one() -> None:
    """With several addresses or ports, a network can evict only sessions of its own network."""
    holders = {"mine": "10.0.0.1", "other": "10.0.1.1", "third": "10.0.2.1"}
    for newcomer in ("10.0.0.1", "10.0.0.77"):
        found = {
            seeded_eviction(n).victim(newcomer, slots(holders), evictable=lambda _: True)
            for n in range(50)
        }
        assert found == {"mine"}
    assert (
        seeded_eviction().victim("10.0.0.77", slots(holders), evictable=lambda one: one != "mine")
        is None
    )


hosts = st.tuples(st.integers(0, 3), st.integers(1, 3)).map(lambda at: f"10.0.{at[0]}.{at[1]}")


@given(st.lists(hosts, max_size=12), hosts, st.integers(0, 2**32), st.data())
def test_no_eviction_makes_the_distribution_less_even(
    held: list[str], newcomer: str, seed: int, data: st.DataObject
) -> None:
    """No eviction gives the newcomer more entries than the victim had before.

    This holds per network and, within the newcomer's network, per address.
    """
    holders = dict(enumerate(held))
    old = data.draw(st.sets(st.sampled_from(range(12))))
    victim = seeded_eviction(seed).victim(newcomer, slots(holders), evictable=old.__contains__)
    if victim is None:
        return
    loser = holders[victim]
    for level in (network_of, str):
        counts = Counter(map(level, held))
        if level(loser) != level(newcomer):
            assert counts[level(newcomer)] + 1 <= counts[level(loser)]
            assert victim in old or counts[level(newcomer)] + 2 <= counts[level(loser)]
            return
    assert victim in old


# -- half-open handshakes -------------------------------------------------------------------------


class Handshake:
    """The attributes of an association that the table uses."""

    def __init__(self, created: float) -> None:
        self.created = created
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


def begin(table: HalfOpen, host: str, now: float, *, known: bool = False, port: int = 4000) -> bool:
    peer = PeerAddress(0, Address(host, port))
    if not table.has_room(peer, is_known=known, now=now):
        return False
    table.add(peer, cast("Association", Handshake(now)), is_known=known, now=now)
    return True


def test_restarting_a_handshake_does_not_extend_its_slot() -> None:
    limits = Limits(half_open=4, half_open_reserve=0, half_open_kept_seconds=1)
    table = HalfOpen(limits, seeded_eviction())
    for tenth in range(20):
        for number in range(4):
            assert begin(table, f"10.0.{number}.1", tenth / 10)
            assert len(table) <= 4
        got_in = begin(table, "10.0.9.1", tenth / 10 + 0.05)
        assert got_in == (tenth / 10 + 0.05 >= 1)
        if got_in:
            return
    raise AssertionError("the slots were kept without limit")


def test_known_addresses_use_the_reserve_first_and_then_the_rest() -> None:
    limits = Limits(half_open=6, half_open_reserve=2, half_open_kept_seconds=1)
    table = HalfOpen(limits, seeded_eviction())
    assert [begin(table, f"10.0.{n}.1", 0.0) for n in range(5)] == [True] * 4 + [False]
    assert [begin(table, f"10.1.{n}.1", 0.0, known=True) for n in range(3)] == [True, True, False]
    assert len(table) == 6
    table.pop(PeerAddress(0, Address("10.0.0.1", 4000)))
    assert begin(table, "10.1.9.1", 0.0, known=True)
    assert len(table) == 6


# -- known addresses ------------------------------------------------------------------------------


def key(number: int) -> Fingerprint:
    return Fingerprint.parse(f"{number:064x}")


def test_an_address_is_known_only_while_its_key_is_paired() -> None:
    known = {key(1)}
    one = KnownHosts(known.__contains__, most=8, most_per_key=2)
    one.note("192.0.2.1", key(1))
    one.note("192.0.2.2", key(2))
    assert "192.0.2.1" in one
    assert "192.0.2.2" not in one
    known.clear()
    assert "192.0.2.1" not in one


def test_one_key_cannot_evict_the_addresses_of_other_keys() -> None:
    one = KnownHosts(lambda _: True, most=8, most_per_key=2)
    one.note("192.0.2.1", key(1))
    for number in range(100):
        one.note(f"198.51.100.{number}", key(2))
    assert "192.0.2.1" in one
    assert len(one) == 3
    for number in range(100):
        one.note(f"203.0.113.{number}", key(number))
    assert len(one) == 8
