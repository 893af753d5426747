"""A store that was damaged, old or missing at a start, as the log and `status` report it.

Such a store does not stop the daemon: only what is certainly right is in force, and the file that
was found is kept beside it (`iam.recovery`). `restore` lets a person decide about it.
"""

import logging

from device_app.access.access_control import AccessControl
from device_app.access.event_kind import EventKind
from device_app.console.views import RecoveryView, StoreView
from iam import salvage
from iam.changes import has_owner
from iam.store import Store

_log = logging.getLogger("handfast.store")
_ASIDE_ADVICE = "Run `handfast-device restore` to see and restore the copy that was set aside."
_MISSING_ADVICE = (
    "Restore a backup with `handfast-device restore FILE`, or keep the present users with "
    "`handfast-device restore --discard`."
)


def recovery_advice(recovery: RecoveryView) -> str:
    """How a person decides about a store that was not sound."""
    return _ASIDE_ADVICE if recovery["aside"] else _MISSING_ADVICE


def report_recovery(access: AccessControl) -> None:
    """Log what is wrong with the clock and the store."""
    access.clock.log_trouble()
    for warning in note_recovery(access):
        _log.error("%s", warning)


def note_recovery(access: AccessControl) -> list[str]:
    """Return what a person must know about the store, and append a new recovery to the audit trail.

    Call it once for each time the store is opened.
    """
    store, audit = access.store, access.audit
    warnings = []
    if (recovery := _recovery_view(store)) is not None:
        why = recovery["why"]
        warnings.append(f"{why}. {recovery_advice(recovery)}")
        if store.is_newly_recovered:
            event = audit.event(EventKind.STORE_RECOVERED, result=recovery["reason"], detail=why)
            audit.append(event)
    if store.had_owner and not has_owner(store.state):
        warnings.append(
            "this device has lost its owner, and opens no pairing window by itself. Restore a "
            "copy of the store, or let a new owner pair: `handfast-device open --role owner`"
        )
    return warnings


def store_view(access: AccessControl) -> StoreView:
    """The store, as `status` shows it."""
    return {
        "path": str(access.store.path),
        "trouble": access.writer.trouble or access.store.fault,
        "recovery": _recovery_view(access.store),
    }


def _recovery_view(store: Store) -> RecoveryView | None:
    if (found := store.recovery) is None:
        return None
    return {
        "reason": found.reason.value,
        "why": str(found),
        "left_out": found.left_out,
        "missing": found.missing,
        "aside": salvage.aside_of(store.path).exists(),
    }
