"""A board that was replaced by a backup: its client continues without pairing again."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from device_app.console.sealed_backup import SealedBackup
from iam.audit import AuditTrail
from tests.kit import former_backups
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.system import Device, Stage

pytestmark = pytest.mark.slow

WORDS = "four random words here"


class Changes(threading.Thread):
    """Adds and removes a user of a running device again and again, until it is stopped."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.count = 0
        self.has_changed, self.is_over = threading.Event(), threading.Event()
        self._device = device

    def run(self) -> None:
        while not self.is_over.is_set():
            body = {"name": "guest", "role": "guest", "keys": ["ab" * 32]}
            self._device.ask("users-add", wish=body)
            self._device.ask("users-remove", name="guest")
            self.count += 1
            self.has_changed.set()


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "former"])
def test_a_client_continues_with_the_board_that_a_backup_replaces(
    stage: Stage, is_sealed: bool
) -> None:
    """A sealed backup is taken while the device changes."""
    kitchen, anna = stage.device(), stage.client("anna")
    words, file, copy = (stage.folder / name for name in ("words", "kitchen.backup", "copy"))
    words.write_text(f"{WORDS}\n")
    options = ["--passphrase-file", str(words)]
    kitchen.boot()
    kitchen.pair(anna, "anna")
    if is_sealed:
        changes = Changes(kitchen)
        changes.start()
        try:
            assert changes.has_changed.wait(TIMEOUT_SECONDS)
            before = changes.count
            kitchen.run("backup", *options, str(file))
            copy.write_bytes(SealedBackup.read_untrusted(file).opened(WORDS).store)
            assert changes.count > before
        finally:
            changes.is_over.set()
            changes.join()
    else:
        former_backups.write(kitchen.home, file, passphrase=WORDS)
        copy.write_bytes(file.read_bytes())
        options.append("--with-key")
    with closing(sqlite3.connect(copy)) as db:
        assert AuditTrail(db, keep=0).verify() is None
    kitchen.stop()

    spare = stage.device("spare")
    refused = spare.run("restore", *options, str(file), code=2)
    assert "user anna: owner" in refused.err
    spare.run("restore", *options, "--yes", str(file))
    spare.port = kitchen.port
    status = spare.boot()
    assert status["fingerprint"] == kitchen.fingerprint
    assert status["name"] == ("kitchen" if is_sealed else "spare")
    hello = anna.run("get", "kitchen", "/hello")
    assert hello.out.startswith("Hello anna")
    assert hello.err == ""
    [event] = spare.events("restored")
    assert event.fingerprint == kitchen.fingerprint
    shown = repr(stage.programs) + str(spare.events("restored"))
    assert WORDS not in shown
