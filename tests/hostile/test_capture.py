"""A capture of a pairing by code reveals nothing about the code, however much of it is captured.

Two observers. One has all datagrams of both directions. The other has both plaintexts as well, the
exporter value, the keys' fingerprints, window and role: all but the two sides' random bytes. Codes
here have two digits, so each of them can be tried in each relation that could give one away: the
points of both rounds and their sums, times the guess, against what was sent; and the keys that
these would make, against the tags. The same search finds the one right code in copies that are
weaker by one thing, so it is able to find.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from peer import cbor
from peer.net.address import Address
from peer.pairing import code, p256, typed
from peer.pairing.binding import Channel, Confirmation, lp
from peer.pairing.methods import Method
from peer.testing import Proxy
from tests.kit.device import fixed_port
from tests.kit.methods import LabelledDevice, Run, labelled, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peer.pairing.jpake import EcJpake
    from peer.pairing.sides import Session, Terms
    from tests.kit.device import Device, Kit

DIGITS = 2
CODES = [f"{number:0{DIGITS}}" for number in range(10**DIGITS)]
ITEM = 165  # bytes of a point with its proof, each with its length
POINT = slice(1, 66)
APPLICATION = 23  # the content type of what DTLS carries for others (RFC 6347 §4.1)


@dataclass(frozen=True)
class Capture:
    """All that passed in one pairing, and the code, which was never sent."""

    right: str
    channel: Channel
    role: str
    round_one: bytes
    rounds: bytes
    round_two: bytes
    tags: tuple[bytes, bytes]
    datagrams: tuple[list[bytes], list[bytes]]
    plaintexts: list[bytes]

    @property
    def points(self) -> list[bytes]:
        """X1 to X4."""
        both = self.round_one + self.rounds
        return [both[at : at + ITEM][POINT] for at in range(0, 4 * ITEM, ITEM)]

    @property
    def masked(self) -> list[bytes]:
        """A and B, in which the code is."""
        return [self.round_two[POINT], self.rounds[2 * ITEM + 3 :][POINT]]


async def captured(kit: Kit, device: Device, *, random_bytes: Any = None) -> Capture:
    """A pairing by the shown code, through a path that keeps all."""
    bearer: LabelledDevice = labelled(device)
    await opened(device, Method.CODE)
    proxy = await Proxy.start(Address("127.0.0.1", device.port(pairing=True)))
    caller = kit.caller(device)
    caller.port = fixed_port(proxy.address.port)
    right = bearer.shown
    run = await Run.of(caller, bearer, Method.CODE)
    if random_bytes is not None:
        run.side._jpake._random_bytes = random_bytes  # type: ignore[attr-defined]
    done = await run.run_to_end(device)
    assert done.code == "2.04"
    datagrams = (proxy.towards_device(), proxy.towards_client())
    await caller.close()
    proxy.close()
    started, session = run.got[0].body, run.session
    device.app.access.registry.remove_user(None, "anna")
    return Capture(
        right,
        Channel(session.ekm, session.client, session.device, started["window"]),
        started["role"],
        run.sent[0]["round_one"],
        started["rounds"],
        run.sent[1]["round_two"],
        (run.sent[1]["confirm"], done.body["confirm"]),
        datagrams,
        [*map(cbor.encode, run.sent), *(one.payload for one in run.got)],
    )


@pytest.fixture(autouse=True)
def short_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "SHOWN_DIGITS", DIGITS)


# -- the one with both plaintexts -----------------------------------------------------------------


def sums(points: list[Any]) -> Iterator[Any]:
    """Of each choice of them."""
    for size in range(1, len(points) + 1):
        for some in combinations(points, size):
            total = some[0]
            for one in some[1:]:
                total = total + one
            yield total


def fitting(capture: Capture) -> list[str]:
    """The codes for which anything that passed is what they would make it."""
    public = list(sums([p256.decode_untrusted(point) for point in capture.points]))
    masked = [p256.decode_untrusted(point) for point in capture.masked]
    return [guess for guess in CODES if _fits(capture, guess, public, masked)]


def _fits(capture: Capture, guess: str, public: list[Any], masked: list[Any]) -> bool:
    s = p256.reduce(p256.public_scalar(guess.encode()))
    scaled = [p256.times(point, s) for point in public]
    if any(point == theirs for point in scaled for theirs in masked):
        return True
    shared = [*scaled, *(one + (-point) for one in masked for point in scaled)]
    keys = [sha256(lp(p256.encode(point)) + lp(b"JPAKE_KC")).digest() for point in shared]
    keys += [sha256(guess.encode()).digest(), sha256(lp(guess.encode())).digest()]
    return any(tag in capture.tags for key in keys for tag in tags(capture, key))


def tags(capture: Capture, key: bytes) -> Iterator[bytes]:
    """Both tags that a key would make."""
    names = (b"C" + capture.channel.client.digest, b"D" + capture.channel.device.digest)
    bound = capture.channel.binding(method=Method.CODE, role=capture.role)
    x = capture.points
    for items in ((*names, *x), (*names[::-1], *x[2:], *x[:2])):
        yield hmac.digest(key, b"".join(map(lp, (b"KC_1_U", *items, bound))), "sha256")


async def test_no_code_fits_better_than_another_what_both_sides_said(
    kit: Kit, device: Device
) -> None:
    capture = await captured(kit, device)
    assert capture.right in CODES
    assert fitting(capture) == []


async def test_with_random_bytes_that_are_known_the_search_finds_the_code(
    kit: Kit, device: Device
) -> None:
    """Weaker by the client's randomness: x2 is 1, so A is s times a sum of sent points."""
    capture = await captured(kit, device, random_bytes=(1).to_bytes)
    assert fitting(capture) == [capture.right]


