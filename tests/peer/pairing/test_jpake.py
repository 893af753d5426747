"""EC J-PAKE agrees with an independent implementation on `ecdsa`; an object is for one exchange."""

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
from peer.pairing.jpake import EcJpake, Fault, JpakeError, unavailable
from peer.pairing.schnorr import Reader
from peer.pairing.typed import stretched
from tests.kit.internals import secrets_of

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
    """The same exchange with `ecdsa` and Python integers, written from the text of the protocol."""

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
        """The point of an item whose proof is valid, and the bytes after it."""
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
def test_both_sides_derive_the_same_key(profile: dict[str, Any]) -> None:
    client = EcJpake("client", b"4821-9930", **profile, random_bytes=urandom)
    server = EcJpake("server", b"4821-9930", **profile, random_bytes=urandom)
    run(client, server)
    assert client.shared_point() == server.shared_point()
    assert client.premaster() == server.premaster()
    assert client.premaster() == hashlib.sha256(client.shared_point()[1:33]).digest()


@each_profile
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("role", ["client", "server"])
def test_our_implementation_agrees_with_the_oracle(
    profile: dict[str, Any], seed: int, role: str
) -> None:
    """In both roles, the oracle verifies our proofs and points, and we verify its."""
    secret = random.Random(seed).randbytes(1 + 17 * seed)
    other = "server" if role == "client" else "client"
    us = EcJpake(role, secret, random_bytes=seeded(seed), **profile)
    them = Oracle(other, secret, seed=seed + 100, **profile)
    run(*((us, them) if role == "client" else (them, us)))
    assert us.shared_point() == them.shared_point()
    assert us.premaster() == them.premaster()


@each_profile
def test_different_codes_give_different_keys_without_an_error(profile: dict[str, Any]) -> None:
    client = EcJpake("client", b"48219930", **profile, random_bytes=urandom)
    server = EcJpake("server", b"48219931", **profile, random_bytes=urandom)
    run(client, server)
    assert client.premaster() != server.premaster()


@pytest.mark.parametrize("secret", [N - 1, N + 1, 2**256 - 1, 2**384 - 1, 1])
def test_a_secret_is_reduced_modulo_the_order(secret: int) -> None:
    us = EcJpake("client", secret.to_bytes(48), random_bytes=seeded(1))
    them = Oracle("server", secret.to_bytes(48), seed=2)
    run(us, them)
    assert us.premaster() == them.premaster()


def test_round_one_of_the_handfast_profile_always_has_330_bytes() -> None:
    lengths = {
        len(EcJpake("client", b"1", random_bytes=seeded(seed), **OURS).write_round_one())
        for seed in range(300)
    }
    assert lengths == {330}


def test_a_proof_with_leading_zeros_is_shortened_in_the_ecjpake_profile() -> None:
    """Mbed TLS encodes numbers that way; one in 128 round-one messages has such a proof."""
    for seed in count():
        written = EcJpake("client", b"1", random_bytes=seeded(seed)).write_round_one()
        if len(written) < 330:
            break
    EcJpake("server", b"1", random_bytes=urandom).read_round_one(written)
    Oracle("server", b"1", seed=0).read_round_one(written)


def test_a_proof_with_leading_zeros_is_accepted_in_full_length() -> None:
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


def test_scalars_out_of_range_are_redrawn() -> None:
    bad = [bytes(32), N.to_bytes(32), (N + 1).to_bytes(32), b"\xff" * 32]
    good = [number.to_bytes(32) for number in (5, 6, N - 1, 7)]
    drawn = iter([bad[0], good[0], bad[1], bad[2], good[1], good[2], bad[3], good[3]])
    plain = iter(good)
    redrawn = EcJpake("client", b"1", random_bytes=lambda _: next(drawn)).write_round_one()
    assert redrawn == EcJpake("client", b"1", random_bytes=lambda _: next(plain)).write_round_one()


@pytest.mark.parametrize("drawn", [bytes(32), b"\xff" * 32, b"", b"x" * 31, b"x" * 33, None])
def test_a_failing_random_source_ends_the_exchange(drawn: Any) -> None:
    failing = EcJpake("client", b"1", random_bytes=lambda _: drawn)
    expect_failure(failing.write_round_one)
    expect_failure(failing.write_round_one)


# -- misuse ---------------------------------------------------------------------------------------


def expect_failure(
    step: Callable[..., object], *arguments: Any, fault: Fault | None = None
) -> None:
    """Expect `Misuse`, or an error with this fault in the message of the other side."""
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
        {"context": b"x"},  # the profile ecjpake uses no context
        {"client": CLIENT_FP, "device": DEVICE_FP},
        {**OURS, "client": DEVICE_FP},
        {**OURS, "client": b""},
        {**OURS, "device": b""},
        {**OURS, "device": None},
    ],
    ids=repr,
)
def test_wrong_arguments_raise_misuse(options: dict[str, Any]) -> None:
    given = {"role": "client", "secret": b"1", "random_bytes": urandom, **options}
    expect_failure(lambda: EcJpake(given.pop("role"), given.pop("secret"), **given))


STEPS = ("write_round_one", "read_round_one", "write_round_two", "read_round_two")


