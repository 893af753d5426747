"""A store that was copied while its daemon ran, without SQLite's log, keeps users and its owner."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from iam.recovery import Reason
from iam.store import Store
from tests.kit.daemon import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Kit

OLGA, MIA = "ab" * 32, "cd" * 32
IDENTITY = ("device-key.pem", "device.toml")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    return folder


async def copy_while_running(kit: Kit, folder: Path, *names: str) -> None:
    """Add an owner and a user, and copy these files while the daemon runs."""
    await run(kit.home, "init")
    daemon = await kit.daemon()
    for words in (["olga", "--role", "owner", "--key", OLGA], ["mia", "--key", MIA]):
        await daemon.run("users", "add", *words)
    assert (kit.home / "device.db-wal").exists(), "SQLite has a log"
    for name in (*IDENTITY, *names):
        shutil.copy(kit.home / name, folder / name)
    assert await daemon.stop() == 0


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["device.db", "device.db.mark"], None),
        (["device.db"], Reason.MARK_LOST),
        (["device.db.mark"], Reason.MISSING),
    ],
    ids=["with its mark", "without its mark", "the mark alone"],
)
async def test_a_copy_without_its_log_has_the_users_or_says_what_it_lacks(
    kit: Kit, copy: Path, names: list[str], reason: Reason | None
) -> None:
    """A change of rights is moved from the log to the file at once."""
    await copy_while_running(kit, copy, *names)
    with closing(Store.open(copy / "device.db")) as store:
        assert (store.recovery.reason if store.recovery else None) is reason
        assert store.had_owner
        assert set(store.state.users) == ({"olga", "mia"} if "device.db" in names else set())


async def test_a_device_on_such_a_copy_opens_no_window_for_an_owner(kit: Kit, copy: Path) -> None:
    await copy_while_running(kit, copy, "device.db.mark")
    shutil.rmtree(kit.home)
    shutil.move(copy, kit.home)  # the store was not copied at all
    daemon = await kit.daemon()
    assert not daemon.status["window"]["open"]
    assert any("lost its owner" in line for line in daemon.log_lines)
    assert await daemon.stop() == 0
