"""A reload applies the limits that need no restart, and lists the settings that do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from device_app.errors import ConfigError

if TYPE_CHECKING:
    from tests.kit.device import Kit


def configure(kit: Kit, text: str) -> None:
    kit.home.mkdir(exist_ok=True)
    (kit.home / "device.toml").write_text(text, encoding="utf-8")


async def test_a_changed_limit_of_users_applies_immediately(kit: Kit) -> None:
    configure(kit, "[limits]\nusers = 2\n")
    device = await kit.device()
    reloader = device.app.reloader
    owner = kit.known(device, "olga", "owner")
    await reloader.reload()
    body = {"name": "gustav", "role": "guest"}
    assert (await owner.ask("POST", "/iam/users", body)).code == "2.01"
    configure(kit, "[limits]\nusers = 1\n")
    await reloader.reload()
    refused = await owner.ask("POST", "/iam/users", {"name": "eve", "role": "guest"})
    assert (refused.code, refused.reason) == ("4.09", "limit")
    assert {*device.app.access.store.state.users} == {
        "olga",
        "gustav",
    }  # a lower limit removes no user
    configure(kit, "")
    view = await reloader.reload()
    assert view["restart_needed"] == []
    answer = await owner.ask("POST", "/iam/users", {"name": "eve", "role": "guest"})
    assert answer.code == "2.01"


async def test_settings_that_need_a_restart_are_listed(kit: Kit) -> None:
    device = await kit.device()
    configure(kit, "[network]\nport = 7000\n[limits]\nsessions = 100\nusers = 9\n")
    view = await device.app.reloader.reload()
    assert view["restart_needed"] == ["limits.sessions", "network.port"]
    assert (await device.app.reloader.reload())["restart_needed"] == view["restart_needed"]
    assert device.app.access.authority.limits.users == 9
    configure(kit, "[limits]\nusers = 8\n")
    assert (await device.app.reloader.reload())["restart_needed"] == []
    assert device.app.access.authority.limits.users == 8


@pytest.mark.parametrize("text", ["[limits]\nusers = 0\n", "[limits]\nusers = 9\n[x]\n"])
async def test_an_invalid_configuration_file_is_not_applied(
    kit: Kit, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    device = await kit.device()
    configure(kit, text)
    with pytest.raises(ConfigError, match=r"device\.toml:[23]: "):
        await device.app.reloader.reload()
    assert device.app.access.authority.limits.users == 256
    device.app.reloader.schedule()
    await device.app.reloader.close()
    assert caplog.text.count("the configuration was not reloaded") == 2


async def test_invalid_policies_prevent_a_change_of_the_limits(kit: Kit) -> None:
    device = await kit.device()
    configure(kit, "[limits]\nusers = 9\n")
    kit.policy("[[policy]]\n")
    with pytest.raises(ConfigError):
        await device.app.reloader.reload()
    assert device.app.access.authority.limits.users == 256
