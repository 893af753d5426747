"""A damaged, old or missing store: the reports of the daemon, and the recovery."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console.control_client import call
from device_app.console.status import health_of
from device_app.pairing.stored_label import LABEL_RECORD, StoredLabel
from device_app.terminal.render_restore import restore_lines
from device_app.terminal.render_status import status_lines
from iam import rights
from iam.errors import StoreWriteFailed
from iam.store import Store
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS
from tests.kit.daemon import Daemon, run
from tests.kit.internals import database_of

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

OLGA, ADAM = "ab" * 32, "cd" * 32
SOURCE = Path(__file__).parents[1] / "iam" / "sync_fault.c"


async def json_of(home: Path, *args: str) -> dict[str, Any]:
    result = await run(home, *args, "--json")
    assert result.code == 0, result
    value: dict[str, Any] = json.loads(result.out)
    return value


async def wait_for_restart(daemon: Daemon) -> None:
    """Wait until the daemon has restarted in the same process."""
    await daemon.until("ready\n", times=2)


@pytest.fixture
def old_copy(tmp_path: Path) -> Path:
    return tmp_path / "old.db"


async def set_up_with_old_copy(kit: Kit, old_copy: Path) -> None:
    """Set up a device, copy its store, then remove an admin and add a user."""
    await run(kit.home, "init", "--name", "kitchen")
    for name, role, key in (("olga", "owner", OLGA), ("adam", "admin", ADAM)):
        await run(kit.home, "users", "add", name, "--role", role, "--key", key)
    shutil.copy(kit.home / "device.db", old_copy)
    assert (await run(kit.home, "users", "remove", "adam")).code == 0
    assert (await run(kit.home, "users", "add", "mia", "--key", "ef" * 32)).code == 0


async def test_an_old_store_is_reported_and_restored_at_the_console(
    kit: Kit, old_copy: Path
) -> None:
    await set_up_with_old_copy(kit, old_copy)
    shutil.copy(old_copy, kit.home / "device.db")
    daemon = await kit.daemon()
    assert not daemon.status["window"]["open"]
    assert [user["name"] for user in daemon.status["users"]] == ["olga"]
    recovery = daemon.status["store"]["recovery"]
    assert (recovery["reason"], recovery["left_out"], recovery["missing"]) == ("older", 2, 2)
    health = await daemon.run("health")
    assert (health.code, "handfast-device restore" in health.out) == (1, True)
    assert any("older than the mark" in line for line in daemon.log_lines)
    assert "older than the mark" in (await daemon.run("status")).out
    events = [json.loads(line) for line in (await daemon.run("events", "--json")).out.splitlines()]
    assert [e["result"] for e in events if e["kind"] == "store-recovered"] == ["older"]

    assert (await daemon.run("restore")).code == 2  # it needs a confirmation
    shown: Any = await daemon.json("restore", "--yes")
    changed = {(one["change"], one["kind"], one["marked"]) for one in shown["changes"]}
    assert changed == {("added", "user", False), ("added", "key", False)}
    assert {(one["kind"], one.get("name")) for one in shown["missing"]} == {
        ("user", "mia"),
        ("key", None),
    }
    lines = "\n".join(restore_lines(shown))
    assert "+ user adam: admin  (the mark says: removed or changed" in lines
    assert "? user mia: guest  (only in the mark)" in lines
    await wait_for_restart(daemon)
    status = await daemon.json("status")
    assert [user["name"] for user in status["users"]] == ["adam", "olga"]
    assert status["store"]["recovery"] is None
    assert (await daemon.run("health")).code == 0
    assert not (kit.home / "device.db.aside").exists()
    assert (kit.home / "device.db.replaced").exists()


async def test_a_copy_is_restored_or_refused_without_a_daemon(kit: Kit, old_copy: Path) -> None:
    await set_up_with_old_copy(kit, old_copy)
    good = kit.home.parent / "good.db"
    shutil.copy(kit.home / "device.db", good)
    for name in ("device.db", "device.db.mark"):
        (kit.home / name).write_bytes(b"")
    offline = await json_of(kit.home, "status")
    assert (offline["users"], offline["store"]["recovery"]["reason"]) == ([], "damaged")
    assert (
        await run(kit.home, "restore", "--yes")
    ).code == 1  # the file that was set aside is empty
    assert (await run(kit.home, "restore", "nowhere.db", "--yes")).code == 2
    damaged = kit.home.parent / "damaged.db"
    data = good.read_bytes()
    damaged.write_bytes(data.replace(b"olgaowner", b"olgaOwner", 1))
    assert damaged.read_bytes() != data
    refused = await run(kit.home, "restore", str(damaged), "--yes")
    assert (refused.code, "damaged" in refused.err) == (1, True)
    assert (await json_of(kit.home, "status"))["users"] == []
    done = await json_of(kit.home, "restore", str(good), "--yes")
    assert done["restored"]
    assert good.read_bytes() == data
    names = [user["name"] for user in (await json_of(kit.home, "status"))["users"]]
    assert names == ["mia", "olga"]
    again: Any = await json_of(kit.home, "restore", str(good), "--yes")  # a restore may be repeated
    assert again["changes"] == []
    assert "equals the store in force" in restore_lines(again)[1]
    assert (await run(kit.home, "restore", "x.db", "--discard", "--yes")).code == 2
    assert (await json_of(kit.home, "restore", "--discard", "--yes"))["discarded"] is False


@pytest.mark.parametrize("lost", [["device.db"], ["device.db", "device.db.mark"]])
async def test_a_device_that_lost_its_store_opens_no_window_for_an_owner(
    kit: Kit, old_copy: Path, lost: list[str]
) -> None:
    await set_up_with_old_copy(kit, old_copy)
    (kit.home / "device.db").write_bytes(b"")
    for name in lost[1:]:
        (kit.home / name).unlink()
    daemon = await kit.daemon("--pair")
    window = daemon.status["window"]
    assert (window["open"], window["role"]) == (True, "guest")  # --pair requests a window
    await daemon.run("close")
    assert await daemon.stop() == 0
    daemon = await kit.daemon()
    assert not daemon.status["window"]["open"]
    assert any("lost its owner" in line for line in daemon.log_lines)
    caller = kit.caller(daemon.port)
    assert (await caller.ask("GET", "/hello")).reason == "not-paired"
    # The console can open a window for an owner, discard the old store, or reset the device.
    opened = await daemon.json("open", "--role", "owner", "--no-wait")
    assert opened["window"]["role"] == "owner"
    assert (await daemon.json("restore", "--discard", "--yes"))["discarded"]
    assert (await daemon.run("health")).code == 0
    assert (await daemon.run("reset", "--yes")).code == 0
    await wait_for_restart(daemon)
    assert (await daemon.json("status"))["window"]["role"] == "owner"


async def test_a_store_removed_while_the_daemon_runs_is_reported_and_rewritten(
    owner: Caller, device: Device
) -> None:
    path = device.app.paths.store
    path.unlink()
    status = device.app.status()
    assert "removed" in status["store"]["trouble"]
    assert any("removed" in line for line in status_lines(status))
    assert health_of(status)[1] == 1
    device.app.access.writer.keep()  # the daemon does this periodically
    assert path.exists()
    assert device.app.status()["store"]["trouble"] == ""
    assert (await owner.ask("iPATCH", "/iam/users/olga", {"display": "Olga"})).code == "2.04"


FAULT = """
import ctypes
from iam.store import Store

