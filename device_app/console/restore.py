"""`restore`: show what a copy of the store would change, put it in force, or discard it."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from device_app.access.access_control import AccessControl
from device_app.access.audit_log import CONSOLE
from device_app.access.change_details import invite_label
from device_app.access.event_kind import EventKind
from device_app.access.operators import without_operator
from device_app.console.answers import ChangeView, EndView, EntryView, RestoreAnswer
from device_app.console.backup_note import note_of
from device_app.errors import AppError
from iam import mark, restored_rows, rights, salvage
from iam.audit import AuditTrail
from iam.errors import StoreError
from iam.model import Invite, Key, State, User, differing, differing_invites
from iam.schema import Content
from iam.store import Store
from peer.identity import Fingerprint
from peer.terminal.exit_codes import ExitCode


def show(
    access: AccessControl, file: str | None, *, name: str | None, device: Fingerprint | None
) -> RestoreAnswer:
    """Return what restoring a copy would change.

    Args:
        access: the store in force, and its audit trail.
        file: the copy; by default, the one that was set aside.
        name: what a person calls that file, if it is a copy of it.
        device: the fingerprint of this device.

    Raises:
        AppError: there is no such copy, or the named one is damaged.
        StoreError: the copy cannot be read.
        Malformed: what a backup says about itself cannot be read.
    """
    path = _path(access.store, file)
    copy = _read(path, is_named=file is not None, name=name)
    return _shown(access, path, copy, name=name, device=device)


def _shown(
    access: AccessControl,
    path: Path,
    copy: Content,
    *,
    name: str | None,
    device: Fingerprint | None,
) -> RestoreAnswer:
    answer = _difference(access.store, path, copy)
    if name is not None:
        answer["copy"] = name
    if (source := note_of(path)) is not None:
        answer["backup"] = {
            "name": source.name,
            "id": source.fingerprint.device_id,
            "fingerprint": source.fingerprint.hex,
            "made": source.made,
            "has_key": source.key is not None,
            "is_this": source.fingerprint == device,
        }
    add_ends(answer["changes"], access.store.audit)
    return answer


def restore(
    access: AccessControl,
    file: str | None,
    total: str,
    *,
    name: str | None,
    device: Fingerprint | None,
) -> RestoreAnswer:
    """Put a copy in force; the store in force is kept in a file beside it.

    Args:
        access: the store in force, and its audit trail.
        file: the copy; by default, the one that was set aside.
        total: the digest of the copy that `show` returned.
        name: what a person calls that file, if it is a copy of it.
        device: the fingerprint of this device.

    Raises:
        AppError: the copy has changed since then; also the errors of `show`.
        StoreWriteFailed: nothing has changed.
    """
    store, path = access.store, _path(access.store, file)
    copy = _read(path, is_named=file is not None, name=name)
    answer = _shown(access, path, copy, name=name, device=device)
    if total != answer["total"]:
        raise AppError(
            f"{answer['copy']} has changed since it was shown", advice="Run the command again."
        )
    event = access.audit.event(EventKind.STORE_RESTORED, actor=CONSOLE, detail=answer["copy"])
    label = (copy.attempts or {}).get(rights.LABEL)
    store.end_recovery(event, state=_state(copy), label=label)
    answer["restored"] = True
    answer["replaced"] = str(salvage.replaced_of(store.path))
    return answer


def discard(access: AccessControl) -> bool:
    """Keep what is in force and delete the copy that was set aside. False if there is none."""
    if access.store.recovery is None:
        return False
    access.store.end_recovery(access.audit.event(EventKind.STORE_CONFIRMED, actor=CONSOLE))
    return True


def _path(store: Store, file: str | None) -> Path:
    return Path(file) if file else salvage.aside_of(store.path)


def _read(path: Path, *, is_named: bool, name: str | None) -> Content:
    """Read a copy. One that a person names must be undamaged; one set aside may be damaged."""
    called = name or str(path)
    if not path.is_file():
        raise AppError(
            f"there is no file {called}" if is_named else "no copy of the store was set aside",
            advice="Name a copy of device.db: `handfast-device restore FILE`.",
            code=ExitCode.USAGE if is_named else ExitCode.NOT_FOUND,
        )
    try:
        copy = salvage.read_copy(path)
    except StoreError as error:  # of the copy that the command made of the file
        raise type(error)(str(error).replace(str(path), called), advice=error.advice) from error
    if is_named and not copy.is_sealed:
        raise AppError(
            f"{called} is damaged: its users and keys are not the ones that were written",
            advice="Use another copy. Nothing was changed.",
        )
    return copy


def _state(copy: Content) -> State:
    return restored_rows.state_of_content(copy.tables, copy.rows)


def _difference(store: Store, path: Path, copy: Content) -> RestoreAnswer:
    """Compare the copy with the store in force and with the mark beside it (`iam.mark`)."""
    state = _state(copy)
    marked = None
    with suppress(OSError):
        marked = mark.load_untrusted(mark.path_of(path))
    known = marked.rows if marked is not None else frozenset(rights.rows_of(state, {}))
    changes = []
    for change, rows in _changes(store.state, state):
        change["marked"] = set(rows) <= known
        changes.append(change)
    label_before, label_after = (
        set(rights.label_rows(attempts or {})) for attempts in (store.attempts, copy.attempts)
    )
    if label_before != label_after:
        change = {"change": _kind(label_before, label_after), "kind": "label"}
        change["marked"] = label_after <= known
        changes.append(change)
    return {
        "copy": str(path),
        "damaged": not copy.is_sealed,
        "changes": changes,
        "missing": [_entry(row) for row in sorted(known - copy.rows)] if marked else [],
        "total": f"{copy.total:064x}",
    }


def changes_between(before: State, after: State) -> Iterator[ChangeView]:
    """Yield each change that leads from one state to another."""
    for change, _ in _changes(before, after):
        yield change


def _changes(before: State, after: State) -> Iterator[tuple[ChangeView, list[str]]]:
    """Each change, and the rows of the mark that would confirm it."""
    for was, now in sorted(differing(before, after), key=lambda pair: _name(*pair)):
        if was is None or now is None or rights.user_values(was) != rights.user_values(now):
            yield _user_change(was, now)
        keys_before = {key.fingerprint: key for key in (was.keys if was else ())}
        keys_after = {key.fingerprint: key for key in (now.keys if now else ())}
        for fingerprint in sorted({*keys_before, *keys_after}):
            had, has = keys_before.get(fingerprint), keys_after.get(fingerprint)
            if had != has:
                yield _key_change(fingerprint, had, has, _name(was, now))
    for had_invite, has_invite in differing_invites(before, after):
        yield _invite_change(had_invite, has_invite)


def _user_change(was: User | None, now: User | None) -> tuple[ChangeView, list[str]]:
    """A change of a user apart from the keys, which are changes of their own."""
    user = now or was
    assert user is not None
    change: ChangeView = {"change": _kind(was, now), "kind": "user"}
    change |= {"name": user.name, "role": user.role}
    if was is not None and now is not None and was.role != now.role:
        change["was"] = was.role
    return change, [rights.row("user", rights.user_values(now))] if now is not None else []


def _key_change(
    fingerprint: str, had: Key | None, has: Key | None, user: str
) -> tuple[ChangeView, list[str]]:
    change: ChangeView = {"change": _kind(had, has), "kind": "key"}
    change |= {"user": user, "fingerprint": fingerprint}
    return change, [rights.row("key", rights.key_values(has, user))] if has is not None else []


def _invite_change(had: Invite | None, has: Invite | None) -> tuple[ChangeView, list[str]]:
    invite = has or had
    assert invite is not None
    change: ChangeView = {"change": _kind(had, has), "kind": "invite"}
    change |= {"name": invite.name, "id": invite.id, "role": invite.role}
    return change, [rights.row("invite", rights.invite_values(has))] if has is not None else []


_ENDS: Final[Mapping[str, Literal["removed", "revoked", "withdrawn", "redeemed"]]] = (
    MappingProxyType(
        {
            EventKind.USER_REMOVED: "removed",
            EventKind.KEY_REVOKED: "revoked",
            EventKind.INVITE_WITHDRAWN: "withdrawn",
            EventKind.INVITE_REDEEMED: "redeemed",
        }
    )
)


def add_ends(changes: list[ChangeView], trail: AuditTrail) -> None:
    """Add to what would come back when it ended, as far as the audit trail goes back."""
    ends: dict[tuple[str, str], EndView] = {}
    if not any(change["change"] == "added" for change in changes):
        return
    for record in trail.iterate():
        event = record.event
        if (how := _ENDS.get(event.kind)) is None:
            continue
        end: EndView = {"at": int(event.wall), "how": how}
        if event.actor:
            end["by"] = event.actor
        if how == "removed":
            ends["user", event.user] = end
        if how in {"removed", "revoked"}:
            ends["key", event.fingerprint] = end
        else:
            ends["invite", without_operator(event.detail).partition(",")[0]] = end
    for change in changes:
        called = {
            "user": change.get("name", ""),
            "key": change.get("fingerprint", ""),
            "invite": invite_label(change.get("id", "")),
        }
        found = ends.get((change["kind"], called.get(change["kind"], "")))
        if change["change"] == "added" and found is not None:
            change["ended"] = found


def _kind(before: object, after: object) -> Literal["added", "removed", "changed"]:
    """The kind of a change; a value that does not exist is None or empty."""
    if not before:
        return "added"
    return "changed" if after else "removed"


def _name(was: User | None, now: User | None) -> str:
    user = now or was
    return user.name if user is not None else ""


def _entry(row: str) -> EntryView:
    """A row of the mark."""
    kind, *values = map(str, rights.parsed(row))
    match kind:
        case "user":
            return {"kind": "user", "name": values[0], "role": values[1]}
        case "key":
            return {"kind": "key", "fingerprint": values[0], "user": values[1]}
        case "invite":
            return {"kind": "invite", "id": values[0], "name": values[1], "role": values[2]}
        case _:
            return {"kind": "label"}
