"""ICE carriers, and each override of aioice: a test per override, which fails without it."""

import asyncio
import socket
from dataclasses import replace

import pytest
from aioice import stun

from peer.net.address import Address
from peer.remote.errors import CarrierError, ServerFailure
from peer.remote.ice import IceServers
from peer.remote.limits import DEFAULT_ICE_LIMITS, MAX_CANDIDATES, IceLimits
from peer.remote.messages import CarrierOffer
from tests.kit.carriers import LOOPBACK, PROBE, CarrierEnd, closing, connect, exchange
from tests.kit.stun_servers import stun_servers
from tests.kit.udp_middle import address_of, udp_middle
from tests.kit.waiting import skip_time, until

NEVER = 3600.0
REQUEST = stun.Class.REQUEST


def transaction(data: bytes) -> bytes | None:
    """The transaction of a STUN request, or None for anything else."""
    is_request = data[:2] == b"\x00\x01" and data[4:8] == b"\x21\x12\xa4\x42"
    return data[8:20] if is_request else None


async def test_two_sides_connect_directly() -> None:
    client, device = CarrierEnd.create(controlling=True), CarrierEnd.create(controlling=False)
    async with closing(client, device):
        assert client.carrier.remote_address is None
        assert not client.carrier.send(PROBE)
        offers = await connect(client, device)
        for end, offer in ((client, offers[1]), (device, offers[0])):
            assert end.carrier.kind_in_use == "direct"
            assert end.carrier.remote_address == Address(*address_of(offer))
    assert not client.carrier.send(PROBE)
    assert (client.losses, device.losses) == (0, 0)


async def test_datagrams_before_the_other_side_has_connected_are_kept_up_to_a_bound() -> None:
    limits = replace(DEFAULT_ICE_LIMITS, early_datagrams=3)
    client = CarrierEnd.create(controlling=True)
    device = CarrierEnd.create(controlling=False, limits=limits)
    async with closing(client, device):
        offers = await asyncio.gather(client.carrier.gather(), device.carrier.gather())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for number in range(5):
                stranger.sendto(b"\x80%d" % number, address_of(offers[1]))
        await asyncio.gather(client.carrier.connect(offers[1]), device.carrier.connect(offers[0]))
        assert [await device.received.get() for _ in range(3)] == [b"\x802", b"\x803", b"\x804"]
        await exchange(client, device)


async def test_a_side_without_addresses_has_no_candidate() -> None:
    end = CarrierEnd.create(controlling=True, addresses=())
    async with closing(end):
        with pytest.raises(CarrierError) as caught:
            await end.carrier.gather()
    assert caught.value.reason is ServerFailure.NO_CANDIDATE


async def test_a_side_that_never_answers_is_given_up() -> None:
    client = CarrierEnd.create(controlling=True, check_seconds=0.05)
    async with closing(client):
        await client.carrier.gather()
        offer = CarrierOffer("abcd", "p" * 22, (f"1 1 udp 1 {LOOPBACK} 9999 typ host",))
        with pytest.raises(CarrierError) as caught:
            await client.carrier.connect(offer)
    assert caught.value.reason is ServerFailure.NO_PATH


async def test_candidates_may_come_while_the_checks_run() -> None:
    client, device = CarrierEnd.create(controlling=True), CarrierEnd.create(controlling=False)
    async with closing(client, device):
        offers = await asyncio.gather(client.carrier.gather(), device.carrier.gather())
        dead = replace(offers[1], candidates=(f"1 1 udp 1 {LOOPBACK} 9999 typ host",))
        connecting = asyncio.ensure_future(client.carrier.connect(dead))
        await asyncio.sleep(0)
        client.carrier.add_remote(offers[1])
        client.carrier.add_remote(offers[1])
        await asyncio.gather(connecting, device.carrier.connect(offers[0]))
        await exchange(client, device)


# -- get_component_candidates ---------------------------------------------------------------------


