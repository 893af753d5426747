"""A newcomer to a full table costs the same, however large the table is.

Anyone can send newcomers, so an event that sorts or scans a table would be an attack.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.bounded_dict import BoundedDict
from peer.identity import Fingerprint
from peer.limits import EVICTION_CANDIDATES, Limits
from peer.net.address import Address
from peer.net.admission import SessionAdmission, SessionPriority
from peer.net.association import Association, PeerAddress, UpperLayer
from peer.net.eviction import FairEviction, FairSlots, network_of
from peer.net.half_open import HalfOpen
from peer.net.known_hosts import KnownHosts
from peer.net.rate import HandshakeRate
from peer.net.repeats import RecentRequests
from peer.net.session_table import SessionTable
from tests.kit.operations import operations

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (4 * EVICTION_CANDIDATES, 32 * EVICTION_CANDIDATES)
LOW, NORMAL, HIGH = SessionPriority
SPREADS: dict[str, Callable[[int], str]] = {
    "networks": lambda number: f"10.{number >> 8}.{number & 255}.1",
    "addresses": lambda number: f"2001:db8::{number + 1:x}",
    "ports": lambda _number: "192.0.2.1",
    "pairs": lambda number: f"10.{number >> 9}.{number >> 1 & 255}.{number & 1}",
}
NEWCOMERS = {
    "elsewhere": "198.51.100.1", "neighbour": "2001:db8::ffff:1", "same": "192.0.2.1",
    "in a pair": "10.0.0.1",
}  # fmt: skip


def random_bytes() -> Callable[[int], bytes]:
    return random.Random(1).randbytes


def peer_at(host: str, number: int) -> PeerAddress:
    return PeerAddress(0, Address(host, 1024 + number))


def cost_at_each_size(prepare: Callable[[int], Callable[[], object]]) -> tuple[int, int]:
    """The operations of an event with a full table of each size."""
    small, large = (operations(prepare(size)) for size in SIZES)
    assert small > 0
    return small, large


def assert_same(costs: tuple[int, int]) -> None:
    small, large = costs
    assert large <= 1.1 * small + 100, f"operations: {small} at {SIZES[0]}, {large} at {SIZES[1]}"


def test_the_count_of_operations_shows_a_scan() -> None:
    costs = cost_at_each_size(lambda size: lambda: max(range(size), key=lambda one: -one))
    with pytest.raises(AssertionError, match="operations: "):
        assert_same(costs)


# -- the choice itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_evictable", [True, False])
@pytest.mark.parametrize("newcomer", NEWCOMERS)
@pytest.mark.parametrize("spread", SPREADS)
def test_a_victim(spread: str, newcomer: str, is_evictable: bool) -> None:
    def prepare(size: int) -> Callable[[], object]:
        slots: FairSlots[int] = FairSlots()
        for number in range(size):
            slots.add(number, SPREADS[spread](number))
        eviction = FairEviction(random_bytes())
        host = NEWCOMERS[newcomer]

        def event() -> None:
            victim = eviction.victim(host, slots, evictable=lambda _: is_evictable)
            if victim is not None:
                slots.discard(victim)
                slots.add(size, host)

        return event

    assert_same(cost_at_each_size(prepare))


HOSTS = st.tuples(st.integers(0, 3), st.integers(1, 3)).map(lambda at: f"10.0.{at[0]}.{at[1]}")


@given(
    st.lists(st.tuples(st.booleans(), HOSTS), max_size=40),
    HOSTS,
    st.frozensets(st.integers(0, 39)),
    st.integers(0, 2**32),
)
def test_the_victim_is_one_that_the_rules_allow(
    events: list[tuple[bool, str]], newcomer: str, old: frozenset[int], seed: int
) -> None:
    """After any arrivals and departures, as if all holders were counted."""
    slots: FairSlots[int] = FairSlots()
    holders: dict[int, str] = {}
    for number, (is_leaving, host) in enumerate(events):
        if is_leaving and holders:
            leaving = min(holders, key=lambda one: (holders[one] != host, one))
            del holders[leaving]
            slots.discard(leaving)
        else:
            holders[number] = host
            slots.add(number, host)
    assert list(slots) == list(holders)
    eviction = FairEviction(random.Random(seed).randbytes)
    victim = eviction.victim(newcomer, slots, evictable=old.__contains__)
    allowed = allowed_victims(newcomer, holders, old)
    assert victim in allowed if allowed else victim is None


def allowed_victims(newcomer: str, holders: dict[int, str], old: frozenset[int]) -> set[int]:
    """The rules of `peer.net.eviction`, word by word."""
    networks = grouped(holders, network_of)
    own = networks.pop(network_of(newcomer), {})
    if most(networks) >= len(own) + 2:
        return {
            one
            for network in largest(networks)
            for address in largest(grouped(network, str))
            for one in address
        }
    addresses = grouped(own, str)
    same = addresses.pop(newcomer, {})
    if most(addresses) >= len(same) + 2:
        return {one for address in largest(addresses) for one in address}
    fair = [same, *(group for group in addresses.values() if len(group) > len(same))]
    found = {one for group in fair for one in group} & old if own else set()
    larger = [group for group in networks.values() if len(group) > len(own)]
    return found or {one for group in larger for one in group} & old


def grouped(holders: dict[int, str], by: Callable[[str], str]) -> dict[str, dict[int, str]]:
    groups: dict[str, dict[int, str]] = {}
    for holder, host in holders.items():
        groups.setdefault(by(host), {})[holder] = host
    return groups


def most(groups: dict[str, dict[int, str]]) -> int:
    return max(map(len, groups.values()), default=0)


def largest(groups: dict[str, dict[int, str]]) -> list[dict[int, str]]:
    return [group for group in groups.values() if len(group) == most(groups)]


# -- the tables -----------------------------------------------------------------------------------


class Handshake:
    """A stand-in for an association, for the table of handshakes."""

    created = 0.0

    def close(self) -> None:
        """End it."""


@pytest.mark.parametrize("now", [0.0, 60.0], ids=["young", "old"])
@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("spread", SPREADS)
def test_a_hello_to_a_full_table_of_handshakes(spread: str, is_known: bool, now: float) -> None:
    def prepare(size: int) -> Callable[[], object]:
        limits = Limits(half_open=2 * size, half_open_reserve=size)
        table = HalfOpen(limits, FairEviction(random_bytes()))
        one = cast("Association", Handshake())
        for number in range(2 * size):
            peer = peer_at(SPREADS[spread](number // 2), number)
            table.add(peer, one, is_known=number % 2 == 0, now=0.0)
        assert len(table) == 2 * size
        newcomer = peer_at("198.51.100.1", 0)

        def event() -> None:
            if table.has_room(newcomer, is_known=is_known, now=now):
                table.add(newcomer, one, is_known=is_known, now=now)
            table.pop(newcomer)

        return event

    assert_same(cost_at_each_size(prepare))


class Uses:
    """The upper layer: which sessions are in use."""

    def __init__(self, *, all_of_them: bool) -> None:
        self._all = all_of_them

    def is_in_use(self, _association: Association) -> bool:
        return self._all

    def probe(self, _association: Association) -> None:
        """Send a ping."""


def session(key: Fingerprint, peer: PeerAddress, last_seen: float) -> Association:
    """A stand-in for an association, for the table of sessions."""
    stand_in = SimpleNamespace(
        session=SimpleNamespace(peer_fingerprint=key),
        is_refused=False,
        last_seen=last_seen,
        established_at=0.0,
        probed_at=None,
        remote=peer.address,
        peer=peer,
    )
    return cast("Association", stand_in)


def key_of(number: int) -> Fingerprint:
    return Fingerprint(number.to_bytes(32))


@pytest.mark.parametrize("in_use", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("held", [(LOW,), (NORMAL,), (HIGH,), (NORMAL, HIGH), (LOW, NORMAL, HIGH)])
@pytest.mark.parametrize("priority", SessionPriority)
def test_a_session_for_a_full_table_of_sessions(
    priority: SessionPriority, held: tuple[SessionPriority, ...], in_use: bool
) -> None:
    def prepare(size: int) -> Callable[[], object]:
        priorities = {key_of(number + 1): held[number % len(held)] for number in range(size)}
        newcomer = session(key_of(0), peer_at("198.51.100.1", 0), 1000.0)
        priorities[key_of(0)] = priority
        admission = SessionAdmission(
            Limits(sessions=size, unpaired_sessions=size, session_reserve=0),
            FairEviction(random_bytes()),
            cast("UpperLayer", Uses(all_of_them=in_use)),
            priorities.__getitem__,
        )
        table = SessionTable(admission.is_unknown)
        for number in range(size):
            peer = peer_at(f"10.0.{number >> 8}.{number & 255}", number)
            one, its = session(key_of(number + 1), peer, -number), priorities[key_of(number + 1)]
            table.add(peer, one, is_unknown=its is LOW)

        def event() -> None:
            replaced = admission.replaced_by(newcomer, priority, table, now=1000.0)
            for peer in replaced or ():
                table.remove(peer)
            if replaced is not None:
                table.add(newcomer.peer, newcomer, is_unknown=priority is LOW)
                table.remove(newcomer.peer)

        return event

    assert_same(cost_at_each_size(prepare))


class FullTable:
    """A full table of sessions, each of a key of its own with a priority."""

    def __init__(self, priorities: list[SessionPriority], limits: Limits) -> None:
        self.priorities = {key_of(number + 1): one for number, one in enumerate(priorities)}
        self.uses = Uses(all_of_them=False)
        self.admission = SessionAdmission(
            limits,
            FairEviction(random_bytes()),
            cast("UpperLayer", self.uses),
            self.priorities.__getitem__,
        )
        self.table = SessionTable(self.admission.is_unknown)
        self.peers = [peer_at("10.0.0.1", number) for number in range(len(priorities))]
        for peer, (key, one) in zip(self.peers, self.priorities.items(), strict=True):
            self.table.add(peer, session(key, peer, 0.0), is_unknown=one is LOW)

    def replaced_by(self, priority: SessionPriority) -> list[int] | None:
        """The numbers of the sessions that a newcomer replaces."""
        newcomer = session(key_of(0), peer_at("10.0.0.1", 60_000), 1000.0)
        self.priorities[key_of(0)] = priority
        found = self.admission.replaced_by(newcomer, priority, self.table, now=1000.0)
        return None if found is None else sorted(map(self.peers.index, found))


def test_the_sessions_of_a_large_table_take_turns() -> None:
    size = 3 * EVICTION_CANDIDATES
    full = FullTable([NORMAL] * size, Limits(sessions=size, session_reserve=0))
    for peer in full.peers:
        full.table.all[peer].last_seen = 1000.0
    unused = size - 1
    full.table.all[full.peers[unused]].last_seen = 0.0
    assert [full.replaced_by(NORMAL) for _ in range(3)] == [None, None, [unused]]


def test_a_key_that_has_become_unknown_loses_its_session_first() -> None:
    full = FullTable([NORMAL] * 4, Limits(sessions=4, session_reserve=0))
    full.priorities[key_of(3)] = LOW
    assert full.replaced_by(NORMAL) == [2]
    full.table.all[full.peers[2]].established_at = 1000.0
    assert full.replaced_by(LOW) is None, "to another unknown key, it is too young to lose its slot"


def test_a_newcomer_replaces_two_different_sessions_if_it_has_to() -> None:
    """One for the limit of unknown keys, and one for the reserve of the owner."""
    limits = Limits(sessions=4, session_reserve=1, unpaired_sessions=2)
    assert FullTable([HIGH, LOW, LOW, HIGH], limits).replaced_by(LOW) == [1, 2]


def test_a_newcomer_that_is_refused_changes_nothing() -> None:
    limits = Limits(sessions=4, session_reserve=1, unpaired_sessions=2)
    full = FullTable([HIGH, LOW, LOW, HIGH], limits)
    full.table.all[full.peers[2]].established_at = 1000.0  # too young to lose its slot
    assert full.replaced_by(LOW) is None
    assert set(full.table.of_unknown_keys()) == {full.peers[1], full.peers[2]}


def test_a_key_with_its_most_known_hosts() -> None:
    def prepare(size: int) -> Callable[[], object]:
        hosts = KnownHosts(lambda _: True, most=2 * size, most_per_key=size)
        for number in range(2 * size):
            hosts.note(f"10.0.{number >> 8}.{number & 255}", key_of(number // size))
        return lambda: hosts.note("198.51.100.1", key_of(1))

    assert_same(cost_at_each_size(prepare))


def test_a_source_for_a_full_table_of_rates() -> None:
    def prepare(size: int) -> Callable[[], object]:
        rate = HandshakeRate(Limits(rate_sources=size), random_bytes())
        for number in range(2 * size):
            rate.admits(Address(SPREADS["networks"](number), 4000), is_known=False, now=0.0)
        return lambda: rate.admits(Address("198.51.100.1", 4000), is_known=False, now=1.0)

    assert_same(cost_at_each_size(prepare))


def test_a_request_for_a_full_table_of_repeats() -> None:
    def prepare(size: int) -> Callable[[], object]:
        recent = RecentRequests(Limits(dedup_window=size, dedup_bytes=2**30))
        for number in range(2 * size):
            recent.note(b"\x40\x01" + number.to_bytes(2), 0.0)
        request = b"\x40\x01\xff\xff"

        def event() -> None:
            assert recent.find(request, 1.0) is None
            recent.note(request, 1.0)

        return event

    assert_same(cost_at_each_size(prepare))


def test_an_entry_of_a_full_bounded_dict() -> None:
    def prepare(size: int) -> Callable[[], object]:
        entries: BoundedDict[int, int] = BoundedDict(size)
        for number in range(2 * size):
            entries[number] = number
        return lambda: entries.__setitem__(-1, 0)

    assert_same(cost_at_each_size(prepare))
