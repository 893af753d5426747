"""Making a label: what to print on the board, and what the device remembers of it.

A label is told this one time. The device keeps a verifier of its token and a stretched form of its
code (`device_app.methods.Plate`), so a new label makes the old one worthless.
"""

import secrets
from collections.abc import Callable
from typing import Any

from device_app.errors import AppError
from device_app.methods import PLATE, Plate
from device_app.whitelist import CONSOLE, Whitelist
from peer.identity import Fingerprint


def made(
    whitelist: Whitelist,
    device: Fingerprint,
    *,
    replace: bool,
    dice: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[Plate, dict[str, Any]]:
    """A new label, durably remembered, and its words. Raises `AppError` if there is one already and
    it is not to be replaced, `StoreWriteFailed`."""
    store = whitelist.store
    if Plate.restored(store.attempts.get(PLATE)).is_made and not replace:
        raise AppError(
            "there is a label already, and nobody can print it again",
            advice="--yes makes a new one; the old one is worth nothing then.",
        )
    plate, label, code = Plate.made(device, dice)
    event = whitelist.journal.event("label-made", actor=CONSOLE)
    attempts = {**store.attempts, PLATE: plate.record()}
    whitelist.commit(whitelist.state, event, attempts=attempts)
    return plate, {"label": {"text": label.text, "code": code.text}}
