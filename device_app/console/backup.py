"""`backup`: a copy of the store in one file, with the key if a passphrase protects it.

The command reads the files itself, as the user to whom they belong, so that it can write the backup
wherever the person who runs it may write. The daemon may run meanwhile.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NotRequired, TypedDict

from device_app.console.answers import BackupView
from device_app.console.sealed_key import SealedKeyRecord, seal
from device_app.errors import AppError, NoDevice
from device_app.limits import BACKUP_PAUSE_SECONDS, BACKUP_TRIES
from device_app.settings.paths import Paths
from iam import backup, files, restored_rows
from iam.backup import ChangesNow
from peer.errors import Malformed
from peer.files import atomic_write
from peer.identity import Fingerprint, Identity
from peer.pairing.names import check_name
from peer.terminal.exit_codes import ExitCode
from peer.terminal.version import package_version

_SCHEMA: Final = 1


class _NoteRecord(TypedDict):
    """The note in a backup."""

    schema: int
    name: str
    fingerprint: str
    made: int
    version: str
    key: NotRequired[SealedKeyRecord]


@dataclass(frozen=True, slots=True)
class BackupNote:
    """The note of a backup: the device, the device's time, and the sealed key."""

    name: str
    fingerprint: Fingerprint
    made: int
    key: Mapping[str, object] | None

    @classmethod
    def parse_untrusted(cls, text: str) -> "BackupNote":
        """Decode the note of a file that anyone may have written. Raises `Malformed`."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("fingerprint"), str):
            raise Malformed("the note in the backup is damaged", advice="Use another backup.")
        if type(said.get("schema")) is not int or said["schema"] > _SCHEMA:
            raise Malformed("a later version made this backup", advice="Update handfast.")
        made, key = said.get("made"), said.get("key")
        return cls(
            check_name(said.get("name")),
            Fingerprint.parse(said["fingerprint"]),
            made if type(made) is int else 0,
            key if isinstance(key, dict) else None,
        )


def note_of(path: Path) -> BackupNote | None:
    """Return the note of a copy; None if it is a plain copy of device.db. Raises `Malformed`."""
    text = backup.note_untrusted(path)
    return None if text is None else BackupNote.parse_untrusted(text)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was not written yet, and what it holds."""

    content: bytes
    view: BackupView


def make(
    paths: Paths, *, name: str, now: int, passphrase: str | None, random_bytes: bytes
) -> Backup:
    """Copy the store as of this moment.

    Args:
        paths: the folders of the device.
        name: the device's name.
        now: the device's time.
        passphrase: seals the device's key into the copy; without one the key is left out.
        random_bytes: `sealed_key.RANDOM_BYTES` fresh ones.

    Raises:
        AppError: there is no device.
        StoreError: the store is damaged, or differs from its mark.
        PeerError: the key cannot be read, or the passphrase is too short.
    """
    if not paths.store.exists():
        raise NoDevice(paths.state)
    with files.acting_as_owner_of(paths.state):
        identity = Identity.load(paths.key)
    note: _NoteRecord = {
        "schema": _SCHEMA,
        "name": name,
        "fingerprint": identity.fingerprint.hex,
        "made": now,
        "version": package_version("0+unknown"),
    }
    if passphrase is not None:
        note["key"] = seal(identity, passphrase, random_bytes)
    text = json.dumps(note)
    for _ in range(BACKUP_TRIES):
        try:
            content, held = backup.copy_of(paths.store, text)
            break
        except ChangesNow:
            time.sleep(BACKUP_PAUSE_SECONDS)
    else:
        content, held = backup.copy_of(paths.store, text)
    state = restored_rows.state_of(held.rows)
    view: BackupView = {
        "file": "",
        "bytes": len(content),
        "name": name,
        "id": identity.fingerprint.device_id,
        "made": now,
        "users": len(state.users),
        "keys": sum(len(user.keys) for user in state.users.values()),
        "invites": len(state.invites),
        "has_key": passphrase is not None,
    }
    return Backup(content, view)


def write(made: Backup, path: Path, *, force: bool) -> BackupView:
    """Write a backup to a file that only its owner can read. Raises `AppError`."""
    try:
        atomic_write(path, made.content, replace=force, is_secret=True)
    except FileExistsError as error:
        raise AppError(
            f"{path} already exists",
            advice="Give the name of a new file, or use --force to replace it.",
            code=ExitCode.USAGE,
        ) from error
    except OSError as error:
        raise AppError(
            f"{path} cannot be written: {error.strerror}",
            advice="Check the folder, and the space on its disk.",
        ) from error
    return {**made.view, "file": str(path)}