def begun(role: str, upto: int) -> tuple[EcJpake, dict[str, tuple[bytes, ...]]]:
    """A side that has completed `upto` steps, and the arguments of each step."""
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
def test_a_step_out_of_turn_raises_misuse(role: str, upto: int) -> None:
    us, given = begun(role, upto)
    early = STEPS[2:] if upto < 2 else ()
    for step in (*STEPS[:upto], *early):
        expect_failure(getattr(us, step), *given[step])
    if upto < 4:
        expect_failure(us.shared_point)
        expect_failure(us.premaster)
        for step in STEPS[upto:]:  # misuse leaves the state unchanged
            getattr(us, step)(*given[step])
    assert len(us.premaster()) == 32


def test_no_step_is_possible_after_a_failed_one() -> None:
    us, given = begun("client", 3)
    truncated = given["read_round_two"][0][:-1]
    expect_failure(us.read_round_two, truncated, fault=Fault.MALFORMED)
    expect_failure(us.read_round_two, *given["read_round_two"])
    expect_failure(us.shared_point)
    assert not secrets_of(us)
    us, given = begun("client", 1)
    expect_failure(us.read_round_one, b"", fault=Fault.MALFORMED)
    expect_failure(us.read_round_one, *given["read_round_one"])
    expect_failure(us.write_round_two)


def test_a_proof_response_above_the_order_or_32_bytes_is_rejected() -> None:
    def read(response: bytes) -> int:
        return int(Reader(bytes([len(response)]) + response).response_untrusted())

    assert read(b"\0") == read(bytes(32)) == 0
    assert read((N - 1).to_bytes(32)) == N - 1
    for number in (N, N + 1, 2**256 - 1):
        expect_failure(read, number.to_bytes(32), fault=Fault.ZKP_FAILED)
    for size in (33, 64, 255):
        expect_failure(read, bytes(size - 1) + b"\1", fault=Fault.MALFORMED)


@pytest.mark.parametrize("role", ["client", "server"])
def test_trailing_bytes_after_a_round_are_malformed(role: str) -> None:
    for step in (1, 3):
        us, given = begun(role, step)
        longer = given[STEPS[step]][0] + b"\0"
        expect_failure(getattr(us, STEPS[step]), longer, fault=Fault.MALFORMED)


@pytest.mark.parametrize("data", [None, "text", 7, [b"x"], bytearray(330)])
def test_a_round_that_is_not_bytes_is_malformed(data: Any) -> None:
    expect_failure(
        EcJpake("client", b"1", random_bytes=urandom).read_round_one, data, fault=Fault.MALFORMED
    )


def test_public_points_require_their_round_to_be_complete() -> None:
    us = EcJpake("client", b"1", random_bytes=urandom)
    expect_failure(us.public_points, "client")
    written = us.write_round_one()
    assert us.public_points("client") == (written[1:66], written[166:231])
    expect_failure(us.public_points, "server")


def test_a_finished_exchange_keeps_no_secrets() -> None:
    us, _ = begun("client", 4)
    assert not secrets_of(us)
    assert repr(us).startswith("<peer.pairing.jpake.EcJpake object")
    assert "48219930" not in repr(EcJpake("client", b"48219930", random_bytes=urandom).__dict__)


# -- the curve and key stretching -----------------------------------------------------------------


def test_point_arithmetic_matches_the_oracle() -> None:
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
def test_boundary_values_of_scalars_are_handled(number: int, make: Callable[[bytes], Any]) -> None:
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
def test_coordinates_that_are_not_on_the_curve_are_rejected(x: int, y: int) -> None:
    with pytest.raises(p256.InvalidPoint):
        p256.decode_untrusted(b"\4" + x.to_bytes(32) + y.to_bytes(32))


@pytest.mark.parametrize("start", [b"", b"\0", b"\2", b"\3", b"\5", b"\6", b"\4\0"])
def test_other_point_encodings_are_rejected(start: bytes) -> None:
    with pytest.raises(p256.InvalidPoint):
        p256.decode_untrusted(start + G.to_bytes("raw"))


def test_a_coordinate_that_is_not_reduced_is_rejected() -> None:
    """The library would reduce it, so that one point had two encodings."""
    root = pow(int(CURVE.b()), (P + 1) // 4, P)  # the points with x = 0
    p256.decode_untrusted(b"\4" + bytes(32) + root.to_bytes(32))
    with pytest.raises(p256.InvalidPoint):
        p256.decode_untrusted(b"\4" + P.to_bytes(32) + root.to_bytes(32))


def test_infinity_cannot_be_encoded() -> None:
    with pytest.raises(p256.InvalidPoint):
        p256.encode(p256.times(p256.base(), p256.secret_scalar(b"\0")))


def test_codes_are_stretched_with_scrypt() -> None:
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
assert "install pycryptodome 4 or newer" in unavailable()
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
    ids=["missing", "too old", "not compiled"],
)
def test_without_a_suitable_library_the_reason_is_given(script: str, forced: str) -> None:
    env = {**os.environ, **({"PYCRYPTODOME_INTEGER": forced} if forced else {})}
    subprocess.run([sys.executable, "-c", script], check=True, env=env, timeout=60)


def test_jpake_is_available_here() -> None:
    assert unavailable() == ""
