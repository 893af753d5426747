"""Fixtures: a device on loopback, in this process or in its own, and a client of it."""

from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from device_app.console import passphrases
from peer.net.aiocoap_seam import managers
from tests.kit.device import HASTY, QUICK_CLOSE, Caller, Device, Kit
from tests.kit.remote_agents import FakeAgent
from tests.kit.remote_servers import broker, relay
from tests.kit.twins import Twins

__all__ = ["broker", "relay"]


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = Kit(tmp_path / "home", limits=QUICK_CLOSE, board_seconds=0.05)
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            await made.close()


@pytest.fixture
async def device(kit: Kit) -> Device:
    """A fresh device with a closed window."""
    return await kit.device()


@pytest.fixture
async def owner(kit: Kit, device: Device) -> Caller:
    """The first client to pair."""
    return await kit.paired(device, "olga")


@pytest.fixture
def agent() -> FakeAgent:
    """The remote agent of a device; without brokers and carriers."""
    return FakeAgent()


@pytest.fixture
def quick_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace scrypt by one hash, for tests that open many backups."""

    class QuickScrypt:
        def __init__(self, *, salt: bytes, **_parameters: int) -> None:
            self._salt = salt

        def derive(self, words: bytes) -> bytes:
            return sha256(self._salt + words).digest()

    monkeypatch.setattr(passphrases, "Scrypt", QuickScrypt)


@pytest.fixture
async def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Twins]:
    """Two equal devices, of which one has no direct path."""
    # On a busy machine, aiocoap would acknowledge some requests before they are answered.
    monkeypatch.setattr(managers, "EMPTY_ACK_SECONDS", 3600.0)
    monkeypatch.setattr(managers, "PARALLEL_EMPTY_ACK_SECONDS", 3600.0)
    ends: list[Any] = []
    try:
        yield await Twins.start(tmp_path, ends.append, limits=HASTY)
    finally:
        for end in reversed(ends):
            await end()
