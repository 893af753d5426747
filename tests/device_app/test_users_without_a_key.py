"""A user without a key is completed by a pairing or an invite of the same name (protocol §5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iam.model import User

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


async def add(device: Device, name: str, role: str) -> None:
    """Add a user without a key, as the console does."""
    device.app.access.registry.add_user(None, User(name, role))


@pytest.mark.parametrize("role", ["guest", "user"])
async def test_a_pairing_gives_its_key_to_the_user_who_has_none(
    kit: Kit, device: Device, role: str
) -> None:
    await add(device, "mia", role)
    await device.open(role="user")
    caller = kit.caller(device)
    assert (await device.pair(caller, "mia")).code == "2.04"
    mia = device.app.access.store.state.user("mia")
    assert [key.fingerprint for key in mia.keys] == [caller.fingerprint]
    assert mia.role == role
    assert (await caller.ask("GET", "/iam/me")).body["role"] == role


async def test_a_window_for_guests_completes_no_owner(kit: Kit, device: Device) -> None:
    await add(device, "mia", "owner")
    await device.open(role="guest")
    caller = kit.caller(device)
    refused = await caller.start("mia")
    assert refused.code in {"4.03", "4.09"}
    assert device.app.access.store.state.user("mia").keys == ()
