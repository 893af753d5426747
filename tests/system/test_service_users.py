"""Users of a machine whose device is a system service: the group `handfast`, and other users.

The daemon runs in a mount namespace of its own, with empty `/run` and `/var/lib`, and with accounts
that this machine does not have. Each verb is a process of the user in that namespace.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.process import Program, Result, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_tool("unshare", "nsenter", "mount")]

GROUP = 54_400
ANNA, OTTO = 54_321, 54_322  # a member of the group, and another user
START = """
set -e
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mount --bind "$0/group" /etc/group
mount --bind "$0/passwd" /etc/passwd
install -d -g handfast -m 750 /run/handfast
install -d -m 700 /var/lib/handfast
export STATE_DIRECTORY=/var/lib/handfast RUNTIME_DIRECTORY=/run/handfast
export CONFIGURATION_DIRECTORY="$0"
exec "$@" run --port 0 --pairing-port 0 --listen 127.0.0.1 --allow-loopback
"""
# Root imports what the verb needs, since another user may not be able to read this Python.
VERB = """
import os, pwd, sys
from click.testing import CliRunner
from device_app.cli import main
name, home, *words = sys.argv[1:]
CliRunner().invoke(main, ["--home", home + "/warm", *words], env={"HOME": home})
found = pwd.getpwnam(name)
os.initgroups(name, found.pw_gid)
os.setgid(found.pw_gid)
os.setuid(found.pw_uid)
os.environ["HOME"] = home
main(words, "handfast-device")
"""


@dataclass(frozen=True)
class Machine:
    """A machine with a device as its service, and a home folder for each user."""

    daemon: Program
    homes: Path

    def run(self, user: str, *words: str, home: str = "") -> Result:
        """Run a verb as a user of the machine."""
        env = {
            name: value
            for name, value in environment().items()
            if not name.startswith("XDG_") and name != "CONFIGURATION_DIRECTORY"
        }
        program = Program(
            [
                *("nsenter", "--mount", "--target", str(self.daemon.process.pid), sys.executable),
                *("-c", VERB, user, str(self.homes / (home or user)), *words),
            ],
            env,
        )
        try:
            return program.end()
        finally:
            program.close()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="handfast-"))
    folder.chmod(0o755)
    accounts = f"anna:x:{ANNA}:{ANNA}::/:/bin/sh\notto:x:{OTTO}:{OTTO}::/:/bin/sh\n"
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + accounts)
    (folder / "group").write_text(Path("/etc/group").read_text() + f"handfast:x:{GROUP}:anna\n")
    for name, uid in (("anna", ANNA), ("annas-own", ANNA), ("otto", OTTO)):
        (folder / name).mkdir()
        shutil.chown(folder / name, uid, uid)
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", START, str(folder)]
    daemon = Program([*words, sys.executable, "-m", "device_app"], environment())
    try:
        daemon.until("ready")
        yield Machine(daemon, folder)
    finally:
        daemon.close()
        shutil.rmtree(folder)


def test_a_member_of_the_group_uses_the_service(machine: Machine) -> None:
    status = machine.run("anna", "status", "--json")
    assert status.code == 0, status
    assert status.value["running"]
    shown = machine.run("anna", "fingerprint", "--json")
    assert shown.value["fingerprint"] == status.value["fingerprint"]
    assert machine.run("anna", "users", "add", "olga", "--role", "owner").code == 0
    events = machine.run("root", "--home", "/var/lib/handfast", "events", "--last", "2")
    assert events.out.count(f'actor=@console user=olga role=owner detail="uid {ANNA} anna"') == 1
    assert machine.run("anna", "events", "--last", "2").out == events.out


def test_the_advice_to_another_user_names_the_group(machine: Machine) -> None:
    for words in (["status"], ["open", "--no-wait"], ["fingerprint"]):
        refused = machine.run("otto", *words)
        assert refused.code == 7, (words, refused)
        assert "only root and the group handfast" in refused.err
        assert "sudo usermod -aG handfast otto" in refused.err


def test_verbs_on_files_say_that_they_are_not_those_of_the_service(machine: Machine) -> None:
    copy = machine.homes / "anna" / "copy.db"
    copy.touch()
    left = machine.homes / "anna" / ".local" / "state" / "handfast" / "device"
    left.mkdir(parents=True)  # a folder without a device is none
    for folder in (*left.relative_to(machine.homes / "anna").parents, left):
        shutil.chown(machine.homes / "anna" / folder, ANNA, ANNA)
    for words in (
        ["events", "--verify"],
        ["backup", str(machine.homes / "anna" / "backup")],
        ["restore", str(copy), "--yes"],
    ):
        refused = machine.run("anna", *words)
        assert refused.code == 3, (words, refused)
        assert "there is no device in" in refused.err
        assert "is a service with files of its own: use sudo" in refused.err
    checked = machine.run("anna", "check")
    assert "This is about a device of your user" in checked.err


def test_a_device_of_the_user_takes_precedence(machine: Machine) -> None:
    made = machine.run("anna", "init", "--name", "own", home="annas-own")
    assert made.code == 0, made
    assert "This is about a device of your user" in made.err
    status = machine.run("anna", "status", "--json", home="annas-own")
    assert (status.value["name"], status.value["running"]) == ("own", False)
    pending = machine.run("anna", "pending", home="annas-own")
    assert pending.code == 3
    assert "no daemon is running here" in pending.err
    assert "systemctl" not in pending.err
