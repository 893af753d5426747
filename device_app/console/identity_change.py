"""A new key for the device: for a board that was made from a copied SD card.

The users and their rights stay. Invites are signed by the key, and a label contains its
fingerprint, so they end with it. The store first notes the key that is to be replaced. After that,
a start with another key ends them, so a power cut at any point leaves nothing half done.
"""

import logging
from typing import TYPE_CHECKING, Final

from device_app.access.access_control import AccessControl
from device_app.access.audit_log import CONSOLE
from device_app.access.event_kind import EventKind
from device_app.console.answers import NewIdentityAnswer
from device_app.console.status import identity_view
from device_app.pairing.stored_label import LABEL_RECORD, StoredLabel
from iam.errors import StoreWriteFailed
from peer.identity import Fingerprint

if TYPE_CHECKING:
    from device_app.console.host import ConsoleHost

_log = logging.getLogger("handfast.app")
REPLACED_RECORD: Final = "replaced-key"  # beside the store's counters of attempts


def new_identity(host: "ConsoleHost", *, only_if: str | None) -> NewIdentityAnswer:
    """Give the device a new key.

    Args:
        host: the device.
        only_if: the fingerprint that the device must have; with another one nothing is changed,
            so that a command that is repeated does not replace the new key again.

    Raises:
        Malformed: `only_if` is no fingerprint.
        StoreWriteFailed, IdentityError: the store or the key cannot be written. The device has the
            same key as before.
    """
    was, access = host.identity.fingerprint, host.access
    attempts = access.store.attempts
    label = StoredLabel.from_record(attempts.get(LABEL_RECORD))
    changes = only_if is None or Fingerprint.parse(only_if) == was
    invites = len(access.store.state.invites) if changes else 0
    new = was
    if changes:
        access.writer.commit(access.store.state, attempts={**attempts, REPLACED_RECORD: was.hex})
        new = host.new_identity()
    return {
        **identity_view(host.settings.display_name, new),
        "changed": changes,
        "was": was.hex,
        "users": len(access.store.state.users),
        "invites": invites,
        "label": changes and label.is_made,
    }


def end_replaced_key(access: AccessControl, device: Fingerprint) -> None:
    """End what a key has signed that `new_identity` replaced by `device`, and log that.

    Call it once for each start. If the store cannot be written, the next start does it.
    """
    store = access.store
    before = store.attempts.get(REPLACED_RECORD)
    if before is None or before == device.hex:
        return
    ended = (LABEL_RECORD, REPLACED_RECORD)
    event = access.audit.event(
        EventKind.IDENTITY_REPLACED,
        actor=CONSOLE,
        fingerprint=device.hex,
        detail=f"was {before}; invites that ended: {len(store.state.invites)}",
    )
    try:
        access.writer.commit(
            store.state.without_invites(store.state.invites),
            event,
            attempts={name: one for name, one in store.attempts.items() if name not in ended},
        )
    except StoreWriteFailed:
        return  # it is in the log
    _log.warning(
        "this device has a new key. Its users are kept; its invites and its label are no longer "
        "valid, and each client has to forget the device and pair with it again"
    )
