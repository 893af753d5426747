"""Honest clients on a slow path connect during floods of ClientHellos and of handshakes.

A fixed number of hellos or handshakes is sent while each datagram of the honest client is in
transit, so the result does not depend on the speed of the machine. The limits of each test disable
all defences except one: rates never refill, or slots are never evicted, or always.
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
from peer.identity import Identity
from peer.limits import Limits
from peer.net.address import Address
from peer.pairing.invite import read_untrusted
from tests.kit.device import HASTY
from tests.kit.floods import FarPath, ManySources, addresses, is_refused_a_session
from tests.kit.internals import endpoint_of, half_open
from tests.kit.stopped_client import Step, StoppedClient, stop_at

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit

HOST = "127.0.0.1"
HOME = "127.9.9.9"  # the address of the honest client
FOREVER = 3600.0
PER_DATAGRAM = 40  # hellos of the flood while one datagram of the honest client is in transit
NO_RATE_LIMIT = replace(HASTY, handshake_burst=100_000)  # above the rate of any flood in this file


class Scene:
    """The paths, crowds and silent clients of a test, which are closed at its end."""

    def __init__(self) -> None:
        self.paths: list[FarPath] = []
        self.crowds: list[ManySources] = []
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
    ) -> ManySources:
        """A crowd of sources that already have valid cookies."""
        crowd = ManySources(Address(HOST, device.port(pairing=pairing)))
        self.crowds.append(crowd)
        await crowd.arm(list(sources))
        return crowd

    async def connect_silently(
        self, device: Device, sources: Iterable[str], *, pairing: bool = False
    ) -> None:
        """Complete a handshake from each source, and send nothing afterwards."""
        to = Address(HOST, device.port(pairing=pairing))

        async def stop(source: str) -> None:
            self.silent.append(await stop_at(Step.DONE, to, source=source))

        await asyncio.gather(*map(stop, sources))

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


def flood_in_turns(
    sources: list[str], flood: Callable[[list[str]], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """A function that sends a flood from the next sources, in a cycle."""
    endless = itertools.cycle(sources)
    return lambda: flood([next(endless) for _ in range(PER_DATAGRAM)])


def half_open_at(device: Device, *, pairing: bool = False) -> int:
    server = device.app.pairing.port.server if pairing else device.app.server
    assert server is not None
    return half_open(server)


async def connect_and_ask(caller: Caller) -> None:
    """Open a new session and get an answer in it."""
    await caller.connect(fresh=True)
    assert (await caller.ask("GET", "/hello")).code == "2.05"


# -- half-open handshakes -------------------------------------------------------------------------


async def test_a_flood_from_many_networks_leaves_slots_for_known_addresses(
    kit: Kit, scene: Scene
) -> None:
    """Each hello of the flood comes from another network, and its slots are never evicted."""
    limits = replace(
        NO_RATE_LIMIT, half_open=12, half_open_reserve=4, half_open_kept_seconds=FOREVER
    )
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    await connect_and_ask(owner)
    sources = addresses(400)
    crowd = await scene.crowd(device, sources)
    path.meanwhile = flood_in_turns(sources, crowd.flood)
    for _ in range(3):
        await connect_and_ask(owner)
        assert half_open_at(device) <= limits.half_open
    counters = device.counters()
    assert counters["half-open-refused"] > 200, "the limit was not reached"
    assert half_open_at(device) == limits.half_open - limits.half_open_reserve


async def test_a_flood_from_one_network_evicts_only_its_own_handshakes(
    kit: Kit, scene: Scene
) -> None:
    """250 addresses of one /24 evict each other; an owner in another network gets a slot."""
    limits = replace(NO_RATE_LIMIT, half_open=8, half_open_reserve=0, half_open_kept_seconds=0)
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    sources = addresses(250, per_network=250)
    crowd = await scene.crowd(device, sources)
    path.meanwhile = flood_in_turns(sources, crowd.flood)
    for _ in range(3):
        await connect_and_ask(owner)
        assert half_open_at(device) <= limits.half_open
    assert device.counters()["half-open-evicted"] > 200, "the limit was not reached"


async def test_a_flood_does_not_evict_a_handshake_in_progress(kit: Kit, scene: Scene) -> None:
    """An owner at an unknown address has a slot, and keeps it for the configured time."""
    limits = replace(
        NO_RATE_LIMIT, half_open=8, half_open_reserve=0, half_open_kept_seconds=FOREVER
    )
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    sources = addresses(400)
    crowd = await scene.crowd(device, sources)
    flood = flood_in_turns(sources, crowd.flood)

    async def once_the_owner_has_begun() -> None:
        if half_open_at(device):
            await flood()

    path.meanwhile = once_the_owner_has_begun
    await connect_and_ask(owner)
    assert device.counters()["half-open-refused"] > 40, "the limit was not reached"
    assert device.counters().get("half-open-evicted", 0) == 0


# -- the rate -------------------------------------------------------------------------------------


async def test_a_flood_from_the_owners_address_does_not_use_up_the_owners_rate(
    kit: Kit, scene: Scene
) -> None:
    """The flood comes from one port of the owner's address. The rate never refills."""
    limits = replace(HASTY, handshake_burst=20, handshakes_per_second=1e-6)
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    crowd = await scene.crowd(device, [HOME])
    path.meanwhile = flood_in_turns([HOME], crowd.flood)
    await connect_and_ask(owner)
    await connect_and_ask(owner)
    assert device.counters()["handshakes-rate-limited"] > 300, "the limit was not reached"


