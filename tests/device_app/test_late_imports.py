"""Root acts as the owner of a device's files, who may not be able to read the programs of root.

So no module is imported while it acts as that user: what is imported at first use is imported
before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.process import environment
from tests.kit.waiting import TIMEOUT_SECONDS

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

OTHER = 65534
START = """
import os, sys
sys.dont_write_bytecode = True

class OnlyRoot:
    def find_spec(self, name, *_):
        if os.geteuid() != 0:
            os.write(2, f"{name} was imported as another user\\n".encode())

sys.meta_path.insert(0, OnlyRoot())
from handfast.__main__ import device
device()
"""
SETTINGS = '[network]\nmodules = ["lampp"]\n[pairing]\nwindow_seconds = "2 moons"\n'
REMOTE = """[remote]
brokers = ["mqtts://127.0.0.1:1"]
username = "kitchen"
password_file = "broker.password"
"""
VERBS = [
    "init",
    "status",
    "users add anna --role user",
    "invite mia",
    "policy explain anna Hello:Get",
    "check",
    "backup --passphrase-file words copy.backup",
    "restore --replace --passphrase-file words --yes copy.backup",
    "restore --users-only --passphrase-file words --yes copy.backup",
    "new-identity --yes",
]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of another user, in a folder that all users may enter."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    found = folder / "home"
    found.mkdir(mode=0o700)
    os.chown(found, OTHER, OTHER)
    yield found
    shutil.rmtree(folder)


def run(home: Path, words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START, "--home", str(home), *words.split()],
        cwd=home.parent,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert "internal error" not in done.stderr, done
    return done.stderr


def test_no_verb_imports_a_module_as_another_user(home: Path) -> None:
    (home.parent / "words").write_text("four random words here")
    for words in VERBS:
        assert "as another user" not in run(home, words), words


def test_no_verb_of_remote_reach_imports_a_module_as_another_user(home: Path) -> None:
    run(home, "init")
    password = home / "broker.password"
    password.write_text("words")
    (home / "device.toml").write_text(REMOTE)
    for file in (password, home / "device.toml"):
        os.chown(file, OTHER, OTHER)
    for words in ("check", "remote rotate --yes", "remote test"):
        assert "as another user" not in run(home, words), words


def test_no_error_in_a_file_imports_a_module_as_another_user(home: Path) -> None:
    run(home, "init")
    (home / "device.toml").write_text(SETTINGS)
    for words in ("check", "status"):
        assert "as another user" not in run(home, words), words
