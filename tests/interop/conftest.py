"""Programs of other projects run against handfast over real UDP on loopback."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key

from peer.identity import Identity
from peer.net.client import CoapsClient
from tests.kit.interop import ForeignProgram, Keys, Run, write_keys
from tests.kit.serve import Serve, Servers


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Start programs: `await run("openssl", "version")`."""
    running: list[ForeignProgram] = []

    async def start(*command: str | Path, env: dict[str, str] | None = None) -> ForeignProgram:
        running.append(ForeignProgram(*command, env=env))
        return running[-1]

    yield start
    for program in running:
        await program.stop()


@pytest.fixture
def theirs(tmp_path: Path) -> Keys:
    """The key files of the foreign program."""
    return write_keys(tmp_path, "theirs", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def p384(tmp_path: Path) -> Keys:
    """The files of a valid key on a curve that handfast does not support."""
    return write_keys(tmp_path, "p384", ec.generate_private_key(ec.SECP384R1()))


@pytest.fixture
def rsa(tmp_path: Path) -> Keys:
    """The files of a valid key of a type that handfast does not support."""
    return write_keys(tmp_path, "rsa", generate_rsa_key(65537, 2048))


@pytest.fixture(scope="session")
def ours() -> Identity:
    return Identity.create()


@pytest.fixture
async def serve(ours: Identity) -> AsyncIterator[Serve]:
    """Start servers: `await serve(pairing=…, ccm8=…, mode=…)`."""
    servers = Servers(ours)
    yield partial(servers.start, value_text="value {};")
    await servers.close()


@pytest.fixture
async def caller(ours: Identity) -> AsyncIterator[CoapsClient]:
    """A client of handfast."""
    async with CoapsClient(ours) as one:
        yield one
