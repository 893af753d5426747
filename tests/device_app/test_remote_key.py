"""The remote master key: in a backup and a restore, after a reset, with a new identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_app.limits import REMOTE_KEY_FILE_BYTES_MAX
from device_app.remote import master_key
from device_app.remote.master_key import MasterKey
from peer import cbor
from peer.errors import Malformed
from peer.identity import Fingerprint, Identity
from peer.remote.limits import MAX_GENERATION
from peer.secret import Secret
from tests.kit.daemon import run
from tests.kit.remote_agents import PASSWORD, FakeAgent, start_with_agent

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Kit

DEVICE = Fingerprint(bytes(range(32)))
CLIENT = Fingerprint(bytes(32))


def key(generation: int = 0, *, device: Fingerprint = DEVICE) -> MasterKey:
    return MasterKey(Secret(b"K" * 32), generation, device)


def test_a_key_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "remote.key"
    master_key.save(key(7), path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert master_key.load(path) == key(7)
    assert "K" * 8 not in repr(key(7))


@pytest.mark.parametrize(
    "value",
    [
        {"key": bytes(31), "generation": 0, "device": bytes(32)},
        {"key": bytes(32), "generation": -1, "device": bytes(32)},
        {"key": bytes(32), "generation": MAX_GENERATION + 1, "device": bytes(32)},
        {"key": bytes(32), "generation": True, "device": bytes(32)},
        {"key": bytes(32), "generation": 0, "device": bytes(3)},
        {"key": bytes(32), "generation": 0},
        [],
        "x" * REMOTE_KEY_FILE_BYTES_MAX,
    ],
)
def test_another_content_is_not_a_key(value: object) -> None:
    with pytest.raises(Malformed):
        MasterKey.decode_untrusted(cbor.encode(value))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_key_or_malformed(data: bytes) -> None:
    try:
        found = MasterKey.decode_untrusted(data)
    except Malformed:
        return
    assert MasterKey.decode_untrusted(found.encode()) == found


def test_a_rotation_gives_each_client_another_secret() -> None:
    old = key(3)
    new = old.rotated(bytes(32))
    assert new.generation == 4
    assert new.secret_of(CLIENT) != old.secret_of(CLIENT)


def test_a_key_that_has_used_all_generations_is_replaced() -> None:
    new = key(MAX_GENERATION).rotated(b"N" * 32)
    assert new == MasterKey(Secret(b"N" * 32), 0, DEVICE)


def test_a_key_of_another_device_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "remote.key"
    master_key.save(key(7), path)
    assert master_key.load_or_create(path, DEVICE, b"N" * 32) == key(7)
    other = Identity.create().fingerprint
    assert master_key.load_or_create(path, other, b"N" * 32).secret == Secret(b"N" * 32)
    assert master_key.load(path) == MasterKey(Secret(b"N" * 32), 0, other)


async def started_once(kit: Kit) -> MasterKey:
    """A device whose agent was started once; return its key."""
    await start_with_agent(kit, FakeAgent())
    await kit.close()
    found = master_key.load(kit.home / "remote.key")
    assert found is not None
    return found


async def test_a_start_makes_a_key_and_the_next_one_keeps_it(kit: Kit) -> None:
    first = await started_once(kit)
    assert first.device == Identity.load(kit.home / "device-key.pem").fingerprint
    assert first.generation == 0
    assert await started_once(kit) == first


@pytest.mark.usefixtures("quick_scrypt")
async def test_a_restored_device_keeps_the_secrets_of_its_clients(kit: Kit, tmp_path: Path) -> None:
    found = await started_once(kit)
    words, file, board = tmp_path / "words", tmp_path / "kitchen.backup", tmp_path / "board"
    words.write_text("four random words here\n")
    options = ("--passphrase-file", str(words))
    assert (await run(kit.home, "backup", *options, str(file))).code == 0
    assert PASSWORD.encode() not in file.read_bytes()
    assert (await run(board, "restore", *options, str(file), "--yes")).code == 0
    assert master_key.load(board / "remote.key") == found
    assert (board / "remote.key").stat().st_mode & 0o777 == 0o600
    assert not (board / "broker.password").exists()


@pytest.mark.usefixtures("quick_scrypt")
async def test_an_old_backup_restores_no_secret_that_was_rotated_away(
    kit: Kit, tmp_path: Path
) -> None:
    old = await started_once(kit)
    words, file = tmp_path / "words", tmp_path / "kitchen.backup"
    words.write_text("four random words here\n")
    options = ("--passphrase-file", str(words))
    assert (await run(kit.home, "backup", *options, str(file))).code == 0
    assert (await run(kit.home, "remote", "rotate", "--yes")).code == 0
    restored = await run(kit.home, "restore", *options, str(file), "--yes", "--replace")
    assert restored.code == 0, restored.err
    new = master_key.load(kit.home / "remote.key")
    assert new is not None
    assert (new.secret, new.generation) == (old.secret, 1)
    assert new.secret_of(CLIENT) != old.secret_of(CLIENT)


@pytest.mark.parametrize("keep", [True, False], ids=["same key", "new key"])
async def test_a_factory_reset_deletes_the_key(kit: Kit, keep: bool) -> None:
    await started_once(kit)
    options = ("--keep-identity",) if keep else ()
    assert (await run(kit.home, "reset", "--yes", *options)).code == 0
    assert not (kit.home / "remote.key").exists()


async def test_a_factory_reset_of_a_running_device_deletes_the_key(
    kit: Kit, agent: FakeAgent
) -> None:
    await started_once(kit)
    device = await start_with_agent(kit, agent)
    kit.known(device, "anna", "owner")
    topics = agent.topics
    assert (await run(kit.home, "reset", "--yes", "--keep-identity")).code == 0
    assert not (kit.home / "remote.key").exists()
    assert topics
    assert not agent.topics


async def test_a_new_identity_gets_a_new_key_at_the_next_start(kit: Kit) -> None:
    """A copied SD card has the same key: with a new identity it leaves the topics of the other."""
    old = await started_once(kit)
    assert (await run(kit.home, "new-identity", "--yes")).code == 0
    new = await started_once(kit)
    assert new.secret != old.secret
    assert new.device != old.device
