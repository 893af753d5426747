"""The known exchange of Mbed TLS's self test, and messages that its parser accepts or rejects.

vectors/ecjpake.json names its sources: the values are from library/ecjpake.c of Mbed TLS, the
parser cases from the test suite of TF-PSA-Crypto; nonces, hashes and generators were computed from
them.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peer.pairing import p256
from peer.pairing.binding import lp
from peer.pairing.jpake import EcJpake, JpakeError
from peer.pairing.schnorr import challenge

VECTORS = json.loads((Path(__file__).parent / "vectors" / "ecjpake.json").read_text())
SETS: list[dict[str, str]] = VECTORS["sets"]
CASES: list[dict[str, str]] = VECTORS["parser_cases"]["cases"]
SCALARS = {"client": ("x1", "v1", "x2", "v2", "vc"), "server": ("x3", "v3", "x4", "v4", "vs")}

each_set = pytest.mark.parametrize("known", SETS, ids=lambda known: known["id"])


def octets(known: dict[str, str], name: str) -> bytes:
    return bytes.fromhex(known[name])


def seeded_bytes(known: dict[str, str], role: str) -> Callable[[int], bytes]:
    """The scalars in the order in which the public interface requests them, each once."""
    drawn: Iterator[bytes] = (octets(known, name) for name in SCALARS[role])

    def random_bytes(count: int) -> bytes:
        assert count == 32
        return next(drawn)

    return random_bytes


def side(known: dict[str, str], role: str) -> EcJpake:
    return EcJpake(role, known["password_ascii"].encode(), random_bytes=seeded_bytes(known, role))


@each_set
def test_every_message_and_the_secret_match_byte_for_byte(known: dict[str, str]) -> None:
    client, server = side(known, "client"), side(known, "server")
    assert client.write_round_one() == octets(known, "client_round_one")
    assert server.write_round_one() == octets(known, "server_round_one")
    client.read_round_one(octets(known, "server_round_one"))
    server.read_round_one(octets(known, "client_round_one"))
    assert server.write_round_two() == octets(known, "server_round_two")
    client.read_round_two(octets(known, "server_round_two"))
    assert client.write_round_two() == octets(known, "client_round_two")
    server.read_round_two(octets(known, "client_round_two"))
    for one in (client, server):
        assert one.shared_point() == octets(known, "shared_point_K_uncompressed")
        assert one.premaster() == octets(known, "pms_sha256_of_Kx")


def items(message: bytes) -> list[tuple[bytes, bytes]]:
    """The point X and the proof point V of each item."""
    found = []
    while message:
        x, message = message[1:66], message[66:]
        v, message = message[1:66], message[66:]
        message = message[1 + message[0] :]
        found.append((x, v))
    return found


@each_set
def test_every_intermediate_value_matches(known: dict[str, str]) -> None:
    (x1, v1), (x2, v2) = items(octets(known, "client_round_one"))
    (x3, v3), (x4, v4) = items(octets(known, "server_round_one"))
    [(xs, vs)] = items(octets(known, "server_round_two")[3:])
    [(xc, vc)] = items(octets(known, "client_round_two"))
    point = p256.decode_untrusted
    ga = p256.encode(point(x1) + point(x3) + point(x4))
    gb = p256.encode(point(x1) + point(x2) + point(x3))
    assert (ga, gb) == (octets(known, "GA_uncompressed"), octets(known, "GB_uncompressed"))
    g = p256.encode(p256.base())
    proofs = {
        "h1": (g, v1, x1, "client"),
        "h2": (g, v2, x2, "client"),
        "h3": (g, v3, x3, "server"),
        "h4": (g, v4, x4, "server"),
        "hs": (gb, vs, xs, "server"),
        "hc": (ga, vc, xc, "client"),
    }
    for name, (generator, v, x, role) in proofs.items():
        assert p256.scalar_bytes(challenge(generator, v, x, lp(role.encode()))).hex() == known[name]
    s = p256.reduce(p256.secret_scalar(known["password_ascii"].encode()))
    assert p256.scalar_bytes(s).hex() == known["s_hex"]


def ready(case: dict[str, str]) -> Callable[[bytes], None]:
    """The reading step of a case, on an object in the state that the case requires."""
    role, known = case["reader_role"], SETS[0]
    reader = side(known, role)
    if case["call"] == "round_one":
        return reader.read_round_one
    reader.write_round_one()
    other = "server" if role == "client" else "client"
    reader.read_round_one(octets(known, f"{other}_round_one"))
    return reader.read_round_two


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_parser_case_is_accepted_or_rejected_as_documented(case: dict[str, str]) -> None:
    read, message = ready(case), bytes.fromhex(case["message"])
    if case["expect"] == "ok":
        read(message)
        return
    with pytest.raises(JpakeError) as caught:
        read(message)
    assert caught.value.fault == case["expect"]


def test_the_vector_file_is_complete() -> None:
    def counted(key: str, value: str) -> int:
        return sum(case[key] == value for case in CASES)

    facts: dict[str, Any] = {
        "ok": counted("expect", "ok"),
        "round_one": counted("call", "round_one"),
        "all": len(CASES),
    }
    assert facts == {"ok": 3, "round_one": 18, "all": 38}
