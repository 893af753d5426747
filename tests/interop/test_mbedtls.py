"""EC-JPAKE with Mbed TLS: both roles and both orders of messages, many times.

The foreign side is a small C program for the library (mbedtls/ecjpake.c, built by mbedtls/build);
it reads one command per line and prints one answer per line.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from os import urandom
from typing import IO, TYPE_CHECKING

import pytest

from peer.pairing.jpake import ROUND_ONE_BYTES, EcJpake, Fault, JpakeError

if TYPE_CHECKING:
    from typing import Self

TOOL = "mbedtls-ecjpake"
VERIFY_FAILED, BAD_INPUT = "refused 4e00", "refused 4f80"  # error codes of ecp.h
OTHER = {"client": "server", "server": "client"}

pytestmark = [pytest.mark.slow, pytest.mark.needs_tool(TOOL)]


class Foreign:
    """One side of one exchange, computed by Mbed TLS."""

    def __init__(self, role: str, password: str) -> None:
        self._process = subprocess.Popen(
            [TOOL, role, password], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0

    def ask(self, command: str, data: bytes = b"") -> str:
        into, out = _piped(self._process.stdin), _piped(self._process.stdout)
        into.write(f"{command} {data.hex()}\n")
        into.flush()
        return out.readline().strip()

    def write_round_one(self) -> bytes:
        return bytes.fromhex(self.ask("write-one"))

    def read_round_one(self, data: bytes) -> None:
        assert self.ask("read-one", data) == "ok"

    def write_round_two(self) -> bytes:
        return bytes.fromhex(self.ask("write-two"))

    def read_round_two(self, data: bytes) -> None:
        assert self.ask("read-two", data) == "ok"

    def premaster(self) -> bytes:
        return bytes.fromhex(self.ask("derive"))


def _piped(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


Start = Callable[[str, str], Foreign]


@pytest.fixture
def foreign() -> Iterator[Start]:
    running: list[Foreign] = []

    def start(role: str, password: str) -> Foreign:
        running.append(Foreign(role, password))
        return running[-1]

    yield start
    for one in running:
        with one:
            pass


def run(first: EcJpake | Foreign, second: EcJpake | Foreign) -> None:
    """Exchange both rounds; `first` sends the first message of each."""
    second.read_round_one(first.write_round_one())
    first.read_round_one(second.write_round_one())
    second.read_round_two(first.write_round_two())
    first.read_round_two(second.write_round_two())


@pytest.mark.parametrize("role", OTHER)
@pytest.mark.parametrize("we_send_first", [True, False], ids=["we send first", "they send first"])
@pytest.mark.parametrize("password", ["threadjpaketest", "4821-9930", "1", "p" * 64])
def test_both_sides_derive_the_same_secret(
    foreign: Start, role: str, we_send_first: bool, password: str
) -> None:
    for _ in range(10):
        us, them = (
            EcJpake(role, password.encode(), random_bytes=urandom),
            foreign(OTHER[role], password),
        )
        run(*((us, them) if we_send_first else (them, us)))
        assert us.premaster() == them.premaster()


def test_proofs_without_leading_zeros_are_accepted_both_ways(foreign: Start) -> None:
    """r is encoded without leading zeros, so that one message in 128 is shorter than the others."""
    us, them = EcJpake("client", b"1", random_bytes=urandom), foreign("server", "1")
    while len(ours := us.write_round_one()) == ROUND_ONE_BYTES:
        us = EcJpake("client", b"1", random_bytes=urandom)
    while len(theirs := them.write_round_one()) == ROUND_ONE_BYTES:
        pass  # each one is a new proof
    them.read_round_one(ours)
    us.read_round_one(theirs)


@pytest.mark.parametrize("role", OTHER)
def test_different_passwords_give_different_secrets(foreign: Start, role: str) -> None:
    us, them = EcJpake(role, b"48219930", random_bytes=urandom), foreign(OTHER[role], "48219931")
    run(us, them)
    assert us.premaster() != them.premaster()


@pytest.mark.parametrize("role", OTHER)
def test_both_sides_refuse_an_invalid_proof(foreign: Start, role: str) -> None:
    us, them = EcJpake(role, b"1", random_bytes=urandom), foreign(OTHER[role], "1")
    ours, theirs = us.write_round_one(), them.write_round_one()
    assert them.ask("read-one", ours[:-1] + bytes([ours[-1] ^ 1])) == VERIFY_FAILED
    with pytest.raises(JpakeError) as caught:
        us.read_round_one(theirs[:-1] + bytes([theirs[-1] ^ 1]))
    assert caught.value.fault is Fault.ZKP_FAILED


@pytest.mark.parametrize("role", OTHER)
def test_both_sides_refuse_their_own_messages(foreign: Start, role: str) -> None:
    us, them = EcJpake(role, b"1", random_bytes=urandom), foreign(OTHER[role], "1")
    assert them.ask("read-one", them.write_round_one()) == VERIFY_FAILED
    with pytest.raises(JpakeError):
        us.read_round_one(us.write_round_one())


@pytest.mark.parametrize("role", OTHER)
def test_both_sides_refuse_trailing_bytes(foreign: Start, role: str) -> None:
    us, them = EcJpake(role, b"1", random_bytes=urandom), foreign(OTHER[role], "1")
    assert them.ask("read-one", us.write_round_one() + b"\0") == BAD_INPUT
    with pytest.raises(JpakeError):
        us.read_round_one(them.write_round_one() + b"\0")
