"""Fixtures: a device on loopback, in this process or in its own, and a client of it."""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.device import QUICK_CLOSE, Caller, Device, Kit


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
