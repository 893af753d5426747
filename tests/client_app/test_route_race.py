"""The race between addresses and a path: no test waits for a clock."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from client_app.connection_attempts import Candidate
from client_app.route_race import OnAddresses, RouteRace
from peer.errors import Denied, HandshakeFailed, PeerError, PinMismatch, TimedOut, Unreachable
from peer.net.address import Address
from peer.net.connection import CoapsConnection

LAN, FORWARDED, SENT = (Address(f"192.0.2.{number}", 5684) for number in (1, 2, 3))
NEVER = 3600.0
MISMATCH = PinMismatch("aa", "bb")


class Session(CoapsConnection):
    """A session that only tells whether it was closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.was_closed = False

    async def close(self) -> None:
        self.was_closed = True


class Network:
    """Addresses and a path. Each has an outcome: an error, a session, or none until `settle`."""

    def __init__(self, *sent: str, **outcomes: PeerError | str) -> None:
        self.sent = sent
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.sessions: dict[str, Session] = {}
        self.reached = asyncio.Event()
        self._names = {LAN: "lan", FORWARDED: "forwarded", SENT: "sent"}
        self._outcomes: dict[str, asyncio.Future[Any]] = {}
        for name, outcome in outcomes.items():
            self.settle(name, outcome)

    def settle(self, name: str, outcome: PeerError | str) -> None:
        future = self._outcome(name)
        if isinstance(outcome, PeerError):
            future.set_exception(outcome)
        else:
            self.sessions[name] = Session(outcome)
            future.set_result(self.sessions[name])

    def _outcome(self, name: str) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        return self._outcomes.setdefault(name, loop.create_future())

    async def until_started(self, name: str) -> None:
        while name not in self.started:
            self.reached.clear()
            await self.reached.wait()

    async def _attempt(self, name: str) -> CoapsConnection:
        self.started.append(name)
        self.reached.set()
        try:
            result: CoapsConnection = await asyncio.shield(self._outcome(name))
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return result

    async def connect(self, address: Address) -> CoapsConnection:
        return await self._attempt(self._names[address])

    async def open_path(self, on_addresses: OnAddresses) -> CoapsConnection:
        if self.sent:
            on_addresses(self.sent)
        return await self._attempt("path")

    def race(self, *, delay: float = NEVER, has_path: bool = True) -> RouteRace:
        return RouteRace(self.connect, self.open_path if has_path else None, delay=delay)


async def source(*addresses: Address) -> AsyncIterator[Candidate]:
    for one in addresses:
        yield Candidate(one)


async def won(race: RouteRace, *addresses: Address) -> str:
    session = await race.run([source(*addresses)] if addresses else [])
    assert isinstance(session, Session)
    return session.name


async def test_an_address_that_answers_within_its_head_start_starts_no_path() -> None:
    network = Network(lan="at home")
    race = network.race()
    assert await won(race, LAN) == "at home"
    assert network.started == ["lan"]
    assert not race.was_path


async def test_the_path_starts_beside_silent_addresses_and_wins() -> None:
    network = Network(path="by a path")
    race = network.race(delay=0)
    assert await won(race, LAN) == "by a path"
    assert race.was_path
    assert network.cancelled == ["lan"] or network.started == ["path"]


async def test_a_slow_address_still_wins_and_the_path_is_cancelled() -> None:
    network = Network()
    race = network.race(delay=0)
    running = asyncio.create_task(won(race, LAN))
    await network.until_started("path")
    network.settle("lan", "at home")
    assert await running == "at home"
    assert network.cancelled == ["path"]
    assert not race.was_path


async def test_the_path_starts_at_once_when_all_addresses_have_failed() -> None:
    network = Network(lan=Unreachable("no"), forwarded=TimedOut("late"), path="by a path")
    assert await won(network.race(delay=NEVER), LAN, FORWARDED) == "by a path"


async def test_without_addresses_only_the_path_is_tried() -> None:
    network = Network(path="by a path")
    assert await won(network.race()) == "by a path"
    assert network.started == ["path"]


async def test_an_address_that_the_device_sends_joins_the_race() -> None:
    network = Network(str(SENT), sent="forwarded port")
    race = network.race(delay=0)
    assert await won(race, LAN) == "forwarded port"
    assert "path" in network.cancelled
    assert not race.was_path


async def test_an_address_that_was_tried_is_not_tried_again_because_the_device_sends_it() -> None:
    network = Network(str(LAN), path="by a path", lan=Unreachable("no"))
    assert await won(network.race(), LAN) == "by a path"
    assert network.started.count("lan") == 1


async def test_an_address_that_was_not_tried_is_not_in_the_error() -> None:
    network = Network("name.example:5684", path=Unreachable("no packets get through"))
    with pytest.raises(Unreachable, match=r"^no packets get through$"):
        await network.race().run()


