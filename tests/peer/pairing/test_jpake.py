"""EC J-PAKE: an independent writing of it on `ecdsa` agrees, and an object is for one exchange."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from itertools import count
from os import urandom
from typing import TYPE_CHECKING, Any

import ecdsa
import pytest
from ecdsa.ellipticcurve import INFINITY, Point, PointJacobi

from peer.pairing import p256
from peer.pairing.errors import Misuse
from peer.pairing.jpake import EcJpake, Fault, JpakeError, stretched, unavailable
from peer.pairing.schnorr import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

CURVE = ecdsa.NIST256p.curve
G = ecdsa.NIST256p.generator
N = int(ecdsa.NIST256p.order)
CLIENT_FP, DEVICE_FP, EKM = b"\x0c" * 32, b"\x0d" * 32, b"\xe0" * 32
OURS: dict[str, Any] = {
    "profile": "handfast",
    "context": EKM,
    "client": CLIENT_FP,
    "device": DEVICE_FP,
}


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


class Oracle:
    """The same exchange with `ecdsa` and Python integers, written from the protocol's text."""

    def __init__(self, role: str, secret: bytes, *, seed: int, **binding: Any) -> None:
        self.is_client, self.s = role == "client", int.from_bytes(secret) % N
        self.random = random.Random(seed)
        self.ours = binding.get("profile") == "handfast"
        self.binding = binding
        self.x = [self.random.randrange(1, N) for _ in range(2)]
        self.mine = [G * x for x in self.x]
        self.theirs: list[Any] = []
        self.k: Any = INFINITY

    def label(self, *, client: bool) -> bytes:
        if not self.ours:
            return lp(b"client" if client else b"server")
        name = b"C" + self.binding["client"] if client else b"D" + self.binding["device"]
        return lp(name) + lp(self.binding["context"])

    def challenge(self, generator: Any, v: Any, x: Any, *, client: bool) -> int:
        items = b"".join(lp(one.to_bytes("uncompressed")) for one in (generator, v, x))
        return int.from_bytes(hashlib.sha256(items + self.label(client=client)).digest()) % N

    def item(self, generator: Any, x: int) -> bytes:
        nonce = self.random.randrange(1, N)
        point, commitment = generator * x, generator * nonce
        h = self.challenge(generator, commitment, point, client=self.is_client)
        r = (nonce - x * h) % N
        size = 32 if self.ours else (r.bit_length() + 7) // 8
        parts = (point.to_bytes("uncompressed"), commitment.to_bytes("uncompressed"))
        return b"".join(bytes([len(one)]) + one for one in (*parts, r.to_bytes(size)))

    def checked(self, generator: Any, item: bytes) -> tuple[Any, bytes]:
        """The point of an item whose proof holds, and what comes after it."""
        assert item[0] == item[66] == 65
        points = [
            PointJacobi.from_bytes(CURVE, item[at : at + 65], valid_encodings=["uncompressed"])
            for at in (1, 67)
        ]
        size = item[132]
        r = int.from_bytes(item[133 : 133 + size])
        h = self.challenge(generator, points[1], points[0], client=not self.is_client)
        assert generator * r + points[0] * h == points[1]
        return points[0], item[133 + size :]

    def write_round_one(self) -> bytes:
        return b"".join(self.item(G, x) for x in self.x)

    def read_round_one(self, data: bytes) -> None:
        first, rest = self.checked(G, data)
        second, rest = self.checked(G, rest)
        assert not rest
        self.theirs = [first, second]

    def write_round_two(self) -> bytes:
        generator = self.mine[0] + self.theirs[0] + self.theirs[1]
        return (b"" if self.is_client else b"\3\0\x17") + self.item(
            generator, self.x[1] * self.s % N
        )

    def read_round_two(self, data: bytes) -> None:
        if self.is_client:
            assert data[:3] == b"\3\0\x17"
            data = data[3:]
        point, rest = self.checked(self.mine[0] + self.mine[1] + self.theirs[0], data)
        assert not rest
        self.k = (point + self.theirs[1] * (-self.x[1] * self.s % N)) * self.x[1]

    def shared_point(self) -> bytes:
        return bytes(self.k.to_bytes("uncompressed"))

    def premaster(self) -> bytes:
        return hashlib.sha256(int(self.k.x()).to_bytes(32)).digest()


