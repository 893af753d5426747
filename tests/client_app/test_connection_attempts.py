"""Staggered connection attempts at several addresses; the tests choose the outcome of each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from client_app.connection_attempts import Candidate, ConnectionAttempts
from client_app.limits import STATED_ADDRESSES
from peer.errors import (
    HandshakeFailed,
    NotLocal,
    PeerError,
    PinMismatch,
    TimedOut,
    Unreachable,
)
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from tests.kit.internals import queued_origins

A, B, C = (Address(f"192.0.2.{number}", 5684) for number in (1, 2, 3))
MISMATCH = PinMismatch("aa", "bb")


class Network:
    """The outcome of each address: an error, a session, or silence until its event is set."""

    def __init__(self, **outcomes: Any) -> None:
        self.outcomes: dict[Address, Any] = {A: None, B: None, C: None}
        self.outcomes |= {{"a": A, "b": B, "c": C}[name]: one for name, one in outcomes.items()}
        self.tried_addresses: list[Address] = []
        self.cancelled: list[Address] = []
        self.events = {address: asyncio.Event() for address in self.outcomes}

    async def attempt(self, address: Address) -> Any:
        self.tried_addresses.append(address)
        outcome = self.outcomes[address]
        try:
            if outcome is None:
                await self.events[address].wait()
                outcome = str(address)
        except asyncio.CancelledError:
            self.cancelled.append(address)
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


async def source(*addresses: Address | PeerError) -> AsyncIterator[Candidate]:
    for one in addresses:
        if isinstance(one, PeerError):
            raise one
        yield Candidate(one)


async def announced(**by_advert: Sequence[Address]) -> AsyncIterator[Candidate]:
    """The addresses of several adverts, one advert after the other."""
    for advert, addresses in by_advert.items():
        for address in addresses:
            yield Candidate(address, advert, is_hint=True)


async def test_the_first_session_wins_and_the_other_attempts_are_cancelled() -> None:
    network = Network(c="session")
    won: Any = await ConnectionAttempts(network.attempt, delay=0.001).run([source(A, B, C)])
    assert won == "session"
    assert network.tried_addresses == [A, B, C]
    assert set(network.cancelled) == {A, B}


async def test_a_failed_attempt_starts_the_next_without_delay() -> None:
    network = Network(a=Unreachable("no"), b="session")
    won: Any = await ConnectionAttempts(network.attempt, delay=3600).run([source(A, B)])
    assert won == "session"


async def test_a_device_with_another_key_does_not_stop_the_attempts() -> None:
    network = Network(a=MISMATCH, b="session")
    race = ConnectionAttempts(network.attempt, delay=3600)
    won: Any = await race.run([source(A), source(B)])
    assert won == "session"


async def test_an_address_from_several_sources_is_tried_once() -> None:
    network = Network(a=Unreachable("no"))
    with pytest.raises(Unreachable):
        await ConnectionAttempts(network.attempt).run([source(A), source(A, A)])
    assert network.tried_addresses == [A]


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
async def test_the_most_informative_failure_is_raised(
    failures: list[PeerError], kind: type[PeerError]
) -> None:
    network = Network(**dict(zip("abc", failures, strict=True)))
    with pytest.raises(PeerError) as caught:
        await ConnectionAttempts(network.attempt).run([source(A, B, C)])
    assert type(caught.value) is kind
    if kind is Unreachable:
        assert caught.value.refused  # type: ignore[attr-defined]


async def test_no_address_raises_unreachable() -> None:
    with pytest.raises(Unreachable, match="there is no other address to try"):
        await ConnectionAttempts(Network().attempt).run([])
    with pytest.raises(Unreachable, match="no such name"):
        await ConnectionAttempts(Network().attempt).run([source(Unreachable("no such name"))])


async def test_the_number_of_attempts_is_bounded() -> None:
    tried: list[Address] = []

    async def attempt(address: Address) -> Any:
        tried.append(address)
        raise Unreachable("no")

    many = [Address(f"198.51.100.{number}", 1) for number in range(200)]
    with pytest.raises(Unreachable):
        await ConnectionAttempts(attempt).run([source(*many)])
    assert len(tried) == STATED_ADDRESSES


async def test_an_internal_error_is_propagated() -> None:
    network = Network(a=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await ConnectionAttempts(network.attempt).run([source(A)])


async def test_cancelling_leaves_no_attempt_and_no_task() -> None:
    network = Network()
    race = asyncio.ensure_future(
        ConnectionAttempts(network.attempt, delay=0.001).run([source(A, B, C)])
    )
    while len(network.tried_addresses) < 3:  # noqa: ASYNC110 - yields without sleeping
        await asyncio.sleep(0)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert set(network.cancelled) == {A, B, C}
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ---------------------------------------------------------------------------- announced addresses


def addresses(net: int, count: int) -> list[Address]:
    return [Address(f"10.0.{net}.{last}", 5684) for last in range(1, count + 1)]


class SilentNetwork:
    """A network in which at most one address answers; it records the addresses tried."""

    def __init__(self, *, alive: Address | None = None, error: PeerError | None = None) -> None:
        self.alive = alive
        self.error = error or Unreachable("no")
        self.tried_addresses: list[Address] = []

    async def attempt(self, address: Address) -> Any:
        self.tried_addresses.append(address)
        if address != self.alive:
            raise self.error
        return "session"


@pytest.mark.parametrize("adverts", [2, 31, 63])
async def test_adverts_with_dead_addresses_do_not_displace_the_device(adverts: int) -> None:
    """The addresses of different adverts alternate; two adverts once used up all attempts."""
    network = SilentNetwork(alive=Address("192.0.2.9", 5684))
    dead = {f"a{number}": addresses(number, 16) for number in range(adverts)}
    honest = {"honest": [Address("192.0.2.9", 5684)]}
    won: Any = await ConnectionAttempts(network.attempt).run(
        [announced(**dead), announced(**honest)]
    )
    assert won == "session"
    assert len(network.tried_addresses) <= adverts + 1, (
        "the first address of each advert is tried before any second one"
    )


async def test_announced_addresses_are_bounded_and_displace_no_stored_address() -> None:
    network = SilentNetwork()
    race = ConnectionAttempts(network.attempt)
    hints = announced(**{f"a{number}": addresses(number, 100) for number in range(200)})
    mine = [Address(f"192.0.2.{last}", 5684) for last in range(1, 100)]
    with pytest.raises(Unreachable):
        await race.run([hints, source(*mine)])
    named = [one for one in network.tried_addresses if one.host.startswith("10.")]
    assert len(named) == DEFAULT_LIMITS.announced_addresses
    assert len(network.tried_addresses) - len(named) == STATED_ADDRESSES
    assert queued_origins(race) <= DEFAULT_LIMITS.announced_addresses + 1
    nets = [one.host.split(".")[2] for one in named]
    assert max(map(nets.count, nets)) <= DEFAULT_LIMITS.announced_addresses_each


async def test_the_addresses_tried_of_one_advert_are_bounded() -> None:
    network = SilentNetwork()
    with pytest.raises(Unreachable):
        await ConnectionAttempts(network.attempt, limits=Limits(announced_addresses_each=3)).run(
            [announced(a=addresses(1, 16))]
        )
    assert len(network.tried_addresses) == 3


async def test_a_stored_address_is_tried_before_an_announced_one() -> None:
    network = SilentNetwork(alive=A)
    won: Any = await ConnectionAttempts(network.attempt).run(
        [announced(a=addresses(1, 4)), source(A)]
    )
    assert won == "session"
    assert network.tried_addresses == [A]


async def test_a_forged_advert_does_not_use_up_the_address_of_the_device() -> None:
    """The forged advert lists the right address last, beyond the limit for one advert."""
    good = Address("192.0.2.9", 5684)
    network = SilentNetwork(alive=good)
    forged = announced(forged=[*addresses(1, 15), good])
    won: Any = await ConnectionAttempts(network.attempt).run([forged, announced(honest=[good])])
    assert won == "session"


@pytest.mark.parametrize("others", [[], [TimedOut("late")], [Unreachable("no", refused=True)]])
async def test_another_key_at_an_announced_address_raises_unreachable(
    others: list[PeerError],
) -> None:
    network = Network(a=MISMATCH, b=MISMATCH, c=others[0] if others else MISMATCH)
    with pytest.raises(PeerError, match="another key answered at") as caught:
        await ConnectionAttempts(network.attempt).run(
            [announced(a=[A], b=[B]), source(C) if others else announced(c=[C])]
        )
    assert not isinstance(caught.value, PinMismatch)
    assert isinstance(caught.value, Unreachable)
    assert caught.value.refused == any(getattr(one, "refused", False) for one in others)


async def test_another_key_at_a_stored_address_raises_pin_mismatch() -> None:
    network = Network(a=MISMATCH, b=Unreachable("no"))
    with pytest.raises(PinMismatch):
        await ConnectionAttempts(network.attempt).run([source(A), announced(b=[B])])


# ------------------------------------------------------------------ which address is the right one

HERE = Address("172.17.0.1", 5684)
NOT_LOCAL = NotLocal("pairing is for direct neighbours only")


async def own(*addresses: Address, expected: bool = False) -> AsyncIterator[Candidate]:
    """Addresses of this machine, as a file or an invite states them."""
    for address in addresses:
        yield Candidate(address, is_own=True, is_last=not expected)


async def test_an_own_address_is_no_place_to_look_while_another_one_leads_to_the_device() -> None:
    network = Network(b="session")
    network.outcomes[HERE] = MISMATCH
    attempts = ConnectionAttempts(network.attempt, delay=0.001)
    won: Any = await attempts.run([own(HERE), source(A, B)])
    assert won == "session"
    assert HERE not in network.tried_addresses


async def test_an_own_address_is_tried_when_nothing_else_is_left() -> None:
    network = Network(a=Unreachable("no"))
    network.outcomes[HERE] = "session"
    won: Any = await ConnectionAttempts(network.attempt).run([own(HERE), source(A)])
    assert won == "session"
    assert network.tried_addresses == [A, HERE]


@pytest.mark.parametrize("expected", [False, True], ids=["from an invite", "where it answered"])
async def test_another_device_on_this_machine_is_no_alarm(expected: bool) -> None:
    network = Network(a=TimedOut("late"))
    network.outcomes[HERE] = MISMATCH
    with pytest.raises(PeerError, match="address of this machine") as caught:
        await ConnectionAttempts(network.attempt).run([own(HERE, expected=expected), source(A)])
    assert not isinstance(caught.value, PinMismatch)


@pytest.mark.parametrize("others", [[MISMATCH], [HandshakeFailed("odd"), TimedOut("late")]])
async def test_an_answer_of_the_right_device_is_reported_before_other_failures(
    others: list[PeerError],
) -> None:
    network = Network(**dict(zip("abc", [*others, NOT_LOCAL], strict=False)))
    failing = [A, B, C][: len(others) + 1]
    with pytest.raises(NotLocal):
        await ConnectionAttempts(network.attempt).run([source(*failing)])


async def test_a_refusal_at_one_address_does_not_hide_another_address() -> None:
    network = Network(a=NOT_LOCAL, b=HandshakeFailed("odd"), c="session")
    won: Any = await ConnectionAttempts(network.attempt, delay=3600).run([source(A, B, C)])
    assert won == "session"


async def test_announcing_a_stated_address_does_not_suppress_the_alarm() -> None:
    network = Network(a=MISMATCH)
    attempts = ConnectionAttempts(network.attempt)

    async def late() -> AsyncIterator[Candidate]:
        while not attempts.failures:  # noqa: ASYNC110 - no time passes
            await asyncio.sleep(0)
        yield Candidate(A)

    with pytest.raises(PinMismatch):
        await attempts.run([announced(forged=[A]), late()])
