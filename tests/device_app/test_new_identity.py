"""`handfast-device new-identity`: a new key, with the users kept; power cuts and repetition."""

import json
from pathlib import Path
from typing import Any

import pytest

from device_app.console import offline
from device_app.errors import AppError
from iam.store import Store
from peer.identity import Identity
from tests.kit.daemon import run
from tests.kit.device import Kit

KEY = "ab" * 32


async def set_up(home: Path, *, started: bool = True) -> dict[str, Any]:
    """Set up a device with a user, an invite and a label; return its identity."""
    await run(home, "init", "--name", "kitchen")
    await run(home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    await run(home, "invite", "anna", "--role", "guest")
    made = await run(home, "label", "--json")
    assert made.code == 0, made
    if started:
        kit = Kit(home)
        await kit.device()
        await kit.close()
    return (await run(home, "fingerprint", "--json")).value


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def facts(home: Path) -> tuple[str, list[str], int, bool]:
    """Return fingerprint, users, number of invites, and whether there is a label."""
    store = Store.open(home / "device.db")
    try:
        state, has_label = store.state, "label" in store.attempts
        found = (list(state.users), len(state.invites), has_label)
    finally:
        store.close()
    return (Identity.load(home / "device-key.pem").fingerprint.hex, *found)


@pytest.mark.parametrize("started", [True, False])
async def test_a_new_key_keeps_the_users_and_ends_what_the_old_one_signed(
    tmp_path: Path, *, started: bool
) -> None:
    home = tmp_path / "home"
    old = await set_up(home, started=started)
    assert facts(home) == (old["fingerprint"], ["olga"], 1, True)
    declined = await run(home, "new-identity")
    assert declined.code == 2
    answer = (await run(home, "new-identity", "--yes", "--json")).value
    assert (answer["changed"], answer["was"]) == (True, old["fingerprint"])
    assert (answer["users"], answer["invites"], answer["label"]) == (1, 1, True)
    assert answer["fingerprint"] != old["fingerprint"]
    assert facts(home) == (answer["fingerprint"], ["olga"], 0, False)
    lines = (await run(home, "events", "--json")).out.splitlines()
    (event,) = [one for one in map(json.loads, lines) if one["kind"] == "identity-replaced"]
    assert event["fingerprint"] == answer["fingerprint"]
    assert old["fingerprint"] in event["detail"]
    assert mode(home / "device-key.pem") == 0o600


async def test_a_repeated_command_changes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    old = (await set_up(home))["fingerprint"]
    first = (await run(home, "new-identity", "--only-if", old, "--yes", "--json")).value
    for _ in range(2):
        again = await run(home, "new-identity", "--only-if", old, "--json")
        assert (again.code, again.value["changed"]) == (0, False)
        assert again.value["fingerprint"] == first["fingerprint"]
    shown = await run(home, "new-identity", "--only-if", old)
    assert "nothing was changed" in shown.out
    wrong = await run(home, "new-identity", "--only-if", "abc", "--yes")
    assert wrong.code == 2
    assert facts(home)[0] == first["fingerprint"]


def cut(*_arguments: object) -> None:
    raise AppError("the power was cut")


async def test_a_power_cut_before_the_key_is_replaced_leaves_the_device_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    await set_up(home)
    before = facts(home)
    with monkeypatch.context() as patch:
        patch.setattr(Identity, "replace", cut)
        assert (await run(home, "new-identity", "--yes")).code == 1
    kit = Kit(home)
    device = await kit.device()
    assert not device.events("identity-replaced")
    await kit.close()
    assert facts(home) == before
    assert (await run(home, "new-identity", "--yes")).code == 0
    assert facts(home)[1:] == (["olga"], 0, False)


async def test_a_power_cut_after_the_key_was_replaced_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start notices the other key, and does the rest."""
    home = tmp_path / "home"
    await set_up(home)
    old = facts(home)
    with monkeypatch.context() as patch:
        patch.setattr(offline, "end_replaced_key", cut)
        assert (await run(home, "new-identity", "--yes")).code == 1
    new, *others = facts(home)
    assert new != old[0]
    assert others == [["olga"], 1, True]
    kit = Kit(home)
    device = await kit.device()
    (event,) = device.events("identity-replaced")
    assert (event.fingerprint, old[0] in event.detail) == (new, True)
    await kit.close()
    assert facts(home) == (new, ["olga"], 0, False)
    kit = Kit(home)
    device = await kit.device()
    assert len(device.events("identity-replaced")) == 1
    await kit.close()


async def test_a_key_that_cannot_be_written_leaves_the_device_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    await set_up(home)
    before = facts(home)

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("peer.identity.atomic_write", full)
    failed = await run(home, "new-identity", "--yes")
    assert failed.code != 0
    assert "No space left on device" in failed.err
    assert facts(home) == before


async def test_a_running_device_restarts_with_the_new_key(kit: Kit) -> None:
    daemon = await kit.daemon()
    await daemon.run("users", "add", "olga", "--role", "owner", "--key", KEY)
    old = daemon.status["fingerprint"]
    answer = await daemon.json("new-identity", "--yes")
    assert (answer["was"], answer["changed"]) == (old, True)
    await daemon.until("ready\n", times=2)
    status = await daemon.json("status")
    assert status["fingerprint"] == answer["fingerprint"] != old
    assert [user["name"] for user in status["users"]] == ["olga"]
    assert "this device has a new key" in "".join(daemon.log_lines)


async def test_the_owner_is_known_to_the_new_key(kit: Kit) -> None:
    device = await kit.device()
    owner = await kit.paired(device, "olga")
    Identity.create().replace(kit.home / "device-key.pem")
    await kit.close()
    again = await kit.device()
    same_client = kit.caller(again, owner.identity)
    assert (await same_client.ask("GET", "/iam/me")).body["user"] == "olga"
