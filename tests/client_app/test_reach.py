"""The race for the right device among several addresses, with attempts that a test decides."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from client_app.reach import MOST_CANDIDATES, Race
from peer.errors import HandshakeFailed, PeerError, PinMismatch, TimedOut, Unreachable
from peer.net.udp import Address

A, B, C = (Address(f"192.0.2.{number}", 5684) for number in (1, 2, 3))
MISMATCH = PinMismatch("aa", "bb")


class Network:
    """What each address does: an error, a session (its own name), or silence until told."""

    def __init__(self, **outcomes: Any) -> None:
        self.outcomes: dict[Address, Any] = {A: None, B: None, C: None}
        self.outcomes |= {{"a": A, "b": B, "c": C}[name]: one for name, one in outcomes.items()}
        self.asked: list[Address] = []
        self.given_up: list[Address] = []
        self.events = {address: asyncio.Event() for address in self.outcomes}

    async def attempt(self, address: Address) -> Any:
        self.asked.append(address)
        outcome = self.outcomes[address]
        try:
            if outcome is None:
                await self.events[address].wait()
                outcome = str(address)
        except asyncio.CancelledError:
            self.given_up.append(address)
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


async def source(*addresses: Address | PeerError) -> AsyncIterator[Address]:
    for one in addresses:
        if isinstance(one, PeerError):
            raise one
        yield one


@pytest.mark.asyncio
async def test_the_first_good_session_wins_and_the_others_are_given_up() -> None:
    network = Network(c="session")
    won: Any = await Race(network.attempt, stagger=0.001).run([source(A, B, C)])
    assert won == "session"
    assert network.asked == [A, B, C]
    assert set(network.given_up) == {A, B}


@pytest.mark.asyncio
async def test_a_failure_does_not_wait_for_the_stagger() -> None:
    network = Network(a=Unreachable("no"), b="session")
    won: Any = await Race(network.attempt, stagger=3600).run([source(A, B)])
    assert won == "session"


@pytest.mark.asyncio
async def test_a_wrong_device_does_not_hide_the_right_one() -> None:
    network = Network(a=MISMATCH, b="session")
    race = Race(network.attempt, stagger=3600)
    won: Any = await race.run([source(A), source(B)])
    assert won == "session"


@pytest.mark.asyncio
async def test_an_address_is_tried_once_whoever_names_it() -> None:
    network = Network(a=Unreachable("no"))
    with pytest.raises(Unreachable):
        await Race(network.attempt).run([source(A), source(A, A)])
    assert network.asked == [A]


@pytest.mark.parametrize(
    ("failures", "kind"),
    [
        ([Unreachable("no"), MISMATCH, TimedOut("late")], PinMismatch),
        ([TimedOut("late"), HandshakeFailed("odd"), Unreachable("no")], HandshakeFailed),
        ([TimedOut("late"), TimedOut("later"), TimedOut("never")], TimedOut),
        ([TimedOut("late"), Unreachable("no", refused=True), TimedOut("x")], Unreachable),
    ],
    ids=["wrong key", "odd answer", "silence", "refusal"],
)
@pytest.mark.asyncio
async def test_what_says_most_is_told(failures: list[PeerError], kind: type[PeerError]) -> None:
    network = Network(**dict(zip("abc", failures, strict=True)))
    with pytest.raises(PeerError) as caught:
        await Race(network.attempt).run([source(A, B, C)])
    assert type(caught.value) is kind
    if kind is Unreachable:
        assert caught.value.refused  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_nowhere_to_go_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="nobody knows"):
        await Race(Network().attempt).run([])
    with pytest.raises(Unreachable, match="no such name"):
        await Race(Network().attempt).run([source(Unreachable("no such name"))])


@pytest.mark.asyncio
async def test_candidates_are_bounded() -> None:
    tried: list[Address] = []

    async def attempt(address: Address) -> Any:
        tried.append(address)
        raise Unreachable("no")

    many = [Address(f"198.51.100.{number}", 1) for number in range(200)]
    with pytest.raises(Unreachable):
        await Race(attempt).run([source(*many)])
    assert len(tried) == MOST_CANDIDATES


@pytest.mark.asyncio
async def test_a_fault_of_ours_comes_out() -> None:
    network = Network(a=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await Race(network.attempt).run([source(A)])


@pytest.mark.asyncio
async def test_a_cancelled_race_leaves_nothing() -> None:
    network = Network()
    race = asyncio.ensure_future(Race(network.attempt, stagger=0.001).run([source(A, B, C)]))
    while len(network.asked) < 3:  # noqa: ASYNC110 - no time passes
        await asyncio.sleep(0)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert set(network.given_up) == {A, B, C}
    assert asyncio.all_tasks() == {asyncio.current_task()}
