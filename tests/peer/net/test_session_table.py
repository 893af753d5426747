"""The table of sessions: its numbers are those of a count, and a handshake looks at few keys."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.address import Address
from peer.net.admission import SessionAdmission, SessionPriority
from peer.net.association import Association, PeerAddress
from peer.net.eviction import FairEviction
from peer.net.known_hosts import KnownHosts
from peer.net.session_table import SessionTable

if TYPE_CHECKING:
    from peer.net.association import UpperLayer

KEYS = [Fingerprint(bytes([number]) * 32) for number in range(6)]


def session(key: Fingerprint | None, *, is_refused: bool = False) -> Association:
    """Stand in for a session of a key."""
    stand_in = SimpleNamespace(
        session=SimpleNamespace(peer_fingerprint=key), is_refused=is_refused, last_seen=0.0
    )
    return cast("Association", stand_in)


@pytest.mark.parametrize("seed", range(20))
def test_the_numbers_are_those_of_a_count(seed: int) -> None:
    chance = random.Random(seed)
    unknown: set[Fingerprint | None] = {None}
    table = SessionTable(lambda key: key in unknown)
    stored: dict[PeerAddress, Association] = {}
    for step in range(300):
        peer = PeerAddress(0, Address("192.0.2.1", 1000 + chance.randrange(40)))
        if peer in stored:
            table.remove(peer)
            del stored[peer]
        else:
            key = chance.choice([*KEYS, None])
            stored[peer] = session(key, is_refused=chance.random() < 0.1)
            table.add(peer, stored[peer], is_unknown=key in unknown)
        if step % 10 == 0:
            unknown ^= {chance.choice(KEYS)}  # paired, or no longer
            table.reassess()
        elif chance.random() < 0.2:
            unknown -= {chance.choice(KEYS)}  # paired: counts at once
        admitted = {peer: one for peer, one in stored.items() if not one.is_refused}
        assert table.all == stored
        assert len(table) == len(admitted)
        assert table.admitted() == admitted
        assert table.refused == {peer: one for peer, one in stored.items() if one.is_refused}
        for key in (*KEYS, None):
            same = {p: one for p, one in admitted.items() if one.session.peer_fingerprint == key}
            assert table.of_key(key) == same
        of_unknown = {p for p, one in admitted.items() if one.session.peer_fingerprint in unknown}
        assert set(table.of_unknown_keys()) == of_unknown
        assert set(table.next_of_known_keys()) == admitted.keys() - of_unknown


def test_a_key_that_becomes_unknown_counts_as_such_after_the_next_look_at_all() -> None:
    unknown: set[Fingerprint | None] = set()
    table = SessionTable(lambda key: key in unknown)
    peer = PeerAddress(0, Address("192.0.2.1", 1000))
    table.add(peer, session(KEYS[0]), is_unknown=False)
    unknown.add(KEYS[0])
    assert len(table.of_unknown_keys()) == 0
    table.reassess()
    assert set(table.of_unknown_keys()) == {peer}


@pytest.mark.parametrize("priority", SessionPriority)
def test_a_handshake_looks_at_no_more_keys_if_there_are_more_sessions(
    priority: SessionPriority,
) -> None:
    """So that it costs the same with one session and with a thousand, if there is room."""
    newcomer = session(Fingerprint(bytes(32)))
    asked: list[Fingerprint] = []

    def priority_of(key: Fingerprint) -> SessionPriority:
        asked.append(key)
        return priority if key == newcomer.session.peer_fingerprint else SessionPriority.NORMAL

    numbers = []
    for count in (1, 1000):
        admission = SessionAdmission(
            Limits(sessions=2000),
            FairEviction(random.Random(1).randbytes),
            cast("UpperLayer", None),  # no session is evicted
            priority_of,
        )
        table = SessionTable(admission.is_unknown)
        for number in range(count):
            peer = PeerAddress(0, Address("192.0.2.1", number + 1))
            table.add(peer, session(Fingerprint((number + 1).to_bytes(32))), is_unknown=False)
        asked.clear()
        assert admission.replaced_by(newcomer, priority, table, now=0.0) == []
        numbers.append(len(asked))
    assert numbers == [0, 0]


@pytest.mark.parametrize("seed", range(10))
def test_known_hosts_are_bounded_per_key_and_in_all(seed: int) -> None:
    chance = random.Random(seed)
    hosts = KnownHosts(lambda _: True, most=12, most_per_key=3)
    noted: list[tuple[str, Fingerprint]] = []
    for _ in range(400):
        host, key = f"192.0.2.{chance.randrange(30)}", chance.choice(KEYS)
        hosts.note(host, key)
        noted = [(one, owner) for one, owner in noted if one != host]
        same = [one for one in noted if one[1] == key]
        if len(same) >= 3:
            noted.remove(same[0])
        noted = [*noted, (host, key)][-12:]
        assert len(hosts) == len(noted)
        assert all(one in hosts for one, _ in noted)
        assert sum(f"192.0.2.{number}" in hosts for number in range(30)) == len(noted)
