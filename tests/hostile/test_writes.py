"""Writes that are repeated, replayed, torn or reordered are made once each, on both paths.

The attacker sees and sends any datagram of a session, but cannot read or forge one. A client of its
own can also repeat a request in a new record, as a retransmission does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from aiocoap.numbers.codes import Code

from device_app.resources.plain_resource import PlainWrites
from peer.identity import Identity
from peer.net.address import Address
from peer.net.plain import Done, Write
from peer.net.remote import PeerIdentity
from tests.kit.encoded import CON, NON, POST, encoded, sent_as
from tests.kit.internals import count_direct_answers
from tests.kit.raw_client import RawClient
from tests.kit.serve import HOST
from tests.kit.waiting import until
from tests.peer.net.unusual_messages import ELECTIVE

if TYPE_CHECKING:
    from tests.kit.device import Device

#: One of each path: a request with an option that no resource knows is aiocoap's.
PATHS = {"direct": (), "aiocoap": ((ELECTIVE, b""),)}


class Till(PlainWrites):
    """Keeps the bodies of all POSTs."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    def answer_post(self, write: Write, _sender: PeerIdentity, /) -> Done:
        self.bodies.append(write.payload)
        return Done.CREATED


@pytest.fixture
def till(device: Device) -> Till:
    made = Till()
    device.app.site.add(("till",), made)
    device.app.guard.rules.add(("till",), {"POST": "Hello:Get"})
    return made


@pytest.fixture
async def guest(device: Device) -> AsyncIterator[RawClient]:
    identity = Identity.create()
    device.add_user("gustav", "guest", identity)
    raw = await RawClient.connect(Address(HOST, device.port(pairing=False)), identity)
    yield raw
    await raw.close()


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def coin(path: str, body: bytes, number: int, kind: int = CON) -> bytes:
    """A POST of a body that takes a path."""
    message = encoded(POST, *PATHS[path], path="till", token=b"t" + body, payload=body)
    return sent_as(message, kind, number)


@pytest.mark.parametrize("kind", [CON, NON])
async def test_a_repeated_write_is_made_once(
    device: Device, till: Till, guest: RawClient, path: str, kind: int
) -> None:
    """A repeat gets the first answer from the table of recent requests, whatever the path."""
    answers = count_direct_answers(device.app.server)
    for _ in range(5):
        guest.send(coin(path, b"penny", 7, kind))
        await guest.handled()
    await until(lambda: till.bodies)
    assert till.bodies == [b"penny"]
    assert len(answers) == (path == "direct")
    await guest.handled()
    assert [one.code for one in guest.received] == [Code.CREATED] * (5 if kind == CON else 1)


async def test_repeats_in_one_datagram_are_made_once(
    till: Till, guest: RawClient, path: str
) -> None:
    """The repeat comes before aiocoap's path has begun with the request."""
    message = coin(path, b"penny", 7)
    guest.send_datagram(guest.sealed(message) + guest.sealed(message))
    await guest.until(1)
    await guest.handled()
    assert till.bodies == [b"penny"]


async def test_a_replayed_datagram_makes_no_write(
    device: Device, till: Till, guest: RawClient, path: str
) -> None:
    captured = guest.sealed(coin(path, b"penny", 7))
    before = device.app.server.counters["dtls-replayed-or-forged"]
    for _ in range(4):
        guest.send_datagram(captured)
    await guest.handled()
    await until(lambda: device.app.server.counters["dtls-replayed-or-forged"] == before + 3)
    assert [one.code for one in guest.received] == [Code.CREATED], "not even answered again"
    assert till.bodies == [b"penny"]


async def test_a_datagram_replayed_after_its_repeat_is_forgotten_makes_no_write(
    till: Till, guest: RawClient, path: str
) -> None:
    """A reused Message ID takes its place in the table; the replay window of DTLS has no table."""
    captured = guest.sealed(coin(path, b"penny", 7))
    guest.send_datagram(captured)
    await guest.until(1)
    guest.send(coin(path, b"dime", 7))
    await guest.until(2)
    guest.send_datagram(captured)
    await guest.handled()
    assert till.bodies == [b"penny", b"dime"]


async def test_reordered_datagrams_make_each_write_once(
    till: Till, guest: RawClient, path: str
) -> None:
    """They are made in the order of arrival: CoAP has no other (RFC 7252 §4.4)."""
    captured = [guest.sealed(coin(path, b"%d" % number, number)) for number in range(1, 6)]
    for datagram in reversed(captured):
        guest.send_datagram(datagram)
        guest.send_datagram(captured[4])
    await guest.until(5)
    await guest.handled()
    assert till.bodies == [b"5", b"4", b"3", b"2", b"1"]


async def test_a_damaged_write_is_not_made(till: Till, guest: RawClient, path: str) -> None:
    captured = guest.sealed(coin(path, b"penny", 7))
    for at in range(13, len(captured), 7):  # all but the header of the record
        damaged = bytearray(captured)
        damaged[at] ^= 1
        guest.send_datagram(bytes(damaged))
    await guest.handled()
    assert till.bodies == []
    guest.send_datagram(captured)
    await guest.until(1)
    assert till.bodies == [b"penny"]


async def test_a_reused_message_id_makes_another_write(
    till: Till, guest: RawClient, path: str
) -> None:
    """Only the same bytes are a repeat: a fast client uses each Message ID again and again."""
    for body in (b"penny", b"dime", b"penny"):
        guest.send(coin(path, body, 7))
        await guest.handled()
    await until(lambda: len(till.bodies) == 3)
    assert till.bodies == [b"penny", b"dime", b"penny"]