async def test_a_flood_from_a_network_does_not_use_up_a_known_addresss_rate(
    kit: Kit, scene: Scene
) -> None:
    limits = replace(HASTY, handshake_burst=20, handshakes_per_second=1e-6)
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    path = scene.far(owner, device)
    await connect_and_ask(owner)
    neighbours = [f"{HOME.rpartition('.')[0]}.{number}" for number in range(10, 210)]
    crowd = await scene.crowd(device, neighbours)
    path.meanwhile = flood_in_turns(neighbours, crowd.flood)
    await connect_and_ask(owner)
    await connect_and_ask(owner)
    assert device.counters()["handshakes-rate-limited"] > 200, "the limit was not reached"


async def test_only_an_admitted_hello_costs_an_object_or_a_signature(
    kit: Kit, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hellos without a cookie, with a wrong one, or above the rate share one object."""
    device = await kit.device(limits=replace(HASTY, handshake_burst=5, handshakes_per_second=1e-6))
    sources = addresses(100)
    crowd = await scene.crowd(device, [HOME])
    await crowd.flood([HOME] * 10)  # uses up the rate of its port
    begun: list[str] = []
    make, begin = SSL.Connection.__init__, SSL.Connection.do_handshake

    def made(self: SSL.Connection, *args: object) -> None:
        begun.append("object")
        make(self, *args)  # type: ignore[arg-type]

    def counted_handshake(self: SSL.Connection) -> None:
        begun.append("handshake")
        begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(SSL.Connection, "__init__", made)
        patch.setattr(SSL.Connection, "do_handshake", counted_handshake)
        for source in sources:
            crowd.hello(source)  # the cookie is ignored, so that the next hello has none either
            crowd.hello(source)
        await crowd.handled()
        limited = device.counters()["handshakes-rate-limited"]
        await crowd.flood([HOME] * 200)
        assert device.counters()["handshakes-rate-limited"] == limited + 200
        assert begun in ([], ["object"])
    assert not device.counters().get("handshakes-failed")


# -- session slots for unknown keys ---------------------------------------------------------------


def invite(device: Device) -> bytes:
    request = InviteRequest(name="anna", role="user")
    text = device.app.invitations.create(None, request)["token"]
    return read_untrusted(text)[1]


async def redeem(caller: Caller, token: bytes) -> Answer:
    return await caller.ask("POST", "/iam/redeem", {"token": token})


async def test_a_flood_from_three_addresses_does_not_prevent_redeeming_an_invite(
    kit: Kit, scene: Scene
) -> None:
    """Each address takes one slot, and every session may be evicted immediately."""
    limits = replace(NO_RATE_LIMIT, unpaired_sessions=4, unpaired_kept_seconds=0)
    device = await kit.device(limits=limits)
    anna = kit.caller(device)
    path = scene.far(anna, device)
    three = addresses(3)
    await scene.connect_silently(device, three * 2)
    path.meanwhile = lambda: scene.connect_silently(device, three)
    assert (await redeem(anna, invite(device))).code == "2.04"
    assert device.users.users.keys() == {"anna"}
    assert device.counters()["sessions-evicted"] > 6, "the limit was not reached"


async def test_a_flood_from_many_networks_does_not_evict_a_new_session(
    kit: Kit, scene: Scene
) -> None:
    """All are from different networks, so none has priority; a new session keeps its slot."""
    limits = replace(NO_RATE_LIMIT, unpaired_sessions=4, unpaired_kept_seconds=FOREVER)
    device = await kit.device(limits=limits)
    anna = kit.caller(device)
    path = scene.far(anna, device)
    many_networks = itertools.cycle(addresses(200))

    async def once_anna_is_connected() -> None:
        if device.sessions("regular"):
            await scene.connect_silently(device, [next(many_networks) for _ in range(5)])

    path.meanwhile = once_anna_is_connected
    assert (await redeem(anna, invite(device))).code == "2.04"
    assert device.users.users.keys() == {"anna"}
    assert device.counters()["sessions-refused"] > 2, "the limit was not reached"
    assert len(device.sessions("regular")) <= 1 + limits.unpaired_sessions


async def test_a_flood_from_the_same_network_does_not_evict_a_client_that_pairs(
    kit: Kit, scene: Scene
) -> None:
    """All are in one network. The user reads the offer for a while before the ceremony starts."""
    limits = replace(NO_RATE_LIMIT, unpaired_sessions=4, unpaired_kept_seconds=0)
    device = await kit.device(limits=limits)
    await device.open(role="user")
    anna = kit.caller(device)
    scene.far(anna, device, source="127.64.0.100")
    three = addresses(3, per_network=3)
    await scene.connect_silently(device, three * 2, pairing=True)
    session = await anna.connect(pairing=True)
    assert (await anna.pair_ask("GET", "/pair")).code == "2.05"
    for _ in range(5):  # while the user reads and types
        await scene.connect_silently(device, three, pairing=True)
    assert session.is_open
    started = await anna.start("anna")
    assert started.code == "2.01"
    await scene.connect_silently(device, three, pairing=True)
    device.decide(accept=True)
    await scene.connect_silently(device, three, pairing=True)
    assert (await anna.send_tag(started, anna.tags(started).client_tag)).code == "2.04"
    assert await anna.connect(pairing=True) is session, "the client had to reconnect"
    assert device.users.users.keys() == {"anna"}
    assert device.counters("pairing")["sessions-evicted"] > 10, "the limit was not reached"


async def test_an_unknown_client_without_a_slot_is_counted_and_disconnected(
    kit: Kit, scene: Scene
) -> None:
    limits = replace(NO_RATE_LIMIT, unpaired_sessions=2, unpaired_kept_seconds=FOREVER)
    device = await kit.device(limits=limits)
    await scene.connect_silently(device, addresses(2))
    assert await is_refused_a_session(kit.caller(device))
    assert device.counters()["sessions-refused"] == 1
    assert device.counters().get("sessions-evicted", 0) == 0


async def test_an_unknown_client_cannot_keep_a_slot_by_repeating_the_handshake(
    kit: Kit, scene: Scene
) -> None:
    """A session keeps its age, for a new handshake from the same port or with the same key."""
    limits = replace(
        NO_RATE_LIMIT, unpaired_sessions=2, unpaired_kept_seconds=FOREVER, sessions_per_key=1
    )
    device = await kit.device(limits=limits)
    endpoint = endpoint_of(device.app.server)
    to = Address(HOST, device.port(pairing=False))
    key = Identity.create()
    await scene.connect_silently(device, addresses(1))
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
async def test_the_bytes_sent_in_response_to_one_hello_are_bounded(kit: Kit) -> None:
    """The client has sent a cookie and then stays silent. OpenSSL would retransmit for a minute."""
    device = await kit.device(limits=replace(HASTY, handshake_seconds=FOREVER))
    one = await stop_at(Step.COOKIE, Address(HOST, device.port(pairing=False)))
    await device.until(lambda: device.counters().get("handshake-repeats-withheld"))
    flights = [await one.datagram()]
    while one.waiting:
        flights.append(await one.datagram())
    bound = Limits().handshake_amplification * len(one.sent[-1])
    assert len(flights[0]) < sum(map(len, flights)) <= bound
    one.send(one.sent[-1])  # a client that lost the flight repeats its hello and gets an answer
    assert await one.datagram()
    one.close()
