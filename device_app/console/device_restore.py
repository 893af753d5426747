"""`restore` of a whole device: the store, and what else the file has: key, settings and policies.

The daemon must not run. Users, keys and the audit trail become those of the backup. Invites are
withdrawn, since they may have been redeemed since then. The number of failed attempts is the
higher one of both, so that no backup gives an attacker new attempts. If the present audit trail
continues that of the backup, the device keeps it.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from device_app.access.access_control import AccessControl
from device_app.access.audit_log import CONSOLE
from device_app.access.clock import SystemClocks
from device_app.access.event_kind import EventKind
from device_app.console import incoming, pending_restore, restore
from device_app.console.answers import DeviceRestoreAnswer, RestoredUserView, SourceView
from device_app.console.backup_note import BackupNote, note_of
from device_app.console.settings_files import SettingsFiles
from device_app.errors import AppError, DamagedBackup
from device_app.pairing.record import BUDGET_RECORD
from device_app.pairing.stored_label import LABEL_RECORD, StoredLabel
from device_app.remote import master_key
from device_app.remote.master_key import MasterKey, RemoteTrouble
from device_app.settings.paths import Paths
from iam import files, openfile, restored_rows, salvage, staged_store
from iam.access import Access
from iam.errors import StoreError
from iam.model import State
from iam.schema import Content
from iam.staged_store import Present
from iam.store import Store
from peer.errors import IdentityError, PeerError
from peer.identity import Fingerprint, Identity
from peer.terminal.durations import format_time_utc
from peer.terminal.exit_codes import ExitCode


@dataclass(frozen=True, slots=True)
class Restoration:
    """The content of a file that is restored; a part that is None stays as it is on the device.

    Attributes:
        file: the file, for messages.
        store: a copy of a store.
        identity: the key.
        settings: settings and policies.
        modules: names of modules that the device used; they are in no backup.
        remote_key: the remote master key.
    """

    file: Path
    store: bytes
    identity: Identity | None = None
    settings: SettingsFiles | None = None
    modules: tuple[str, ...] = ()
    remote_key: MasterKey | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """A restore that was checked and can be carried out while the lock is held."""

    restoration: Restoration
    answer: DeviceRestoreAnswer
    present: Present | None
    note: BackupNote | None
    device: Fingerprint | None  # before the restore


@contextmanager
def checked(paths: Paths, restoration: Restoration, *, replace: bool) -> Iterator[Ready]:
    """Check everything, change nothing, and hold the lock of the store meanwhile.

    Args:
        paths: the folders of the device.
        restoration: what is to be restored.
        replace: whether the users of this device may be replaced.

    Raises:
        AppError: the daemon runs, or the device has users and `replace` is false.
        DamagedBackup: the copy of the store is not one.
    """
    try:
        files.create_folder(paths.state, 0o700)
    except OSError as error:
        raise AppError(
            f"the folder {paths.state} cannot be created: {error.strerror}",
            advice="Run this as root, or choose another folder with --home.",
        ) from error
    with pending_restore.locked(paths):
        if restoration.settings is not None:
            restoration.settings.check_targets(paths)
        present = _present(paths, replace=replace)
        with (
            incoming.placed(restoration.store, paths.store) as path,
            files.acting_as_owner_of(paths.state),
        ):
            copy, note = _read(path, restoration)
            device = _device(paths)
        answer = _answer(paths, restoration, copy, note, present, device=device)
        yield Ready(restoration, answer, present, note, device)


def restore_device(paths: Paths, ready: Ready) -> DeviceRestoreAnswer:
    """Carry out a restore that was checked, in the block of `checked`.

    Raises:
        AppError, StoreError: it failed; the message says whether it can be finished.
    """
    restoration = ready.restoration
    with files.acting_as_owner_of(paths.state):
        kept = staged_store.keep_present(paths.store)
        device = restoration.identity.fingerprint if restoration.identity else ready.device
        remote_key = _merged_remote_key(paths, restoration.remote_key)
    try:
        pending_restore.prepare(
            paths,
            identity=restoration.identity,
            settings=restoration.settings,
            remote_key=remote_key,
            make_store=lambda path: stage(path, paths.store, ready, device),
        )
    except OSError as error:
        raise AppError(
            f"the restore cannot be prepared: {error.strerror or error}",
            advice="Check the space on the disk, and the permissions of its folders. "
            "Nothing was changed.",
        ) from error
    pending_restore.finish(paths)
    answer = ready.answer
    answer["restored"] = True
    if kept is not None:
        answer["replaced"] = str(kept)
    return answer


def _merged_remote_key(paths: Paths, restored: MasterKey | None) -> MasterKey | None:
    """The remote master key of a backup, of no earlier generation than on the present device."""
    if restored is None:
        return None
    with suppress(RemoteTrouble):
        return restored.at_least(master_key.load(paths.remote_key))
    return restored


def _present(paths: Paths, *, replace: bool) -> Present | None:
    """Read the store that would be replaced. Raises `AppError` if that was not asked for."""
    with files.acting_as_owner_of(paths.state):
        if not openfile.has_traces(paths.store):
            return None
        present = None
        with suppress(StoreError):
            present = staged_store.present(paths.store)
    if not replace and (present is None or present.state.users):
        has = "has users" if present is not None else "has a store that cannot be read"
        raise AppError(
            f"this device {has}, and restoring replaces the whole device",
            advice="Use --replace to do that; the present store is kept beside the new one. "
            "Or use --users-only to restore only users, keys, invites and the label.",
            code=ExitCode.USAGE,
        )
    return present


def _read(path: Path, restoration: Restoration) -> tuple[Content, BackupNote | None]:
    try:
        copy, note = salvage.read_copy(path), note_of(path)
    except (StoreError, PeerError) as error:
        why = str(error).replace(str(path), "its store")
        raise DamagedBackup(restoration.file, why) from error
    if not copy.is_sealed:
        raise DamagedBackup(restoration.file, "its users and keys are not those that were written")
    return copy, note


def _answer(
    paths: Paths,
    restoration: Restoration,
    copy: Content,
    note: BackupNote | None,
    present: Present | None,
    *,
    device: Fingerprint | None,
) -> DeviceRestoreAnswer:
    state = restored_rows.state_of_content(copy.tables, copy.rows)
    answer: DeviceRestoreAnswer = {
        "copy": str(restoration.file),
        "users": [_user_view(state, name) for name in sorted(state.users)],
        "changes": [],
        "invites": len(state.invites),
        "has_key": restoration.identity is not None,
        "settings": list(restoration.settings.config) if restoration.settings else [],
        "policies": list(restoration.settings.policies) if restoration.settings else [],
        "modules": list(restoration.modules),
        "moved": restoration.settings.changes(paths) if restoration.settings else [],
    }
    if note is not None:
        answer["backup"] = source_view(note, device, has_key=restoration.identity is not None)
    if present is not None:
        before = present.state.without_invites(present.state.invites)
        after = state.without_invites(state.invites)
        answer["changes"] = list(restore.changes_between(before, after))
        with suppress(StoreError), openfile.read_audit(paths.store) as trail:
            restore.add_ends(answer["changes"], trail)
    return answer


def source_view(note: BackupNote, device: Fingerprint | None, *, has_key: bool) -> SourceView:
    """Return the device of a backup; `device` is this one."""
    return {
        "name": note.name,
        "id": note.fingerprint.device_id,
        "fingerprint": note.fingerprint.hex,
        "made": note.made,
        "has_key": has_key,
        "is_this": note.fingerprint == device,
    }


def _user_view(state: State, name: str) -> RestoredUserView:
    user = state.users[name]
    return {"name": user.name, "role": user.role, "keys": [key.fingerprint for key in user.keys]}


def _device(paths: Paths) -> Fingerprint | None:
    """This device's fingerprint, or None if it has no key that can be read."""
    with suppress(IdentityError):
        return Identity.load(paths.key).fingerprint
    return None


