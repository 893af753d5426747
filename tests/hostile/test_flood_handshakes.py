"""Floods of ClientHellos and of handshakes, and distant honest clients that connect meanwhile.

The flood continues while a datagram of the honest client is under way: several hellos or handshakes
per datagram, so nothing here depends on how fast the machine is. The limits are those that leave
one defence alone to do it: rates that never refill, slots that are never evicted, or always.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from device_app.access.invitations import InviteRequest
from peer.errors import HandshakeFailed
from peer.identity import Identity
from peer.limits import Limits
from peer.net.address import Address
from peer.pairing.invite import read_untrusted
from tests.kit.device import HASTY
from tests.kit.floods import Crowd, FarPath, Step, StoppedClient, addresses, stop_at
from tests.kit.internals import endpoint_of, half_open

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit

HOST = "127.0.0.1"
HOME = "127.9.9.9"  # where the honest client is
FOREVER = 3600.0
PER_DATAGRAM = 40  # hellos of the flood while one datagram of the honest client is under way
ROOMY = replace(HASTY, handshake_burst=100_000)  # no rate that a flood here would meet


class Scene:
    """What a test opens, and closes in reverse."""

    def __init__(self) -> None:
        self.paths: list[FarPath] = []
        self.crowds: list[Crowd] = []
        self.silent: list[StoppedClient] = []

    def far(self, caller: Caller, device: Device, *, source: str = HOME) -> FarPath:
        """Put a caller 50 ms away in each direction, on both ports; returns the regular path."""
        made: dict[bool, FarPath] = {}

        def port(*, pairing: bool) -> int:
            if pairing not in made:
                to = Address(HOST, device.port(pairing=pairing))
                made[pairing] = FarPath(to, source=source)
                self.paths.append(made[pairing])
            return made[pairing].address.port

        caller.port = port
        port(pairing=device.app.pairing.port.server is not None)
        (path,) = made.values()
        return path

    async def crowd(
        self, device: Device, sources: Iterable[str], *, pairing: bool = False
    ) -> Crowd:
        """A crowd whose sources have their cookies."""
        crowd = Crowd(Address(HOST, device.port(pairing=pairing)))
        self.crowds.append(crowd)
        await crowd.arm(list(sources))
        return crowd

    async def shake(self, device: Device, sources: Iterable[str], *, pairing: bool = False) -> None:
        """A whole handshake from each source, and then silence."""
        to = Address(HOST, device.port(pairing=pairing))
        clients = await asyncio.gather(*(stop_at(Step.DONE, to, source=one) for one in sources))
        self.silent += clients

    async def close(self) -> None:
        for path in self.paths:
            await path.close()
        for crowd in self.crowds:
            crowd.close()
        for one in self.silent:
            one.close()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        await made.close()


def some_of(
    sources: list[str], flood: Callable[[list[str]], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """A flood from the next of the sources each time, round and round."""
    endless = itertools.cycle(sources)
    return lambda: flood([next(endless) for _ in range(PER_DATAGRAM)])


def half_open_at(device: Device, *, pairing: bool = False) -> int:
    server = device.app.pairing.port.server if pairing else device.app.server
    assert server is not None
    return half_open(server)


async def greets(caller: Caller) -> None:
    """A new session, and an answer in it."""
    await caller.connect(fresh=True)
    assert (await caller.ask("GET", "/hello")).code == "2.05"


# -- half-open handshakes -------------------------------------------------------------------------


async def test_a_flood_from_everywhere_leaves_places_for_known_addresses(
    kit: Kit, scene: Scene
) -> None:
    """Each hello of the flood is from a network of its own, and none of its places ever frees."""
    limits = replace(ROOMY, half_open=12, half_open_reserve=4, half_open_kept_seconds=FOREVER)
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    await greets(owner)
    sources = addresses(400)
    crowd = await scene.crowd(device, sources)
    path.meanwhile = some_of(sources, crowd.flood)
    for _ in range(3):
        await greets(owner)
        assert half_open_at(device) <= limits.half_open
    counters = device.counters()
    assert counters["half-open-refused"] > 200, "this was no flood"
    assert half_open_at(device) == limits.half_open - limits.half_open_reserve


async def test_a_flood_from_one_network_takes_places_from_itself_only(
    kit: Kit, scene: Scene
) -> None:
    """250 addresses of one /24 push each other out; an owner from elsewhere has its place."""
    limits = replace(ROOMY, half_open=8, half_open_reserve=0, half_open_kept_seconds=0)
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    sources = addresses(250, per_network=250)
    crowd = await scene.crowd(device, sources)
    path.meanwhile = some_of(sources, crowd.flood)
    for _ in range(3):
        await greets(owner)
        assert half_open_at(device) <= limits.half_open
    assert device.counters()["half-open-evicted"] > 200, "this was no flood"


async def test_a_flood_does_not_cut_off_a_handshake_that_has_begun(kit: Kit, scene: Scene) -> None:
    """A new owner, from an unknown address, has got a slot. It keeps it for a while."""
    limits = replace(ROOMY, half_open=8, half_open_reserve=0, half_open_kept_seconds=FOREVER)
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    sources = addresses(400)
    crowd = await scene.crowd(device, sources)
    flood = some_of(sources, crowd.flood)

    async def once_the_owner_has_begun() -> None:
        if half_open_at(device):
            await flood()

    path.meanwhile = once_the_owner_has_begun
    await greets(owner)
    assert device.counters()["half-open-refused"] > 40, "this was no flood"
    assert device.counters().get("half-open-evicted", 0) == 0


# -- the rate -------------------------------------------------------------------------------------


async def test_hellos_from_behind_the_owners_nat_do_not_use_up_its_rate(
    kit: Kit, scene: Scene
) -> None:
    """The flood has the owner's address, and one port of it. Nothing is ever refilled."""
    limits = replace(HASTY, handshake_burst=20, handshakes_per_second=1e-6)
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    crowd = await scene.crowd(device, [HOME])
    path.meanwhile = some_of([HOME], crowd.flood)
    await greets(owner)
    await greets(owner)
    assert device.counters()["handshakes-rate-limited"] > 300, "this was no flood"