async def test_a_silent_stun_server_delays_gathering_by_its_limit_only() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, 0))
        end = CarrierEnd.create(
            controlling=True,
            servers=IceServers(stun=(f"{LOOPBACK}:{silent.getsockname()[1]}",)),
            limits=replace(DEFAULT_ICE_LIMITS, gather_seconds=0.05),
        )
        async with closing(end):
            start = asyncio.get_running_loop().time()
            await end.carrier.gather()
            assert asyncio.get_running_loop().time() - start < 4.0  # aioice: 5


async def test_an_interface_without_a_way_delays_gathering_little() -> None:
    """As a docker0 bridge does: the answers that come are not held back by those that do not."""
    async with stun_servers(("192.0.2.7", 40000)) as [server]:
        end = CarrierEnd.create(
            controlling=True,
            servers=IceServers(stun=(server, "no-such-host.invalid:1")),
            limits=replace(DEFAULT_ICE_LIMITS, gather_seconds=NEVER, gather_more_seconds=0.01),
            addresses=(LOOPBACK, "127.0.0.2"),
        )
        async with closing(end):
            offer = await end.carrier.gather()
    assert [one.split()[4:6] for one in offer.candidates if "srflx" in one] == [
        ["192.0.2.7", "40000"]
    ]


async def test_a_machine_with_many_addresses_uses_eight() -> None:
    end = CarrierEnd.create(
        controlling=True, addresses=[f"127.0.0.{number}" for number in range(1, 30)]
    )
    async with closing(end):
        offer = await end.carrier.gather()
    assert len(offer.candidates) == 8 <= MAX_CANDIDATES


# -- query_consent --------------------------------------------------------------------------------


async def test_consent_checks_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a path that loses the first copy of each check, like a congested or a very long one."""
    monkeypatch.setattr(stun, "RETRY_RTO", 0.02)
    limits = replace(DEFAULT_ICE_LIMITS, consent_seconds=0.01)
    client = CarrierEnd.create(controlling=True, limits=limits)
    device = CarrierEnd.create(controlling=False)
    checked: set[bytes] = set()

    def pass_repeats(data: bytes) -> bool:
        found = transaction(data)
        if found is None or found in checked:
            return True
        checked.add(found)
        return False

    async with udp_middle() as middle, closing(client, device):
        await connect(client, device, middle)
        middle.to_second = pass_repeats
        await until(lambda: len(checked) >= 20 or client.carrier.remote_address is None)
        middle.to_second = lambda _: True
        await exchange(client, device)
        assert client.losses == 0


async def test_a_path_without_answers_is_lost_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stun, "RETRY_RTO", 0.01)
    limits = replace(DEFAULT_ICE_LIMITS, consent_seconds=0.01)
    client = CarrierEnd.create(controlling=True, limits=limits)
    device = CarrierEnd.create(controlling=False)
    async with udp_middle() as middle, closing(client, device):
        await connect(client, device, middle)
        middle.to_second = lambda _: False
        skip_time(limits.consent_lost_seconds)
        await until(lambda: client.losses)
        assert client.carrier.remote_address is not None  # the owner closes it
    assert client.losses == 1


# -- build_request and check_incoming -------------------------------------------------------------


async def test_a_check_that_was_lost_is_repeated_when_the_other_side_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first packet of a side dies at the NAT of the other, until that has sent one, too."""
    monkeypatch.setattr(stun, "RETRY_RTO", NEVER)
    client, device = CarrierEnd.create(controlling=True), CarrierEnd.create(controlling=False)
    sent: list[bytes] = []
    async with udp_middle() as middle, closing(client, device):
        offers = middle.offers(
            *await asyncio.gather(*(one.carrier.gather() for one in (client, device)))
        )

        def lose(data: bytes) -> bool:
            sent.append(data)
            return len(sent) > 1

        middle.to_second = lose
        connecting = asyncio.ensure_future(client.carrier.connect(offers[1]))
        await until(lambda: sent)
        await asyncio.gather(connecting, device.carrier.connect(offers[0]))
        await exchange(client, device)


# -- bounds ---------------------------------------------------------------------------------------


def test_the_pairs_of_a_connection_are_less_than_a_hundred() -> None:
    """RFC 8445 §6.1.2.5."""
    assert IceLimits().local_addresses * MAX_CANDIDATES < 100