def stage(path: Path, store: Path, ready: Ready, device: Fingerprint | None) -> None:
    """Create the new store: the copy, with what the present device has to keep."""
    is_same = ready.present is not None and device is not None and ready.device == device
    seq, digest = staged_store.stage(
        path, ready.restoration.store, before=store if is_same else None
    )
    with closing(Store.open(path)) as staged:
        access = AccessControl.create(staged, Access(), SystemClocks())
        made = f"made {format_time_utc(ready.note.made)}, " if ready.note is not None else ""
        event = access.audit.event(
            EventKind.RESTORED,
            actor=CONSOLE,
            fingerprint=device.hex if device is not None else "",
            result=f"{made}event {seq} {digest}",
        )
        if ready.present is not None:
            staged.note_time(ready.present.time_floor)
        staged.commit(
            staged.state.without_invites(staged.state.invites),
            event,
            attempts=merged_attempts(staged.attempts, ready.present),
        )


def merged_attempts(restored: Mapping[str, object], present: Present | None) -> dict[str, object]:
    """Return the counters of a backup, none of them lower than on the present device."""
    merged = dict(restored)
    now = present.attempts if present is not None else None
    if now is None:
        return merged
    budgets = [one for one in (restored.get(BUDGET_RECORD), now.get(BUDGET_RECORD)) if one]
    if budgets:
        merged[BUDGET_RECORD] = max(budgets, key=_failures)
    label, label_now = (StoredLabel.from_record(one.get(LABEL_RECORD)) for one in (restored, now))
    if label.is_made and label.token_verifier == label_now.token_verifier:
        failures = max(label.failures, label_now.failures)
        merged[LABEL_RECORD] = {**label.record(), "failures": failures}
    return merged


def _failures(budget: object) -> tuple[float, float]:
    """The order of two records of attempts; a damaged one is the higher, and blocks pairing."""
    if not isinstance(budget, Mapping):
        return float("inf"), 0.0
    failures, remaining = budget.get("failures"), budget.get("remaining")
    if type(failures) is not int:
        return float("inf"), 0.0
    return float(failures), float(remaining) if isinstance(remaining, int | float) else 0.0
