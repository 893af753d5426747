"""Creation of the board's label, and unblocking of its code.

The text of a label is returned only when it is created. The device stores a verifier of its token
and a stretched form of its code (`stored_label`), so a new label makes the old one invalid.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace as changed
from typing import TypedDict

from device_app.access.access_control import AccessControl
from device_app.access.audit_log import CONSOLE
from device_app.access.event_kind import EventKind
from device_app.errors import AppError
from device_app.pairing.hardware import Hardware
from device_app.pairing.stored_label import LABEL_RECORD, StoredLabel
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.terminal.exit_codes import ExitCode


class LabelView(TypedDict):
    """A new label: the text of its QR code, and the code to type."""

    text: str
    code: str


class LabelAnswer(TypedDict):
    """`label`, the only time that the label is shown."""

    label: LabelView


class RevivedAnswer(TypedDict):
    """`label --revive`: whether the code was blocked."""

    revived: bool


def require_label(hardware: Hardware) -> None:
    """Raise `AppError` if the board has no label by its configuration."""
    if not hardware.label:
        raise AppError(
            "this board has no label, by its configuration",
            advice="Set `label = true` in the table [board] of device.toml.",
        )


def revived(control: AccessControl, *, limits: Limits) -> tuple[StoredLabel, RevivedAnswer]:
    """Clear the failed attempts at the label's code, and store that.

    Return the label and the answer for the console. Raises `AppError` if there is no label,
    `StoreWriteFailed` if it cannot be stored.
    """
    store = control.store
    stored = StoredLabel.from_record(store.attempts.get(LABEL_RECORD))
    if not stored.is_made:
        raise AppError(
            "there is no label yet",
            advice="Create one: `handfast-device label`.",
            code=ExitCode.NOT_FOUND,
        )
    if stored.failures:
        event = control.audit.event(EventKind.CODE_REVIVED, actor=CONSOLE)
        attempts = {**store.attempts, LABEL_RECORD: changed(stored, failures=0).record()}
        control.writer.commit(store.state, event, attempts=attempts)
    words: RevivedAnswer = {"revived": stored.is_code_blocked(limits)}
    return changed(stored, failures=0), words


def made(
    control: AccessControl,
    device: Fingerprint,
    *,
    replace: bool,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[StoredLabel, LabelAnswer]:
    """Create a label, and store it.

    Return the label and the answer for the console. Raises `AppError` if there is a label and
    `replace` is false, `StoreWriteFailed` if it cannot be stored.
    """
    store = control.store
    if StoredLabel.from_record(store.attempts.get(LABEL_RECORD)).is_made and not replace:
        raise AppError(
            "there is a label already, and it cannot be printed again",
            advice="Give --yes to create a new one; the old one is then invalid.",
        )
    stored, label, code = StoredLabel.create(device, random_bytes)
    event = control.audit.event(EventKind.LABEL_MADE, actor=CONSOLE)
    attempts = {**store.attempts, LABEL_RECORD: stored.record()}
    control.writer.commit(store.state, event, attempts=attempts)
    return stored, {"label": {"text": label.text, "code": code.text}}