def lp(item: bytes) -> bytes:
    return len(item).to_bytes(4) + item


def run(client: EcJpake | Oracle, server: EcJpake | Oracle) -> None:
    server.read_round_one(client.write_round_one())
    client.read_round_one(server.write_round_one())
    client.read_round_two(server.write_round_two())
    server.read_round_two(client.write_round_two())


PROFILES: dict[str, dict[str, Any]] = {"ecjpake": {"profile": "ecjpake"}, "handfast": OURS}
each_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


@each_profile
def test_two_sides_agree(profile: dict[str, Any]) -> None:
    client = EcJpake("client", b"4821-9930", **profile, random_bytes=urandom)
    server = EcJpake("server", b"4821-9930", **profile, random_bytes=urandom)
    run(client, server)
    assert client.shared_point() == server.shared_point()
    assert client.premaster() == server.premaster()
    assert client.premaster() == hashlib.sha256(client.shared_point()[1:33]).digest()


@each_profile
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("role", ["client", "server"])
def test_the_oracle_agrees(profile: dict[str, Any], seed: int, role: str) -> None:
    """It checks each of our proofs and points, and we check its: in both roles."""
    secret = random.Random(seed).randbytes(1 + 17 * seed)
    other = "server" if role == "client" else "client"
    us = EcJpake(role, secret, random_bytes=seeded(seed), **profile)
    them = Oracle(other, secret, seed=seed + 100, **profile)
    run(*((us, them) if role == "client" else (them, us)))
    assert us.shared_point() == them.shared_point()
    assert us.premaster() == them.premaster()


@each_profile
def test_another_code_gives_another_key_and_no_error(profile: dict[str, Any]) -> None:
    client = EcJpake("client", b"48219930", **profile, random_bytes=urandom)
    server = EcJpake("server", b"48219931", **profile, random_bytes=urandom)
    run(client, server)
    assert client.premaster() != server.premaster()


@pytest.mark.parametrize("secret", [N - 1, N + 1, 2**256 - 1, 2**384 - 1, 1])
def test_a_secret_is_taken_modulo_the_order(secret: int) -> None:
    us = EcJpake("client", secret.to_bytes(48), random_bytes=seeded(1))
    them = Oracle("server", secret.to_bytes(48), seed=2)
    run(us, them)
    assert us.premaster() == them.premaster()


def test_our_round_one_has_330_bytes_whatever_the_proofs_are() -> None:
    lengths = {
        len(EcJpake("client", b"1", random_bytes=seeded(seed), **OURS).write_round_one())
        for seed in range(300)
    }
    assert lengths == {330}


def test_a_proof_with_leading_zeros_is_shortened_in_the_ecjpake_profile() -> None:
    """Mbed TLS writes numbers that way; every 128th round one has one."""
    for seed in count():
        written = EcJpake("client", b"1", random_bytes=seeded(seed)).write_round_one()
        if len(written) < 330:
            break
    EcJpake("server", b"1", random_bytes=urandom).read_round_one(written)
    Oracle("server", b"1", seed=0).read_round_one(written)


def test_a_proof_with_leading_zeros_may_be_written_in_full() -> None:
    for seed in count():
        us = EcJpake("client", b"1", random_bytes=seeded(seed))
        written = us.write_round_one()
        if written[132] == 31:
            break
    padded = written[:132] + b"\x20\0" + written[133:]
    EcJpake("server", b"1", random_bytes=urandom).read_round_one(padded)


