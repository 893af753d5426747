"""A restore of a whole device in steps, of which each can be repeated after a power cut.

1. `prepare` writes the new settings and policies to the file `restore.pending` in the folder of
   settings, and the new store and key to the folder `restore.new` in the state folder. The device
   is the old one.
2. It renames that folder to `restore.steps`. From now on the device is the new one.
3. `finish` writes settings and policies, then the store, then the keys, and removes what is left.

Every command and the daemon finish an interrupted restore before they open a file of the device
(`interrupted_restore`), so no device runs that is half old and half new. The settings may belong to
root, and the state to another user. A file that this user leaves in the state folder cannot change
the settings: step 3 takes them from the folder of settings, and only if their digest is the one of
step 2.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from device_app.console.settings_files import SettingsFiles
from device_app.errors import AppError
from device_app.remote.master_key import MasterKey
from device_app.settings.paths import Paths
from iam import files, openfile, staged_store
from iam.errors import StoreBusy
from peer import cbor
from peer.errors import IdentityError, Malformed
from peer.files import atomic_write, sync_folder
from peer.identity import Identity

_PLAN: Final = "plan"
_SETTINGS: Final = "restore.pending"


def _settings(paths: Paths) -> Path:
    return paths.config / _SETTINGS


def prepare(
    paths: Paths,
    *,
    identity: Identity | None,
    settings: SettingsFiles | None,
    make_store: Callable[[Path], None],
    remote_key: MasterKey | None = None,
) -> None:
    """Write all that is new, and decide for it. The caller holds the lock of the store.

    Args:
        paths: the folders of the device.
        identity: the new key, or None if it stays.
        settings: the new settings and policies, or None if they stay.
        make_store: creates the new store, complete and durable, at a path.
        remote_key: the new remote master key, or None if it stays.

    Raises:
        OSError, IamError: nothing has changed.
    """
    plan: dict[str, bytes] = {}
    draft = paths.restore_draft
    with files.acting_as_owner_of(paths.state):
        _remove(draft)
        draft.mkdir(0o700)  # first: it shows the next start that there is something to remove
    if settings is not None:
        files.create_folder(paths.config, 0o755)
        with files.acting_as_owner_of(paths.config):
            files.atomic_write(_settings(paths), encoded := settings.encode())
        plan["settings"] = sha256(encoded).digest()
    if identity is not None:
        plan["key"] = identity.key_pem()
    if remote_key is not None:
        plan["remote"] = remote_key.encode()
    with files.acting_as_owner_of(paths.state):
        make_store(draft / paths.store.name)
        files.atomic_write(draft / _PLAN, cbor.encode(plan))
        draft.rename(paths.restore_steps)
        files.sync(paths.state)


def finish(paths: Paths) -> None:
    """Take the remaining steps of a restore. The caller holds the lock of the store.

    Raises:
        AppError: a step failed. The restore can be finished later.
    """
    try:
        with files.acting_as_owner_of(paths.state):
            plan = _plan(paths.restore_steps)
        if (digest := plan.get("settings")) is not None:
            with files.acting_as_owner_of(paths.config):
                _finish_settings(paths, digest)
        with files.acting_as_owner_of(paths.state):
            staged_store.put(paths.restore_steps / paths.store.name, paths.store)
            if (pem := plan.get("key")) is not None:
                atomic_write(paths.key, Identity.from_pem(pem).key_pem(), is_secret=True)
            if (remote := plan.get("remote")) is not None:
                content = MasterKey.decode_untrusted(remote).encode()
                atomic_write(paths.remote_key, content, is_secret=True)
            _remove(paths.restore_steps)
            sync_folder(paths.state)
    except (OSError, Malformed, IdentityError) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        raise AppError(
            f"a restore of this device was interrupted, and cannot be finished: {where}{why}",
            advice="Check the disk. Then run `handfast-device status` as root, which finishes it.",
        ) from error


def resume(paths: Paths) -> None:
    """Finish a restore that was interrupted after step 2, or remove what step 1 left.

    Raises:
        AppError: it cannot be finished, or is running now.
    """
    with locked(paths):
        if os.path.lexists(paths.restore_steps):
            finish(paths)
        with files.acting_as_owner_of(paths.config), suppress(OSError):
            _settings(paths).unlink()
        with files.acting_as_owner_of(paths.state), suppress(OSError):
            _remove(paths.restore_draft)


@contextmanager
def locked(paths: Paths) -> Iterator[None]:
    """Hold the lock of the store. Raises `AppError` if the daemon, or a command, holds it."""
    with files.acting_as_owner_of(paths.state):
        try:
            held = openfile.lock(paths.store)
        except StoreBusy as error:
            raise AppError(
                f"the files of this device are in use by process {error.pid or '(unknown)'}",
                advice="Stop the daemon, run this again, then start it.",
            ) from error
    try:
        yield
    finally:
        os.close(held)


def _plan(folder: Path) -> dict[str, bytes]:
    """Return the plan of a restore; empty if it was removed, as the last step does."""
    try:
        data = files.read_own(folder / _PLAN)
    except FileNotFoundError:
        return {}
    found = cbor.decode_untrusted(data, size=len(data), depth=1)
    if not isinstance(found, dict) or not all(isinstance(one, bytes) for one in found.values()):
        raise Malformed(f"{folder / _PLAN} is damaged")
    return found


def _finish_settings(paths: Paths, digest: bytes) -> None:
    try:
        data = files.read_own(_settings(paths))
    except FileNotFoundError:
        return  # this step was done
    if sha256(data).digest() != digest:
        raise Malformed(f"{_settings(paths)} belongs to another restore")
    SettingsFiles.decode_untrusted(data).write(paths)
    _settings(paths).unlink()
    sync_folder(paths.config)


def _remove(folder: Path) -> None:
    """Remove a folder and its files, the plan last."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    for path in sorted(folder.iterdir(), key=lambda one: one.name == _PLAN):
        path.unlink()
    folder.rmdir()
