"""A board that loses its power, and one that replaces it."""

import json
import sys
from pathlib import Path

import pytest

from tests.kit.installed import NewContainer, Suite, pair

pytestmark = [
    pytest.mark.booted,
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("systemd-nspawn", "nsenter", "unshare", "setpriv", "dpkg-deb"),
]
PASSPHRASE = "four random words here"
BACKUP = "backup --passphrase-file passphrase kitchen.backup"
RESTORE = "restore --passphrase-file passphrase kitchen.backup --yes"
# Adds users as fast as the device answers, and prints each name that the device has confirmed.
ADD_USERS = """
import asyncio, itertools, sys
from handfast import Client

async def main():
    async with Client(home=sys.argv[1]) as client:
        device = await client.connect("kitchen")
        for number in itertools.count(1):
            await device.iam.add_user(f"user{number}", role="guest", keys=[f"{number:064x}"])
            print(f"user{number}", flush=True)

asyncio.run(main())
"""


def test_a_power_cut_during_writes_loses_no_confirmed_user(
    suite: Suite, new_container: NewContainer, tmp_path: Path
) -> None:
    board = new_container(suite.installed, suite.tree)
    board.boot()
    owner = pair(board, tmp_path / "owner", "anna")
    key = board.run("handfast-device", "fingerprint").out
    writer = board.from_host(sys.executable, "-c", ADD_USERS, str(owner.home))
    writer.until("user20\n", on="out")
    board.pull_plug()
    confirmed = writer.output("out").split()
    writer.close()

    board.boot()
    assert board.run("handfast-device", "fingerprint").out == key
    board.run("handfast-device", "events", "--verify")
    listed = json.loads(board.run("handfast-device", "users", "list", "--json").out)
    names = {user["name"] for user in listed["users"]}
    assert {"anna", *confirmed} <= names
    assert len(names) <= len(confirmed) + 2  # one more may be stored, and not confirmed
    owner.run(board, "get", "kitchen", "/hello")


def test_a_backup_replaces_the_board_and_its_client_continues(
    suite: Suite, new_container: NewContainer, tmp_path: Path
) -> None:
    """The second board has a key of its own until the backup is restored."""
    boards = [new_container(suite.installed, suite.tree) for _ in range(2)]
    for board in boards:
        board.boot()
    first, second = boards
    owner = pair(first, tmp_path / "owner", "anna")
    key = first.run("handfast-device", "fingerprint").out
    assert second.run("handfast-device", "fingerprint").out != key
    first.shell(f"cd /srv; printf '%s' '{PASSPHRASE}' > passphrase; handfast-device {BACKUP}")
    backup = first.copy("/srv/kitchen.backup", tmp_path)
    first.pull_plug()

    second.put(backup, "/srv")
    second.shell("systemctl stop handfast-device; echo 'another passphrase' > /srv/passphrase")
    second.run("sh", "-c", f"cd /srv; handfast-device {RESTORE}", code=6)
    assert second.run("handfast-device", "fingerprint").out != key
    second.shell(f"cd /srv; printf '%s' '{PASSPHRASE}' > passphrase; handfast-device {RESTORE}")
    second.run("systemctl", "start", "handfast-device")
    assert second.run("handfast-device", "fingerprint").out == key
    assert "anna" in owner.run(second, "get", "kitchen", "/hello").out
