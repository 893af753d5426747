"""J-PAKE with Mbed TLS in the ecjpake profile: both roles, both ways, many runs.

The foreign side is a small C program around the library (mbedtls/ecjpake.c, made by mbedtls/build);
it takes one command a line and gives one answer a line.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from os import urandom
from typing import IO, TYPE_CHECKING

import pytest

from peer.pairing.jpake import EcJpake, Fault, JpakeError

if TYPE_CHECKING:
    from typing import Self

TOOL = "mbedtls-ecjpake"
VERIFY_FAILED, BAD_INPUT = "refused 4e00", "refused 4f80"  # of ecp.h
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
    """`first` is asked first in both rounds."""
    second.read_round_one(first.write_round_one())
    first.read_round_one(second.write_round_one())
    second.read_round_two(first.write_round_two())
    first.read_round_two(second.write_round_two())


@pytest.mark.parametrize("role", OTHER)
@pytest.mark.parametrize("we_begin", [True, False], ids=["we begin", "they begin"])
@pytest.mark.parametrize("password", ["threadjpaketest", "4821-9930", "1", "p" * 64])
def test_both_come_to_the_same_secret(
    foreign: Start, role: str, we_begin: bool, password: str
) -> None:
    for _ in range(10):
        us, them = (
            EcJpake(role, password.encode(), random_bytes=urandom),
            foreign(OTHER[role], password),
        )
        run(*((us, them) if we_begin else (them, us)))
        assert us.premaster() == them.premaster()


def test_short_proofs_are_read_both_ways(foreign: Start) -> None:
    """r without its leading zeros: each side meets some of the other's in that number of rounds."""
    shortest = {"client": 330, "server": 330}
    while max(shortest.values()) == 330:
        us, them = EcJpake("client", b"1", random_bytes=urandom), foreign("server", "1")
        ours = us.write_round_one()
        them.read_round_one(ours)
        theirs = them.write_round_one()
        us.read_round_one(theirs)
        shortest["client"] = min(shortest["client"], len(ours))
        shortest["server"] = min(shortest["server"], len(theirs))


@pytest.mark.parametrize("role", OTHER)
def test_another_password_gives_another_secret(foreign: Start, role: str) -> None:
    us, them = EcJpake(role, b"48219930", random_bytes=urandom), foreign(OTHER[role], "48219931")
    run(us, them)
    assert us.premaster() != them.premaster()


@pytest.mark.parametrize("role", OTHER)
def test_both_refuse_what_is_not_proved(foreign: Start, role: str) -> None:
    us, them = EcJpake(role, b"1", random_bytes=urandom), foreign(OTHER[role], "1")
    ours, theirs = us.write_round_one(), them.write_round_one()
    assert them.ask("read-one", ours[:-1] + bytes([ours[-1] ^ 1])) == VERIFY_FAILED
    with pytest.raises(JpakeError) as caught:
        us.read_round_one(theirs[:-1] + bytes([theirs[-1] ^ 1]))
    assert caught.value.fault is Fault.ZKP_FAILED


@pytest.mark.parametrize("role", OTHER)
def test_both_refuse_their_own_words(foreign: Start, role: str) -> None:
    us, them = EcJpake(role, b"1", random_bytes=urandom), foreign(OTHER[role], "1")
    assert them.ask("read-one", them.write_round_one()) == VERIFY_FAILED
    with pytest.raises(JpakeError):
        us.read_round_one(us.write_round_one())


@pytest.mark.parametrize("role", OTHER)
def test_both_refuse_a_round_with_something_behind_it(foreign: Start, role: str) -> None:
    us, them = EcJpake(role, b"1", random_bytes=urandom), foreign(OTHER[role], "1")
    assert them.ask("read-one", us.write_round_one() + b"\0") == BAD_INPUT
    with pytest.raises(JpakeError):
        us.read_round_one(them.write_round_one() + b"\0")
