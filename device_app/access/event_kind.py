"""The kinds of events in the audit trail (docs/protocol.md, section 9)."""

from enum import StrEnum, unique


@unique
class EventKind(StrEnum):
    """The kinds of events that a device writes. The values are part of the file format."""

    # Decisions and changes of users, keys and invites.
    DENIED = "denied"
    USER_ADDED = "user-added"
    USER_CHANGED = "user-changed"
    USER_REMOVED = "user-removed"
    KEY_ADDED = "key-added"
    KEY_REVOKED = "key-revoked"
    INVITE_CREATED = "invite-created"
    INVITE_REDEEMED = "invite-redeemed"
    INVITE_REFUSED = "invite-refused"
    INVITE_WITHDRAWN = "invite-withdrawn"
    # Pairing. Those up to REGISTERED are `peer.pairing.events.EventKind`.
    WINDOW_OPENED = "window-opened"
    WINDOW_CLOSED = "window-closed"
    CEREMONY_STARTED = "ceremony-started"
    OVERLAP = "overlap"
    MISMATCH = "mismatch"
    REFUSED = "refused"
    ABORTED = "aborted"
    EXPIRED = "expired"
    REGISTERED = "registered"
    PAIRED = "paired"
    WINDOW_WITHDRAWN = "window-withdrawn"
    NOT_LOCAL = "not-local"
    BACK_OFF_CLEARED = "back-off-cleared"
    LABEL_MADE = "label-made"
    CODE_REVIVED = "code-revived"
    # The device itself.
    CLOCK_TRUSTED = "clock-trusted"
    POLICY_LOADED = "policy-loaded"
    POLICY_REFUSED = "policy-refused"
    STORE_RECOVERED = "store-recovered"
    STORE_RESTORED = "store-restored"
    RESTORED = "restored"
    STORE_CONFIRMED = "store-confirmed"
    IDENTITY_REPLACED = "identity-replaced"
    IDENTITY_ELSEWHERE = "identity-elsewhere"
    FACTORY_RESET = "factory-reset"
    REMOTE_ATTACHED = "remote-attached"
    REMOTE_DETACHED = "remote-detached"
    REMOTE_ROTATED = "remote-rotated"