def test_the_same_random_bytes_give_the_same_messages() -> None:
    one, other = (EcJpake("client", b"1", random_bytes=seeded(3)) for _ in range(2))
    assert one.write_round_one() == other.write_round_one()


def test_either_side_may_be_first_within_a_round() -> None:
    client, server = (
        EcJpake(role, b"1", **OURS, random_bytes=urandom) for role in ("client", "server")
    )
    ones = client.write_round_one(), server.write_round_one()
    server.read_round_one(ones[0])
    client.read_round_one(ones[1])
    twos = client.write_round_two(), server.write_round_two()
    server.read_round_two(twos[0])
    client.read_round_two(twos[1])
    assert client.premaster() == server.premaster()


# -- random bytes --------------------------------------------------------------------------------


def test_scalars_out_of_range_are_drawn_again() -> None:
    bad = [bytes(32), N.to_bytes(32), (N + 1).to_bytes(32), b"\xff" * 32]
    good = [number.to_bytes(32) for number in (5, 6, N - 1, 7)]
    drawn = iter([bad[0], good[0], bad[1], bad[2], good[1], good[2], bad[3], good[3]])
    plain = iter(good)
    redrawn = EcJpake("client", b"1", random_bytes=lambda _: next(drawn)).write_round_one()
    assert redrawn == EcJpake("client", b"1", random_bytes=lambda _: next(plain)).write_round_one()


@pytest.mark.parametrize("drawn", [bytes(32), b"\xff" * 32, b"", b"x" * 31, b"x" * 33, None])
def test_a_broken_random_source_ends_the_exchange(drawn: Any) -> None:
    broken = EcJpake("client", b"1", random_bytes=lambda _: drawn)
    refused(broken.write_round_one)
    refused(broken.write_round_one)


# -- misuse ---------------------------------------------------------------------------------------


def refused(step: Callable[..., object], *arguments: Any, fault: Fault | None = None) -> None:
    """The step is `Misuse`, or fails for this fault in the other side's bytes."""
    with pytest.raises(Misuse if fault is None else JpakeError) as caught:
        step(*arguments)
    assert getattr(caught.value, "fault", None) is fault
    assert caught.value.advice


@pytest.mark.parametrize(
    "options",
    [
        {"role": "device"},
        {"role": ""},
        {"role": None},
        {"secret": "text"},
        {"secret": None},
        {"secret": bytearray(b"1")},
        {"secret": b""},
        {"secret": b"\0"},
        {"secret": N.to_bytes(32)},
        {"secret": (N * 77).to_bytes(48)},
        {"profile": ""},
        {"profile": "HANDFAST"},
        {"profile": None},
        {"context": "text"},
        {"context": b"x"},  # the profile ecjpake has no place for it
        {"client": CLIENT_FP, "device": DEVICE_FP},
        {**OURS, "client": DEVICE_FP},
        {**OURS, "client": b""},
        {**OURS, "device": b""},
        {**OURS, "device": None},
    ],
    ids=repr,
)
def test_wrong_arguments_are_refused(options: dict[str, Any]) -> None:
    given = {"role": "client", "secret": b"1", "random_bytes": urandom, **options}
    refused(lambda: EcJpake(given.pop("role"), given.pop("secret"), **given))


STEPS = ("write_round_one", "read_round_one", "write_round_two", "read_round_two")


