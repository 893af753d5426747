"""The life of the packages on a booted Debian: install, upgrade, remove, purge."""

from pathlib import Path

import pytest

from tests.kit.booted import Container
from tests.kit.installed import UNIT, NewContainer, Suite, install, pair, with_version

pytestmark = [
    pytest.mark.booted,
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("systemd-nspawn", "nsenter", "unshare", "setpriv", "dpkg-deb"),
]


def fingerprint(board: Container) -> str:
    return board.run("handfast-device", "fingerprint").out


def traces(board: Container) -> list[str]:
    """The files, groups and users that are named after handfast."""
    found = board.shell(
        "find / -xdev -iname '*handfast*' -not -path '/proc/*' -not -path '/run/*'"
        " -not -path '/var/log/journal/*' -not -path '/tmp/*'"
    )
    return found.splitlines()


def test_an_installation_starts_the_service(suite: Suite, new_container: NewContainer) -> None:
    board = new_container(suite.tree)
    board.boot()
    assert traces(board) == []
    install(board, suite.packages)
    assert board.run("systemctl", "is-active", UNIT).out == "active\n"
    assert board.run("systemctl", "is-enabled", UNIT).out == "enabled\n"


def test_an_upgrade_keeps_the_key_and_the_clients(
    suite: Suite, new_container: NewContainer, tmp_path: Path
) -> None:
    """The older version differs only in its number."""
    older = [with_version(one, "0.0.1~old", tmp_path) for one in suite.packages]
    board = new_container(suite.tree)
    board.boot()
    install(board, older)
    owner = pair(board, tmp_path / "owner", "anna")
    key, process = fingerprint(board), board.property_of(UNIT, "MainPID")
    install(board, suite.packages)
    assert board.run("systemctl", "is-active", UNIT).out == "active\n"
    assert board.property_of(UNIT, "MainPID") != process
    assert fingerprint(board) == key
    owner.run(board, "get", "kitchen", "/hello")


def test_a_removal_keeps_the_state_and_a_purge_does_not(
    suite: Suite, new_container: NewContainer
) -> None:
    board = new_container(suite.installed, suite.tree)
    board.boot()
    key = fingerprint(board)
    board.shell("apt-get remove -qq -y handfast-device handfast")
    assert board.start("systemctl", "is-active", UNIT).end().code != 0
    board.shell("test -e /var/lib/handfast/device-key.pem")
    install(board, suite.packages)
    assert fingerprint(board) == key
    board.shell("apt-get purge -qq -y handfast-device handfast")
    assert traces(board) == []
