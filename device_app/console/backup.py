"""`backup`: keys, store, settings and policies in one file, sealed with a passphrase.

The command reads the files itself, as the user to whom they belong, so that it can write the backup
wherever the person who runs it may write. The daemon may run meanwhile.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from device_app.console.answers import BackupView
from device_app.console.backup_note import BackupNote
from device_app.console.sealed_backup import Contents, seal
from device_app.console.settings_files import SettingsFiles
from device_app.errors import AppError, NoDevice, unwritable
from device_app.limits import BACKUP_PAUSE_SECONDS, BACKUP_TRIES
from device_app.remote import master_key
from device_app.settings.paths import Paths
from iam import backup, files
from iam.backup import ChangesNow
from iam.model import State
from peer.files import atomic_write
from peer.identity import Identity
from peer.terminal.exit_codes import ExitCode
from peer.terminal.version import package_version


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was not written yet, and what it holds."""

    content: bytes
    view: BackupView


def make(
    paths: Paths,
    *,
    name: str,
    now: int,
    modules: tuple[str, ...],
    passphrase: str,
    random_bytes: bytes,
) -> Backup:
    """Copy the device as of this moment.

    Args:
        paths: the folders of the device.
        name: the device's name.
        now: the device's time.
        modules: the names of the device's own modules, which are not in the backup.
        passphrase: seals the backup.
        random_bytes: `sealed_backup.RANDOM_BYTES` fresh ones.

    Raises:
        AppError: there is no device, or its remote master key or a file of its settings cannot be
            read.
        StoreError: the store is damaged, or differs from its mark.
        PeerError: the key cannot be read, or the passphrase is too short.
    """
    if not paths.store.exists():
        raise NoDevice(paths.state)
    with files.acting_as_owner_of(paths.state):
        identity = Identity.load(paths.key)
        remote_key = master_key.load(paths.remote_key)
    settings = SettingsFiles.read(paths)
    note = BackupNote(name, identity.fingerprint, now).text(package_version("0+unknown"))
    store, state = _copy_of(paths.store, note)
    if remote_key is not None and remote_key.device != identity.fingerprint:
        remote_key = None  # of the key that this device had before: the next start replaces it
    contents = Contents(identity, store, settings, modules, remote_key)
    content = seal(contents, passphrase, made=now, random_bytes=random_bytes)
    view: BackupView = {
        "file": "",
        "bytes": len(content),
        "name": name,
        "id": identity.fingerprint.device_id,
        "made": now,
        "users": len(state.users),
        "keys": state.key_count,
        "invites": len(state.invites),
        "has_key": True,
        "settings": list(settings.config),
        "policies": list(settings.policies),
        "modules": list(modules),
    }
    return Backup(content, view)


def _copy_of(store: Path, note: str) -> tuple[bytes, State]:
    for _ in range(BACKUP_TRIES):
        try:
            return backup.copy_of(store, note)
        except ChangesNow:
            time.sleep(BACKUP_PAUSE_SECONDS)
    return backup.copy_of(store, note)


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
        raise unwritable(path, error) from error
    return {**made.view, "file": str(path)}
