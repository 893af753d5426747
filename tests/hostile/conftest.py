"""Fixtures: a real device in this process, reached over real UDP, and its callers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.device import Caller, Device, Kit


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = Kit(tmp_path / "home")
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def device(kit: Kit) -> Device:
    """A fresh device with a closed window and no users."""
    return await kit.device()


@pytest.fixture
async def owner(kit: Kit, device: Device) -> Caller:
    return kit.known(device, "olga", "owner")


@pytest.fixture
async def guest(kit: Kit, device: Device, owner: Caller) -> Caller:
    assert device.users.users, owner  # the first user has to be an owner
    return kit.known(device, "gustav", "guest")