async def test_hellos_from_a_network_do_not_use_up_the_rate_of_a_known_address_in_it(
    kit: Kit, scene: Scene
) -> None:
    limits = replace(HASTY, handshake_burst=20, handshakes_per_second=1e-6)
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    await greets(owner)
    neighbours = [f"{HOME.rpartition('.')[0]}.{number}" for number in range(10, 210)]
    crowd = await scene.crowd(device, neighbours)
    path.meanwhile = some_of(neighbours, crowd.flood)
    await greets(owner)
    await greets(owner)
    assert device.counters()["handshakes-rate-limited"] > 200, "this was no flood"


async def test_only_a_hello_that_may_begin_costs_an_object_or_a_signature(
    kit: Kit, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hellos without a cookie, with a wrong one, and above the rate: all meet the same object."""
    device = await kit.device(limits=replace(HASTY, handshake_burst=5, handshakes_per_second=1e-6))
    sources = addresses(100)
    crowd = await scene.crowd(device, [HOME])
    await crowd.flood([HOME] * 10)  # from here on its port has no more
    begun: list[str] = []
    make, begin = SSL.Connection.__init__, SSL.Connection.do_handshake

    def made(self: SSL.Connection, *args: object) -> None:
        begun.append("object")
        make(self, *args)  # type: ignore[arg-type]

    def shaken(self: SSL.Connection) -> None:
        begun.append("handshake")
        begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(SSL.Connection, "__init__", made)
        patch.setattr(SSL.Connection, "do_handshake", shaken)
        for source in sources:
            crowd.hello(source)  # its answer is not waited for: the next has no cookie either
            crowd.hello(source)
        await crowd.handled()
        limited = device.counters()["handshakes-rate-limited"]
        await crowd.flood([HOME] * 200)
        assert device.counters()["handshakes-rate-limited"] == limited + 200
        assert begun in ([], ["object"])
    assert not device.counters().get("handshakes-failed")


# -- places for unknown keys ----------------------------------------------------------------------


def invite(device: Device) -> bytes:
    request = InviteRequest(name="anna", role="user")
    text = device.app.invitations.create(None, request)["token"]
    return read_untrusted(text)[1]


async def redeem(caller: Caller, token: bytes) -> Answer:
    return await caller.ask("POST", "/iam/redeem", {"token": token})


async def test_strangers_from_three_addresses_do_not_stop_an_invite_from_being_redeemed(
    kit: Kit, scene: Scene
) -> None:
    """Each address takes one place; every one of them may be pushed out at once."""
    limits = replace(ROOMY, unpaired_sessions=4, unpaired_kept_seconds=0)
    device = await kit.device(limits=limits)
    anna = kit.caller(device)
    path = scene.far(anna, device)
    three = addresses(3)
    await scene.shake(device, three * 2)
    path.meanwhile = lambda: scene.shake(device, three)
    assert (await redeem(anna, invite(device))).code == "2.04"
    assert device.users.users.keys() == {"anna"}
    assert device.counters()["sessions-evicted"] > 6, "this was no flood"


async def test_strangers_from_everywhere_do_not_push_out_a_session_that_has_just_begun(
    kit: Kit, scene: Scene
) -> None:
    """All are from different networks, so they have equal rights; but none is evicted so soon."""
    limits = replace(ROOMY, unpaired_sessions=4, unpaired_kept_seconds=FOREVER)
    device = await kit.device(limits=limits)
    anna = kit.caller(device)
    path = scene.far(anna, device)
    everywhere = itertools.cycle(addresses(200))

    async def once_she_is_in() -> None:
        if device.sessions("regular"):
            await scene.shake(device, [next(everywhere) for _ in range(5)])

    path.meanwhile = once_she_is_in
    assert (await redeem(anna, invite(device))).code == "2.04"
    assert device.users.users.keys() == {"anna"}
    assert device.counters()["sessions-refused"] > 2, "this was no flood"
    assert len(device.sessions("regular")) <= 1 + limits.unpaired_sessions


async def test_neighbours_from_three_addresses_do_not_end_the_session_of_a_person_who_pairs(
    kit: Kit, scene: Scene
) -> None:
    """All are in one network. The person looks at the offer for a while, and then starts."""
    limits = replace(ROOMY, unpaired_sessions=4, unpaired_kept_seconds=0)
    device = await kit.device(limits=limits)
    await device.open(role="user")
    anna = kit.caller(device)
    scene.far(anna, device, source="127.64.0.100")
    three = addresses(3, per_network=3)
    await scene.shake(device, three * 2, pairing=True)
    session = await anna.connect(pairing=True)
    assert (await anna.pair_ask("GET", "/pair")).code == "2.05"
    for _ in range(5):  # while the person reads and types
        await scene.shake(device, three, pairing=True)
    assert session.is_open
    started = await anna.start("anna")
    assert started.code == "2.01"
    await scene.shake(device, three, pairing=True)
    device.decide(accept=True)
    await scene.shake(device, three, pairing=True)
    assert (await anna.send_tag(started, anna.tags(started).client_tag)).code == "2.04"
    assert await anna.connect(pairing=True) is session, "it had to connect again"
    assert device.users.users.keys() == {"anna"}
    assert device.counters("pairing")["sessions-evicted"] > 10, "this was no flood"


async def test_a_stranger_without_a_place_is_counted_and_told(kit: Kit, scene: Scene) -> None:
    limits = replace(ROOMY, unpaired_sessions=2, unpaired_kept_seconds=FOREVER)
    device = await kit.device(limits=limits)
    await scene.shake(device, addresses(2))
    with pytest.raises(HandshakeFailed, match="closed the session immediately"):
        await kit.caller(device).connect()
    assert device.counters()["sessions-refused"] == 1
    assert device.counters().get("sessions-evicted", 0) == 0


async def test_a_stranger_does_not_keep_a_place_by_shaking_hands_again(
    kit: Kit, scene: Scene
) -> None:
    """From the same port, and with the same key from many ports: both count as old as they are."""
    limits = replace(ROOMY, unpaired_sessions=2, unpaired_kept_seconds=FOREVER, sessions_per_key=1)
    device = await kit.device(limits=limits)
    endpoint = endpoint_of(device.app.server)
    to = Address(HOST, device.port(pairing=False))
    key = Identity.create()
    await scene.shake(device, addresses(1))
    one = await stop_at(Step.DONE, to, source="127.65.0.1", identity=key)
    scene.silent.append(one)
    since = sorted(session.established_at for session in endpoint.associations())
    again = await stop_at(Step.DONE, to, source="127.65.0.1", identity=key)
    scene.silent.append(again)
    assert device.counters()["sessions-refused"] == 1
    one.begin(Identity.create())
    await one.run(Step.DONE)
    await device.until(lambda: device.counters()["handshakes"] == 4)
    assert sorted(session.established_at for session in endpoint.associations()) == since


# -- bytes ----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_silent_address_gets_few_bytes_for_one_hello(kit: Kit) -> None:
    """It has shown a cookie and says nothing more. OpenSSL would repeat the flight for a minute."""
    device = await kit.device(limits=replace(HASTY, handshake_seconds=FOREVER))
    one = await stop_at(Step.COOKIE, Address(HOST, device.port(pairing=False)))
    await device.until(lambda: device.counters().get("handshake-repeats-withheld"))
    flights = [await one.datagram()]
    while one.waiting:
        flights.append(await one.datagram())
    bound = Limits().handshake_amplification * len(one.sent[-1])
    assert len(flights[0]) < sum(map(len, flights)) <= bound
    one.send(one.sent[-1])  # a client that lost the flight repeats its hello, and is answered
    assert await one.datagram()
    one.close()