real, fault = Store.commit, ctypes.CDLL({library!r})

def commit(self, new, *events, attempts=None):
    if "zoe" in new.users and "zoe" not in self.state.users:
        real(self, self.state, events[0])  # a new log is synced once more, so here is a used one
        fault.arm(0, 1)
    return real(self, new, *events, attempts=attempts)

Store.commit = commit

def resources(board):
    return []
"""


@pytest.mark.needs_tool("cc")
async def test_an_owner_that_was_not_stored_does_not_exist_after_a_restart(
    kit: Kit, tmp_path: Path
) -> None:
    """The answer is 5.00 because one fsync failed; then the daemon is killed."""
    library = str(tmp_path / "fault.so")
    build = ["cc", "-shared", "-fPIC", "-o", library, str(SOURCE), "-ldl"]
    await asyncio.to_thread(subprocess.run, build, check=True)
    (kit.home / "modules").mkdir(parents=True)
    (kit.home / "modules" / "fault.py").write_text(FAULT.format(library=library))
    (kit.home / "device.toml").write_text('[resources]\nmodules = ["fault"]\n')
    identity = Identity.create()
    key = identity.fingerprint.hex
    assert (await run(kit.home, "init")).code == 0
    assert (await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", key)).code == 0
    daemon = await kit.daemon(env={"LD_PRELOAD": library})
    owner = kit.caller(daemon.port, identity)
    body = {"name": "zoe", "role": "owner", "keys": ["ee" * 32]}
    refused = await owner.ask("POST", "/iam/users", body)
    assert (refused.code, refused.payload) == ("5.00", b"")
    await daemon.stop(signal.SIGKILL)
    (kit.home / "device.toml").unlink()
    again = await kit.daemon()
    assert [user["name"] for user in again.status["users"]] == ["olga"]
    assert again.status["store"]["recovery"] is None
    assert (await kit.caller(again.port, identity).ask("POST", "/iam/users", body)).code == "2.01"


@pytest.mark.parametrize("record", [[], "x", {}, {"failures": -1}, {"failures": "3"}, "unsealed"])
async def test_a_damaged_record_of_attempts_starts_the_longest_back_off(
    kit: Kit, record: object
) -> None:
    device = await kit.device()
    await kit.paired(device, "olga")
    store = device.app.access.store
    store.commit(store.state, attempts={**store.attempts, "pairing": record})
    if record == "unsealed":
        database_of(store).execute("UPDATE attempts SET body = replace(body, '{', '[')")
    await kit.close()
    again = await kit.device()
    assert again.app.status()["window"]["blocked_seconds"] > DEFAULT_LIMITS.backoff_max_seconds - 60
    await again.open(clears_backoff=True)
    assert "blocked_seconds" not in again.app.status()["window"]
    await kit.close()
    third = await kit.device()
    assert "blocked_seconds" not in third.app.status()["window"]
    # The attempts contain the record of the label, so their loss is reported.
    assert (third.app.access.store.recovery is not None) is (record == "unsealed")


def test_a_label_record_with_an_invalid_count_is_ignored() -> None:
    good = {"token": "ab", "code": "cd", "failures": 2}
    assert StoredLabel.from_record(good).failures == 2
    for failures in (-5, True, "2", 1.5, None):
        assert not StoredLabel.from_record({**good, "failures": failures}).is_made
    assert LABEL_RECORD == rights.LABEL


@pytest.mark.parametrize("running", [False, True])
async def test_a_reset_leaves_no_trace_of_former_users(kit: Kit, *, running: bool) -> None:
    await run(kit.home, "init")
    for name, role in (("oldowner", "owner"), ("oldguest", "guest")):
        key = name.encode().hex().ljust(64, "0")
        await run(kit.home, "users", "add", name, "--role", role, "--key", key)
    await run(kit.home, "users", "remove", "oldguest")
    if running:
        daemon = await kit.daemon()
        assert (await daemon.run("reset", "--yes", "--keep-identity")).code == 0
        await wait_for_restart(daemon)
    else:
        assert (await run(kit.home, "reset", "--yes")).code == 0
    events = [json.loads(e) for e in (await run(kit.home, "events", "--json")).out.splitlines()]
    assert events[0]["kind"] == "factory-reset"
    assert events[0]["seq"] == 1
    for file in kit.home.glob("device.db*"):
        data = file.read_bytes()
        for trace in (b"oldowner", b"oldguest", b"oldguest".hex().encode()):
            assert trace not in data, file.name


async def test_a_reset_does_not_record_the_opener_of_an_open_window(
    owner: Caller, device: Device
) -> None:
    opened = await owner.ask("POST", "/iam/window", {"role": "guest"})
    assert opened.code.startswith("2."), opened
    await call(device.app.paths.socket, "reset", {})
    trail = device.app.access.store.audit
    events = [record.event for record in trail.iterate()]
    assert events[0].kind == "factory-reset"
    assert not any("olga" in (event.actor, event.user) for event in events)


async def test_a_store_of_a_later_version_can_be_reset(kit: Kit) -> None:
    import sqlite3  # noqa: PLC0415

    await run(kit.home, "init")
    with closing(sqlite3.connect(kit.home / "device.db")) as db:
        db.execute("PRAGMA user_version = 99")
    (kit.home / "device.db.mark").unlink()
    refused = await run(kit.home, "status")
    assert (refused.code, "schema 99" in refused.err) == (1, True)
    assert (await run(kit.home, "reset", "--yes")).code == 0
    assert (await json_of(kit.home, "status"))["users"] == []


def test_a_store_closes_even_if_its_folder_was_removed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    store = Store.open(tmp_path / "home" / "device.db")
    shutil.rmtree(tmp_path / "home")
    assert "removed" in store.fault
    with pytest.raises(StoreWriteFailed):
        store.reset(attempts={})
    store.close()
    assert list(tmp_path.iterdir()) == []
