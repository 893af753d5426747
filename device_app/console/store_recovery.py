"""What a person at the board is told of a store that was not sound, and what they can do about it.

A store that was damaged, older than its mark or gone does not stop the daemon; in force is what is
safe, and what was found is kept beside it (`iam.recovery`). `restore` puts back that copy, or any
other one, after showing what it would change; `restore --discard` goes on with what is in force.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from device_app.access.access_control import AccessControl
from device_app.access.audit_log import CONSOLE
from device_app.access.event_kind import EventKind
from device_app.errors import AppError, Exit
from iam import mark, rights, salvage
from iam.changes import has_owner
from iam.model import State, User, differing, differing_invites
from iam.schema import Content
from iam.store import Store

_log = logging.getLogger("handfast.store")
ADVICE = "`handfast-device restore` shows what was set aside and puts it back."


def note_recovery(control: AccessControl) -> None:
    """Say in the log, and once in the trail, that the store was not sound, and in the log that the
    device has lost its owner."""
    store, audit = control.store, control.audit
    if (recovery := store.recovery) is not None:
        _log.error("%s. %s", recovery, ADVICE)
        if store.is_newly_recovered:
            event = audit.event(
                EventKind.STORE_RECOVERED, result=recovery.reason.value, detail=str(recovery)
            )
            audit.append(event)
    if store.had_owner and not has_owner(store.state):
        _log.error(
            "this device has lost its owner, and opens no window for another by itself. "
            "Restore a copy of the store, or open a window: `handfast-device open --role owner`"
        )


def store_view(control: AccessControl) -> dict[str, Any]:
    """The store as `status` shows it: `trouble` is what is wrong now, `recovery` what was wrong at
    a start and waits for a decision."""
    store = control.store
    view: dict[str, Any] = {
        "path": str(store.path),
        "trouble": control.writer.trouble or store.trouble,
        "recovery": None,
    }
    if (found := store.recovery) is not None:
        view["recovery"] = {
            "reason": found.reason.value,
            "why": str(found),
            "left_out": found.left_out,
            "missing": found.missing,
            "aside": salvage.aside_of(store.path).exists(),
        }
    return view


def restore_verbs(
    control: AccessControl,
) -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """The console's verbs on copies of the store; see `device_app.console.table`."""
    store, audit = control.store, control.audit

    def show(args: Mapping[str, Any]) -> dict[str, Any]:
        return _difference(store, _path(store, args), _copy(store, args))

    def restore(args: Mapping[str, Any]) -> dict[str, Any]:
        copy = _copy(store, args)
        shown = _difference(store, _path(store, args), copy)
        if args.get("total") != shown["total"]:
            raise AppError("the copy has changed since it was shown", advice="Look at it again.")
        event = audit.event(EventKind.STORE_RESTORED, actor=CONSOLE, detail=shown["copy"])
        label = (copy.attempts or {}).get(rights.LABEL)
        store.settle(event, state=rights.state_of(copy.rows), label=label)
        return {**shown, "restored": True, "replaced": str(salvage.replaced_of(store.path))}

    def discard(_args: Mapping[str, Any]) -> dict[str, Any]:
        if store.recovery is None:
            return {"discarded": False}
        event = audit.event(EventKind.STORE_CONFIRMED, actor=CONSOLE)
        store.settle(event)
        return {"discarded": True}

    return {"restore-show": show, "restore": restore, "restore-discard": discard}


def _path(store: Store, args: Mapping[str, Any]) -> Path:
    return Path(args["file"]) if args.get("file") else salvage.aside_of(store.path)


def _copy(store: Store, args: Mapping[str, Any]) -> Content:
    """What the copy holds. One that somebody names has to be as it was written; what was set aside
    is shown as it is. Raises `AppError`, `StoreError`."""
    path = _path(store, args)
    if not path.is_file():
        raise AppError(
            f"there is no {path}" if args.get("file") else "no copy of the store was set aside",
            advice="Name a copy of device.db: `handfast-device restore FILE`.",
            code=Exit.NOT_FOUND,
        )
    copy = salvage.read_copy(path)
    if args.get("file") and not copy.is_sealed:
        raise AppError(
            f"{path} is damaged: its users and keys are not what was written",
            advice="Use another copy; nothing was changed.",
        )
    return copy


def _difference(store: Store, path: Path, copy: Content) -> dict[str, Any]:
    """What restoring the copy would change, and what its mark knows better."""
    state = rights.state_of(copy.rows)
    marked = None
    with suppress(OSError):
        marked = mark.load_untrusted(mark.path_of(path))
    known = marked.rows if marked is not None else frozenset(rights.rows_of(state, {}))
    label_before, label_after = (
        set(rights.label_rows(attempts or {})) for attempts in (store.attempts, copy.attempts)
    )
    changes = [
        {**change, "marked": set(rows) <= known} for change, rows in _changes(store.state, state)
    ]
    if label_before != label_after:
        kind = "changed" if label_before and label_after else "added" if label_after else "removed"
        changes.append({"change": kind, "kind": "label", "marked": label_after <= known})
    return {
        "copy": str(path),
        "damaged": not copy.is_sealed,
        "changes": changes,
        "missing": [_named(text) for text in sorted(known - copy.rows)] if marked else [],
        "total": f"{rights.total_of(copy.rows):064x}",
    }


def _changes(before: State, after: State) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each change, and the rows that it would bring."""
    for was, now in sorted(differing(before, after), key=lambda pair: _name(*pair)):
        if was is None or now is None or _terms(was) != _terms(now):
            change = {"change": _kind(was, now), "kind": "user", "name": _name(was, now)}
            change |= {"role": (now or was or User("-", "-")).role}
            if was is not None and now is not None and was.role != now.role:
                change["was"] = was.role
            rows = [rights.row("user", rights.user_values(now))] if now is not None else []
            yield change, rows
        keys_before = {key.fingerprint: key for key in (was.keys if was else ())}
        keys_after = {key.fingerprint: key for key in (now.keys if now else ())}
        for one in sorted({*keys_before, *keys_after}):
            had, has = keys_before.get(one), keys_after.get(one)
            if had != has:
                change = {"change": _kind(had, has), "kind": "key", "user": _name(was, now)}
                change["fingerprint"] = one
                rows = []
                if has is not None and now is not None:
                    rows = [rights.row("key", rights.key_values(has, now.name))]
                yield change, rows
    for had_invite, has_invite in differing_invites(before, after):
        invite = has_invite or had_invite
        assert invite is not None
        change = {"change": _kind(had_invite, has_invite), "kind": "invite", "name": invite.name}
        change |= {"id": invite.id, "role": invite.role}
        kept = [has_invite] if has_invite is not None else []
        yield change, [rights.row("invite", rights.invite_values(one)) for one in kept]


def _kind(was: object, now: object) -> str:
    if was is None:
        return "added"
    return "removed" if now is None else "changed"


def _name(was: User | None, now: User | None) -> str:
    user = now or was
    return user.name if user is not None else ""


def _terms(user: User) -> tuple[object, ...]:
    """A user without the keys, which are changes of their own."""
    return rights.user_values(user)


def _named(text: str) -> dict[str, Any]:
    """A row of the mark, for people."""
    kind, *values = rights.parsed(text)
    if kind == "user":
        return {"kind": kind, "name": values[0], "role": values[1]}
    if kind == "key":
        return {"kind": kind, "fingerprint": values[0], "user": values[1]}
    if kind == "invite":
        return {"kind": kind, "id": values[0], "name": values[1], "role": values[2]}
    return {"kind": kind}