async def test_with_tags_made_of_the_code_the_search_finds_it(
    kit: Kit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weaker by the tags' key: it is the code's, and not the shared point's."""
    real = code._exchange
    secrets: list[bytes] = []

    def noted(role: str, secret: bytes, session: Session, **rest: Any) -> EcJpake:
        secrets.append(secret)
        return real(role, secret, session, **rest)

    def of_the_code(exchange: EcJpake, terms: Terms) -> Confirmation:
        channel = terms.channel
        key, bound = sha256(secrets[-1]).digest(), terms.binding(Method.CODE)
        names = (b"C" + channel.client.digest, b"D" + channel.device.digest)
        own, theirs = exchange.public_points("client"), exchange.public_points("server")

        def tag(*items: bytes) -> bytes:
            return hmac.digest(key, b"".join(map(lp, (b"KC_1_U", *items, bound))), "sha256")

        return Confirmation(tag(*names, *own, *theirs), tag(*names[::-1], *theirs, *own))

    monkeypatch.setattr(code, "_exchange", noted)
    monkeypatch.setattr(code, "_derive_tags", of_the_code)
    capture = await captured(kit, device)
    assert fitting(capture) == [capture.right]


# -- the one with the datagrams -------------------------------------------------------------------


def pieces(capture: Capture) -> list[bytes]:
    """What would be in clear, if anything were."""
    return [capture.round_one[:ITEM], capture.rounds[:ITEM], *capture.points, *capture.tags]


def heard(capture: Capture, wire: bytes) -> list[str]:
    """The codes that are in the bytes, or a hash of them; or any piece of the exchange."""
    found = [guess for guess in CODES if sha256(guess.encode()).digest() in wire]
    return [*found, *(piece.hex() for piece in pieces(capture) if piece in wire)]


def records(datagram: bytes) -> Iterator[tuple[int, int]]:
    """Content type and length of each record (RFC 6347 §4.1)."""
    while datagram:
        size = int.from_bytes(datagram[11:13])
        yield datagram[0], size
        datagram = datagram[13 + size :]


def sizes(capture: Capture) -> list[list[int]]:
    """The lengths of what the application sent, by direction; without close_notify."""
    return [
        [size for one in way for kind, size in records(one) if kind == APPLICATION]
        for way in capture.datagrams
    ]


async def test_the_datagrams_hold_no_word_of_it(kit: Kit, device: Device) -> None:
    capture = await captured(kit, device)
    wire = b"".join(b"".join(way) for way in capture.datagrams)
    assert len(wire) > sum(map(len, capture.plaintexts))
    assert not heard(capture, wire)
    assert len(heard(capture, b"".join(capture.plaintexts))) == len(pieces(capture))


async def test_the_sizes_of_what_passes_do_not_depend_on_the_code(kit: Kit, device: Device) -> None:
    seen = [await captured(kit, device) for _ in range(4)]
    assert all(sizes(one) == sizes(seen[0]) for one in seen)
    assert all(sizes(seen[0]))
