"""The race for the right device among several addresses, with attempts that a test decides."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from client_app.connection_attempts import Candidate, ConnectionAttempts
from client_app.limits import STATED_ADDRESSES
from peer.errors import HandshakeFailed, PeerError, PinMismatch, TimedOut, Unreachable
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address

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


async def source(*addresses: Address | PeerError) -> AsyncIterator[Candidate]:
    for one in addresses:
        if isinstance(one, PeerError):
            raise one
        yield Candidate(one)


async def announced(**places: Sequence[Address]) -> AsyncIterator[Candidate]:
    """What several adverts say, one after the other."""
    for advert, addresses in places.items():
        for address in addresses:
            yield Candidate(address, advert, is_hint=True)


async def test_the_first_good_session_wins_and_the_others_are_given_up() -> None:
    network = Network(c="session")
    won: Any = await ConnectionAttempts(network.attempt, delay=0.001).run([source(A, B, C)])
    assert won == "session"
    assert network.asked == [A, B, C]
    assert set(network.given_up) == {A, B}


async def test_a_failure_does_not_wait_for_the_stagger() -> None:
    network = Network(a=Unreachable("no"), b="session")
    won: Any = await ConnectionAttempts(network.attempt, delay=3600).run([source(A, B)])
    assert won == "session"


async def test_a_wrong_device_does_not_hide_the_right_one() -> None:
    network = Network(a=MISMATCH, b="session")
    race = ConnectionAttempts(network.attempt, delay=3600)
    won: Any = await race.run([source(A), source(B)])
    assert won == "session"


async def test_an_address_is_tried_once_whoever_names_it() -> None:
    network = Network(a=Unreachable("no"))
    with pytest.raises(Unreachable):
        await ConnectionAttempts(network.attempt).run([source(A), source(A, A)])
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
async def test_what_says_most_is_told(failures: list[PeerError], kind: type[PeerError]) -> None:
    network = Network(**dict(zip("abc", failures, strict=True)))
    with pytest.raises(PeerError) as caught:
        await ConnectionAttempts(network.attempt).run([source(A, B, C)])
    assert type(caught.value) is kind
    if kind is Unreachable:
        assert caught.value.refused  # type: ignore[attr-defined]


async def test_nowhere_to_go_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="no address of it is stored"):
        await ConnectionAttempts(Network().attempt).run([])
    with pytest.raises(Unreachable, match="no such name"):
        await ConnectionAttempts(Network().attempt).run([source(Unreachable("no such name"))])


async def test_candidates_are_bounded() -> None:
    tried: list[Address] = []

    async def attempt(address: Address) -> Any:
        tried.append(address)
        raise Unreachable("no")

    many = [Address(f"198.51.100.{number}", 1) for number in range(200)]
    with pytest.raises(Unreachable):
        await ConnectionAttempts(attempt).run([source(*many)])
    assert len(tried) == STATED_ADDRESSES


async def test_a_fault_of_ours_comes_out() -> None:
    network = Network(a=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await ConnectionAttempts(network.attempt).run([source(A)])


async def test_a_cancelled_race_leaves_nothing() -> None:
    network = Network()
    race = asyncio.ensure_future(
        ConnectionAttempts(network.attempt, delay=0.001).run([source(A, B, C)])
    )
    while len(network.asked) < 3:  # noqa: ASYNC110 - no time passes
        await asyncio.sleep(0)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert set(network.given_up) == {A, B, C}
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ------------------------------------------------------------------------- what is only announced


def addresses(net: int, count: int) -> list[Address]:
    return [Address(f"10.0.{net}.{last}", 5684) for last in range(1, count + 1)]


class Dead:
    """A network in which nothing answers but one address; what is asked is noted."""

    def __init__(self, *, alive: Address | None = None, error: PeerError | None = None) -> None:
        self.alive = alive
        self.error = error or Unreachable("no")
        self.asked: list[Address] = []

    async def attempt(self, address: Address) -> Any:
        self.asked.append(address)
        if address != self.alive:
            raise self.error
        return "session"


@pytest.mark.parametrize("adverts", [2, 31, 63])
async def test_dead_adverts_do_not_fill_the_candidates(adverts: int) -> None:
    """Two adverts of sixteen places each were all that was tried: adverts take turns."""
    network = Dead(alive=Address("192.0.2.9", 5684))
    dead = {f"a{number}": addresses(number, 16) for number in range(adverts)}
    honest = {"honest": [Address("192.0.2.9", 5684)]}
    won: Any = await ConnectionAttempts(network.attempt).run(
        [announced(**dead), announced(**honest)]
    )
    assert won == "session"
    assert len(network.asked) <= adverts + 1, "each advert's first place comes before any second"


async def test_announced_places_are_bounded_and_take_nobody_elses_turn() -> None:
    network = Dead()
    race = ConnectionAttempts(network.attempt)
    hints = announced(**{f"a{number}": addresses(number, 100) for number in range(200)})
    mine = [Address(f"192.0.2.{last}", 5684) for last in range(1, 100)]
    with pytest.raises(Unreachable):
        await race.run([hints, source(*mine)])
    named = [one for one in network.asked if one.host.startswith("10.")]
    assert len(named) == DEFAULT_LIMITS.announced_addresses
    assert len(network.asked) - len(named) == STATED_ADDRESSES
    assert len(race._waiting) <= DEFAULT_LIMITS.announced_addresses + 1
    nets = [one.host.split(".")[2] for one in named]
    assert max(map(nets.count, nets)) <= DEFAULT_LIMITS.announced_addresses_each


async def test_one_advert_alone_is_not_tried_without_end() -> None:
    network = Dead()
    with pytest.raises(Unreachable):
        await ConnectionAttempts(network.attempt, limits=Limits(announced_addresses_each=3)).run(
            [announced(a=addresses(1, 16))]
        )
    assert len(network.asked) == 3


async def test_a_known_place_is_tried_before_an_announced_one() -> None:
    network = Dead(alive=A)
    won: Any = await ConnectionAttempts(network.attempt).run(
        [announced(a=addresses(1, 4)), source(A)]
    )
    assert won == "session"
    assert network.asked == [A]


async def test_who_names_the_devices_place_first_does_not_use_it_up() -> None:
    """A stranger's advert has the right place last, beyond what is tried of one advert."""
    good = Address("192.0.2.9", 5684)
    network = Dead(alive=good)
    stranger = announced(stranger=[*addresses(1, 15), good])
    won: Any = await ConnectionAttempts(network.attempt).run([stranger, announced(honest=[good])])
    assert won == "session"


@pytest.mark.parametrize("others", [[], [TimedOut("late")], [Unreachable("no", refused=True)]])
async def test_a_wrong_key_at_an_announced_place_is_no_alarm(others: list[PeerError]) -> None:
    network = Network(a=MISMATCH, b=MISMATCH, c=others[0] if others else MISMATCH)
    with pytest.raises(PeerError, match="another key answered at") as caught:
        await ConnectionAttempts(network.attempt).run(
            [announced(a=[A], b=[B]), source(C) if others else announced(c=[C])]
        )
    assert not isinstance(caught.value, PinMismatch)
    assert isinstance(caught.value, Unreachable)
    assert caught.value.refused == any(getattr(one, "refused", False) for one in others)


async def test_a_wrong_key_where_the_device_was_is_one() -> None:
    network = Network(a=MISMATCH, b=Unreachable("no"))
    with pytest.raises(PinMismatch):
        await ConnectionAttempts(network.attempt).run([source(A), announced(b=[B])])
