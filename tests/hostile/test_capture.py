"""A capture of a pairing by code does not allow an offline dictionary attack on the code.

One observer has all datagrams of both directions. The other also has both plaintexts, the exporter
value, the fingerprints of the keys, the window and the role: everything except the random bytes of
the two sides. Codes here have two digits, so that the search can try each of them in each relation
that could reveal it: the points of both rounds and their sums, multiplied by the guess, against the
points that were sent; and the keys derived from these, against the tags. To show that the search
works, two tests weaken one part of the exchange each, and the same search then finds the code.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import combinations
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import pytest

from peer import cbor
from peer.net.address import Address
from peer.pairing import code, p256, typed
from peer.pairing.binding import Channel, Confirmation, lp
from peer.pairing.jpake import EcJpake
from peer.pairing.methods import Method
from peer.testing import Proxy
from tests.kit.device import HASTY, Kit, fixed_port
from tests.kit.internals import replace_code_tags, reuse_token
from tests.kit.methods import LabelledDevice, Run, add_label, open_window
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from peer.pairing.sides import RandomBytes, Terms
    from tests.kit.device import Device

DIGITS = 2
CODES = [f"{number:0{DIGITS}}" for number in range(10**DIGITS)]
ITEM = 165  # bytes of a point with its proof, including their length fields
POINT = slice(1, 66)
APPLICATION = 23  # the content type of application data (RFC 6347 §4.1)


@dataclass(frozen=True)
class Capture:
    """All data that was sent in one pairing, and the code, which was not."""

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
        """The points A and B, which depend on the code."""
        return [self.round_two[POINT], self.rounds[2 * ITEM + 3 :][POINT]]


async def captured(kit: Kit, device: Device, *, random_bytes: RandomBytes = token_bytes) -> Capture:
    """Capture a pairing by the displayed code, through a proxy."""
    labelled_device: LabelledDevice = add_label(device)
    await open_window(device, Method.CODE)
    proxy = await Proxy.start(Address("127.0.0.1", device.port(pairing=True)))
    caller = kit.caller(device)
    caller.port = fixed_port(proxy.address.port)
    reuse_token(caller.client, 1 << 12)  # tokens of one length
    right = labelled_device.shown
    run = await Run.of(caller, labelled_device, Method.CODE, random_bytes=random_bytes)
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


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    """No message is repeated, so that a capture has each one once."""
    made = Kit(tmp_path / "home", limits=replace(HASTY, ack_timeout_seconds=TIMEOUT_SECONDS))
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def short_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "SHOWN_DIGITS", DIGITS)


# -- the observer of both plaintexts --------------------------------------------------------------


def sums(points: list[Any]) -> Iterator[Any]:
    """The sum of each non-empty subset of the points."""
    for size in range(1, len(points) + 1):
        for some in combinations(points, size):
            total = some[0]
            for one in some[1:]:
                total = total + one
            yield total


def matching_codes(capture: Capture) -> list[str]:
    """The codes that explain any point or tag of the capture."""
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
    """The two tags that a key would produce."""
    names = (b"C" + capture.channel.client.digest, b"D" + capture.channel.device.digest)
    bound = capture.channel.binding(method=Method.CODE, role=capture.role)
    x = capture.points
    for items in ((*names, *x), (*names[::-1], *x[2:], *x[:2])):
        yield hmac.digest(key, b"".join(map(lp, (b"KC_1_U", *items, bound))), "sha256")


async def test_the_plaintexts_of_both_sides_do_not_reveal_the_code(
    kit: Kit, device: Device
) -> None:
    capture = await captured(kit, device)
    assert capture.right in CODES
    assert matching_codes(capture) == []


async def test_the_search_finds_the_code_if_the_random_bytes_are_known(
    kit: Kit, device: Device
) -> None:
    """Weakened: x2 is 1, so A is s times a sum of points that were sent."""
    capture = await captured(kit, device, random_bytes=(1).to_bytes)
    assert matching_codes(capture) == [capture.right]


async def test_the_search_finds_the_code_if_the_tags_are_derived_from_it(
    kit: Kit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weakened: the key of the tags is derived from the code instead of the shared point."""
    secrets: list[bytes] = []

    def noted(role: str, secret: bytes, **rest: Any) -> EcJpake:
        secrets.append(secret)
        return EcJpake(role, secret, **rest)

    def derived_from_the_code(exchange: EcJpake, terms: Terms, _tags: Confirmation) -> Confirmation:
        channel = terms.channel
        key, bound = sha256(secrets[-1]).digest(), terms.binding(Method.CODE)
        names = (b"C" + channel.client.digest, b"D" + channel.device.digest)
        own, theirs = exchange.public_points("client"), exchange.public_points("server")

        def tag(*items: bytes) -> bytes:
            return hmac.digest(key, b"".join(map(lp, (b"KC_1_U", *items, bound))), "sha256")

        return Confirmation(tag(*names, *own, *theirs), tag(*names[::-1], *theirs, *own))

    monkeypatch.setattr(code, "EcJpake", noted)
    replace_code_tags(monkeypatch, derived_from_the_code)
    capture = await captured(kit, device)
    assert matching_codes(capture) == [capture.right]


# -- the observer of the datagrams ----------------------------------------------------------------


def plaintext_parts(capture: Capture) -> list[bytes]:
    """The parts of the exchange, as they would be in plaintext."""
    return [capture.round_one[:ITEM], capture.rounds[:ITEM], *capture.points, *capture.tags]


def leaks(capture: Capture, wire: bytes) -> list[str]:
    """The codes whose hash is in these bytes, and the parts of the exchange that are."""
    found = [guess for guess in CODES if sha256(guess.encode()).digest() in wire]
    return [*found, *(piece.hex() for piece in plaintext_parts(capture) if piece in wire)]


def records(datagram: bytes) -> Iterator[tuple[int, int]]:
    """Content type and length of each record (RFC 6347 §4.1)."""
    while datagram:
        size = int.from_bytes(datagram[11:13])
        yield datagram[0], size
        datagram = datagram[13 + size :]


def sizes(capture: Capture) -> list[list[int]]:
    """The lengths of the application data records of each direction."""
    return [
        [size for one in way for kind, size in records(one) if kind == APPLICATION]
        for way in capture.datagrams
    ]


async def test_the_datagrams_contain_no_part_of_the_exchange_in_plaintext(
    kit: Kit, device: Device
) -> None:
    capture = await captured(kit, device)
    wire = b"".join(b"".join(way) for way in capture.datagrams)
    assert len(wire) > sum(map(len, capture.plaintexts))
    assert not leaks(capture, wire)
    assert len(leaks(capture, b"".join(capture.plaintexts))) == len(plaintext_parts(capture))


async def test_the_record_sizes_do_not_depend_on_the_code(kit: Kit, device: Device) -> None:
    seen = [await captured(kit, device) for _ in range(4)]
    assert all(sizes(one) == sizes(seen[0]) for one in seen)
    assert all(sizes(seen[0]))