def begun(role: str, upto: int) -> tuple[EcJpake, dict[str, tuple[bytes, ...]]]:
    """A side that has taken `steps` steps, and what each step would be given."""
    us = EcJpake(role, b"1", random_bytes=seeded(1), **OURS)
    them = EcJpake(
        {"client": "server", "server": "client"}[role], b"1", **OURS, random_bytes=urandom
    )
    twin = EcJpake(role, b"1", random_bytes=seeded(1), **OURS)
    them.read_round_one(twin.write_round_one())
    given: dict[str, tuple[bytes, ...]] = {"write_round_one": (), "write_round_two": ()}
    given["read_round_one"] = (them.write_round_one(),)
    given["read_round_two"] = (them.write_round_two(),)
    for step in STEPS[:upto]:
        getattr(us, step)(*given[step])
    return us, given


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("upto", range(5))
def test_a_step_out_of_turn_is_refused(role: str, upto: int) -> None:
    us, given = begun(role, upto)
    early = STEPS[2:] if upto < 2 else ()
    for step in (*STEPS[:upto], *early):
        refused(getattr(us, step), *given[step])
    if upto < 4:
        refused(us.shared_point)
        refused(us.premaster)
        for step in STEPS[upto:]:  # and misuse has done no harm
            getattr(us, step)(*given[step])
    assert len(us.premaster()) == 32


def test_after_a_refusal_nothing_goes_on() -> None:
    us, given = begun("client", 3)
    broken = given["read_round_two"][0][:-1]
    refused(us.read_round_two, broken, fault=Fault.MALFORMED)
    refused(us.read_round_two, *given["read_round_two"])
    refused(us.shared_point)
    assert not us._secrets
    us, given = begun("client", 1)
    refused(us.read_round_one, b"", fault=Fault.MALFORMED)
    refused(us.read_round_one, *given["read_round_one"])
    refused(us.write_round_two)


def test_a_response_is_below_the_order_and_has_32_bytes_at_most() -> None:
    def read(response: bytes) -> int:
        return int(Reader(bytes([len(response)]) + response).response_untrusted())

    assert read(b"\0") == read(bytes(32)) == 0
    assert read((N - 1).to_bytes(32)) == N - 1
    for number in (N, N + 1, 2**256 - 1):
        refused(read, number.to_bytes(32), fault=Fault.ZKP_FAILED)
    for size in (33, 64, 255):
        refused(read, bytes(size - 1) + b"\1", fault=Fault.MALFORMED)


@pytest.mark.parametrize("role", ["client", "server"])
def test_nothing_may_follow_a_round(role: str) -> None:
    for step in (1, 3):
        us, given = begun(role, step)
        longer = given[STEPS[step]][0] + b"\0"
        refused(getattr(us, STEPS[step]), longer, fault=Fault.MALFORMED)


@pytest.mark.parametrize("data", [None, "text", 7, [b"x"], bytearray(330)])
def test_a_round_that_is_no_bytes_is_malformed(data: Any) -> None:
    refused(
        EcJpake("client", b"1", random_bytes=urandom).read_round_one, data, fault=Fault.MALFORMED
    )


def test_the_points_of_a_round_that_has_not_been_are_not_there() -> None:
    us = EcJpake("client", b"1", random_bytes=urandom)
    refused(us.public_points, "client")
    written = us.write_round_one()
    assert us.public_points("client") == (written[1:66], written[166:231])
    refused(us.public_points, "server")


def test_nothing_secret_shows() -> None:
    us, _ = begun("client", 4)
    assert not us._secrets
    assert repr(us).startswith("<peer.pairing.jpake.EcJpake object")
    assert "48219930" not in repr(EcJpake("client", b"48219930", random_bytes=urandom).__dict__)


# -- the curve and the stretching -----------------------------------------------------------------


def test_points_are_those_of_the_oracle() -> None:
    source = random.Random(7)
    for _ in range(20):
        number = source.randrange(1, N)
        ours = p256.times(p256.base(), p256.secret_scalar(number.to_bytes(32)))
        theirs = G * number
        assert p256.encode(ours) == theirs.to_bytes("uncompressed")
        twice = p256.times(ours, p256.public_scalar(b"\2"))
        assert p256.encode(ours + ours) == p256.encode(twice)
        assert p256.encode(twice) == (theirs + theirs).to_bytes("uncompressed")


