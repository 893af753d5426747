"""Making a label: what to print on the board, and what the device remembers of it.

A label is told this one time. The device keeps a verifier of its token and a stretched form of its
code (`methods.StoredLabel`), so a new label makes the old one worthless. A code that failed tries
have blocked is revived here.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace as changed
from typing import Any

from device_app.access.access_control import AccessControl
from device_app.access.audit_log import CONSOLE
from device_app.access.event_kind import EventKind
from device_app.errors import AppError, Exit
from device_app.pairing.methods import LABEL_RECORD, Hardware, StoredLabel
from peer.identity import Fingerprint
from peer.limits import Limits


def require_label(hardware: Hardware) -> None:
    """Raise `AppError` for a board that has none: the methods of a label would not be offered."""
    if not hardware.label:
        raise AppError(
            "this board has no label, by its configuration",
            advice="Set `label = true` in the table [board] of device.toml.",
        )


def revived(control: AccessControl, *, limits: Limits) -> tuple[StoredLabel, dict[str, Any]]:
    """The label with no failed tries at its code, durably. Raises `AppError` if there is no label,
    `StoreWriteFailed`."""
    store = control.store
    stored = StoredLabel.restored(store.attempts.get(LABEL_RECORD))
    if not stored.is_made:
        raise AppError(
            "there is no label yet",
            advice="Make one: `handfast-device label`.",
            code=Exit.NOT_FOUND,
        )
    if stored.failures:
        event = control.audit.event(EventKind.CODE_REVIVED, actor=CONSOLE)
        attempts = {**store.attempts, LABEL_RECORD: changed(stored, failures=0).record()}
        control.writer.commit(store.state, event, attempts=attempts)
    words = {"revived": stored.is_code_dead(limits)}
    return changed(stored, failures=0), words


def made(
    control: AccessControl,
    device: Fingerprint,
    *,
    replace: bool,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[StoredLabel, dict[str, Any]]:
    """A new label, durably remembered, and its words. Raises `AppError` if there is one already and
    it is not to be replaced, `StoreWriteFailed`."""
    store = control.store
    if StoredLabel.restored(store.attempts.get(LABEL_RECORD)).is_made and not replace:
        raise AppError(
            "there is a label already, and nobody can print it again",
            advice="--yes makes a new one; the old one is worth nothing then.",
        )
    stored, label, code = StoredLabel.made(device, random_bytes)
    event = control.audit.event(EventKind.LABEL_MADE, actor=CONSOLE)
    attempts = {**store.attempts, LABEL_RECORD: stored.record()}
    control.writer.commit(store.state, event, attempts=attempts)
    return stored, {"label": {"text": label.text, "code": code.text}}