async def test_no_name_that_the_device_sends_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> list[Address]:
        assert host == SENT.host
        return [Address(host, port)]

    monkeypatch.setattr("client_app.route_race.resolve", resolve)
    network = Network("evil.example:53", "not an address", str(SENT), sent="forwarded port")
    assert await won(network.race()) == "forwarded port"


async def test_a_second_session_is_closed() -> None:
    network = Network()
    race = network.race(delay=0)
    running = asyncio.create_task(won(race, LAN))
    await network.until_started("path")
    network.settle("lan", "at home")
    network.settle("path", "by a path")
    assert await running in {"at home", "by a path"}
    loser = network.sessions["lan" if race.was_path else "path"]
    winner = network.sessions["path" if race.was_path else "lan"]
    assert loser.was_closed or "path" in network.cancelled
    assert not winner.was_closed


async def test_cancelling_leaves_no_attempt_and_no_task() -> None:
    network = Network(str(SENT))
    running = asyncio.create_task(won(network.race(delay=0), LAN))
    for name in ("lan", "path", "sent"):
        await network.until_started(name)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert {*network.cancelled} == {"lan", "path", "sent"}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_internal_error_of_the_path_is_propagated() -> None:
    async def open_path(_on_addresses: OnAddresses) -> CoapsConnection:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await RouteRace(Network().connect, open_path, delay=0).run([source(LAN)])


# -------------------------------------------------------------------------------------- the errors

NOT_ATTACHED = Unreachable("the device does not answer at the broker", advice="Is it on?")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (NOT_ATTACHED, Unreachable),
        (TimedOut("no answer", advice="Wait."), TimedOut),
        (Denied("the policy does not permit it", advice="Ask."), Denied),
        (PeerError("odd", advice="See the log."), Unreachable),
        (HandshakeFailed("odd", advice="See the log."), Unreachable),
    ],
    ids=lambda one: getattr(one, "__name__", type(one).__name__),
)
async def test_the_path_decides_the_kind_of_error_and_the_addresses_stay_in_the_text(
    path: PeerError, kind: type[PeerError]
) -> None:
    network = Network(lan=TimedOut("192.0.2.1 is silent"), path=path)
    with pytest.raises(PeerError) as caught:
        await won(network.race(), LAN)
    assert type(caught.value) is kind
    assert str(caught.value) == f"192.0.2.1 is silent; {path}"
    assert caught.value.advice == path.advice


async def test_a_wait_that_ends_early_tells_why_there_is_no_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[tuple[str, str]] = []

    def explain(detail: str, *, advice: str = "") -> None:
        reported.append((detail, advice))

    monkeypatch.setattr("client_app.connection_attempts.explain_timeout", explain)
    monkeypatch.setattr("client_app.route_race.explain_timeout", explain)
    network = Network(path=NOT_ATTACHED)
    running = asyncio.create_task(won(network.race(delay=0), LAN))
    await network.until_started("lan")
    await network.until_started("path")
    for _ in range(20):
        await asyncio.sleep(0)  # the race takes the error of the path
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert reported == [
        (f"{LAN} has not answered", ""),
        (str(NOT_ATTACHED), NOT_ATTACHED.advice),
    ]


@pytest.mark.parametrize("where", ["lan", "path"])
async def test_another_key_is_an_alarm_wherever_it_answers(where: str) -> None:
    outcomes: dict[str, PeerError | str] = {"lan": Unreachable("no"), "path": NOT_ATTACHED}
    network = Network(**{**outcomes, where: MISMATCH})
    with pytest.raises(PinMismatch):
        await won(network.race(), LAN)


async def test_another_key_at_an_address_that_the_device_sent_is_no_alarm() -> None:
    """A broker cannot forge such an address, but the address can be of another network by now."""
    network = Network(str(SENT), sent=MISMATCH, path=NOT_ATTACHED)
    with pytest.raises(Unreachable) as caught:
        await won(network.race())
    assert "another key answered" in str(caught.value)


async def test_without_a_path_the_error_is_that_of_the_addresses() -> None:
    network = Network(lan=Unreachable("no", refused=True, advice="Start it."))
    with pytest.raises(Unreachable) as caught:
        await won(network.race(has_path=False), LAN)
    assert caught.value.refused
    assert caught.value.advice == "Start it."


async def test_without_any_route_the_error_says_so() -> None:
    with pytest.raises(Unreachable):
        await won(Network().race(has_path=False))


def addresses(texts: Sequence[Address]) -> list[str]:
    return [str(one) for one in texts]


async def test_the_addresses_that_a_device_can_send_are_bounded() -> None:
    many = [Address(f"198.51.100.{number}", 5684) for number in range(1, 200)]
    tried: list[Address] = []

    async def connect(address: Address) -> CoapsConnection:
        tried.append(address)
        raise Unreachable("no")

    async def open_path(on_addresses: OnAddresses) -> CoapsConnection:
        for _ in range(10):
            on_addresses(addresses(many))
        raise NOT_ATTACHED

    with pytest.raises(Unreachable):
        await RouteRace(connect, open_path).run([])
    assert len(tried) <= 8