@pytest.mark.parametrize("number", [0, 1, 2, 3, N - 1, N, N + 1, 2**255, 2**256 - 1, 2**384 - 1])
@pytest.mark.parametrize("make", [p256.secret_scalar, p256.public_scalar])
def test_scalars_at_the_edges(number: int, make: Callable[[bytes], Any]) -> None:
    scalar = make(number.to_bytes(48))
    assert p256.scalar_bytes(p256.reduce(scalar)) == (number % N).to_bytes(32)
    assert p256.is_in_group(scalar) == (number < N)
    assert p256.is_zero(scalar) == (number == 0)
    multiple = p256.times(p256.base(), scalar)
    assert p256.is_infinity(multiple) == (number % N == 0)
    if number % N:
        expected: Point = G * (number % N)
        assert p256.encode(multiple) == expected.to_bytes("uncompressed")


P = p256.FIELD
GX, GY = int(G.x()), int(G.y())


@pytest.mark.parametrize(
    ("x", "y"), [(0, 0), (GX, 0), (0, GY), (GX, GY + 1), (P, GY), (GX, P), (P, P)]
)
def test_what_is_no_point(x: int, y: int) -> None:
    with pytest.raises(p256.InvalidPoint):
        p256.decode_untrusted(b"\4" + x.to_bytes(32) + y.to_bytes(32))


@pytest.mark.parametrize("start", [b"", b"\0", b"\2", b"\3", b"\5", b"\6", b"\4\0"])
def test_what_is_no_spelling_of_a_point(start: bytes) -> None:
    with pytest.raises(p256.InvalidPoint):
        p256.decode_untrusted(start + G.to_bytes("raw"))


def test_a_coordinate_that_is_not_reduced_is_no_point() -> None:
    """The library would reduce it, and one point would have two spellings."""
    root = pow(int(CURVE.b()), (P + 1) // 4, P)  # the points with x = 0
    p256.decode_untrusted(b"\4" + bytes(32) + root.to_bytes(32))
    with pytest.raises(p256.InvalidPoint):
        p256.decode_untrusted(b"\4" + P.to_bytes(32) + root.to_bytes(32))


def test_infinity_has_no_bytes() -> None:
    with pytest.raises(p256.InvalidPoint):
        p256.encode(p256.times(p256.base(), p256.secret_scalar(b"\0")))


def test_stretching_is_scrypt() -> None:
    expected = hashlib.scrypt(b"7K3MQ2ZX", salt=b"salt", n=2**15, r=8, p=1, maxmem=2**26, dklen=48)
    assert stretched(b"7K3MQ2ZX", b"salt") == expected


# -- without the library --------------------------------------------------------------------------

WITHOUT = """
import sys
from os import urandom
sys.modules["Crypto"] = None
import peer.pairing.code
from peer.pairing.jpake import EcJpake, JpakeError, unavailable
assert "pycryptodome is not installed" in unavailable(), unavailable()
assert "`code`" in unavailable()
try:
    EcJpake("client", b"1", random_bytes=urandom)
except JpakeError as error:
    assert error.fault == "unavailable" and error.advice
else:
    raise AssertionError
"""
OLD = """
import Crypto
Crypto.version_info = (3, 23, "0")
from peer.pairing.jpake import unavailable
assert "older than 4.0" in unavailable(), unavailable()
"""
SLOW = """
from peer.pairing.jpake import unavailable
assert "no compiled arithmetic" in unavailable(), unavailable()
"""


@pytest.mark.parametrize(
    ("script", "forced"),
    [(WITHOUT, ""), (OLD, ""), (SLOW, "native")],
    ids=["not there", "too old", "not compiled"],
)
def test_without_a_fit_library_it_says_why(script: str, forced: str) -> None:
    env = {**os.environ, **({"PYCRYPTODOME_INTEGER": forced} if forced else {})}
    subprocess.run([sys.executable, "-c", script], check=True, env=env, timeout=60)


def test_here_it_is_there() -> None:
    assert unavailable() == ""
