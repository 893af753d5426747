"""Answers and events of the console's verbs, as the control socket and `--json` have them.

Where an answer is made, a list may be an iterator, whose rows are encoded one by one.
"""

from collections.abc import Iterable
from typing import Literal, NotRequired, TypedDict

from device_app.access.bodies import UserView
from device_app.access.invitations import CreatedInviteView, InviteView
from device_app.access.records import RecordView
from device_app.console.views import CeremonyView, ClockView, IdentityView, WindowView
from device_app.remote.views import RemoteView, SelfTestStep

# -- the device ---------------------------------------------------------------------------------


class FingerprintAnswer(IdentityView):
    """`fingerprint`; `ni` is the URI of RFC 6920."""

    grouped: str
    ni: str


class InitAnswer(IdentityView):
    """`init`: what was created, or was there already; `owners`: the names given by --owner."""

    config: str
    state: str
    owners: NotRequired[list[str]]


class ClockAnswer(ClockView):
    """`clock`; `system` is the time of the system's clock."""

    system: int


class ResetAnswer(TypedDict):
    """`reset`."""

    reset: bool
    kept_identity: bool


class NewIdentityAnswer(IdentityView):
    """`new-identity`; `was` is the former fingerprint. `changed` is false if it was another one.

    `invites` is the number of invites that became invalid, `label` whether the label did, and
    `users` the number of users, who are kept.
    """

    changed: bool
    was: str
    users: int
    invites: int
    label: bool


# -- remote reach ---------------------------------------------------------------------------------


class RemoteAnswer(TypedDict):
    """`remote`."""

    remote: RemoteView


class RotatedAnswer(TypedDict):
    """`remote rotate`, with the new generation of the master key."""

    rotated: bool
    generation: int


class SelfTestEvent(TypedDict):
    """A step of `remote test`; `event` is `step`."""

    event: str
    step: SelfTestStep


class SelfTestAnswer(TypedDict):
    """`remote test`: whether no step has failed, and all steps."""

    passed: bool
    steps: list[SelfTestStep]


# -- pairing ------------------------------------------------------------------------------------


class WindowAnswer(TypedDict):
    """`press`."""

    window: WindowView


class ClosedAnswer(TypedDict):
    """`close`: whether the window was open."""

    closed: bool


class PendingAnswer(TypedDict):
    """`pending`: at most one ceremony waits."""

    pending: list[CeremonyView]


class CeremonyAnswer(TypedDict):
    """`accept` and `refuse`."""

    ceremony: CeremonyView


# -- users and invites ----------------------------------------------------------------------------


class UsersAnswer(TypedDict):
    """`users list`, by name."""

    users: Iterable[UserView]


class UserAnswer(TypedDict):
    """A user, after the change; `created`: `users add` has added the user, who was not there."""

    user: UserView
    created: NotRequired[bool]


class RemovedAnswer(TypedDict):
    """`users remove`: the name."""

    removed: str


class InviteAnswer(TypedDict):
    """`invite`, with its token."""

    invite: CreatedInviteView


class InvitesAnswer(TypedDict):
    """`invites list`, by the end of their validity."""

    invites: list[InviteView]


class WithdrawnAnswer(TypedDict):
    """`invites withdraw`: the invite's ID."""

    withdrawn: str


# -- the store and the audit trail -----------------------------------------------------------------


class EntryView(TypedDict):
    """A row of a store; which fields it has depends on `kind`."""

    kind: Literal["user", "key", "invite", "label"]
    name: NotRequired[str]
    role: NotRequired[str]
    was: NotRequired[str]
    user: NotRequired[str]
    fingerprint: NotRequired[str]
    id: NotRequired[str]


class EndView(TypedDict):
    """When a user, a key or an invite last ended, by the device's audit trail, and by whom."""

    at: int
    by: NotRequired[str]
    how: Literal["removed", "revoked", "withdrawn", "redeemed"]


class ChangeView(EntryView):
    """A change that restoring a copy makes; `marked`: the mark beside the copy confirms it.

    `ended`: what would come back ended after it was in force before.
    """

    change: Literal["added", "removed", "changed"]
    marked: NotRequired[bool]
    ended: NotRequired[EndView]


class BackupView(TypedDict):
    """`backup`: a file, and what it holds. `made` is the device's time."""

    file: str
    bytes: int
    name: str
    id: str
    made: int
    users: int
    keys: int
    invites: int
    has_key: bool
    settings: list[str]
    policies: list[str]
    modules: list[str]


class SourceView(TypedDict):
    """The device of a backup that is restored; `is_this`: it is the device that restores it."""

    name: str
    id: str
    fingerprint: str
    made: int
    has_key: bool
    is_this: bool


class RestoreAnswer(TypedDict):
    """`restore`, before (without the last two fields) and after; `backup`: made by `backup`."""

    copy: str
    damaged: bool
    changes: list[ChangeView]
    missing: list[EntryView]
    total: str
    backup: NotRequired[SourceView]
    restored: NotRequired[bool]
    replaced: NotRequired[str]


class RestoredUserView(TypedDict):
    """A user of a backup, with the fingerprints of the keys."""

    name: str
    role: str
    keys: list[str]


class DeviceRestoreAnswer(TypedDict):
    """`restore` of a whole device, before (without the last two fields) and after.

    `changes` are those to the users of a store that is replaced; `moved` are files of settings that
    are replaced or moved aside; `modules` are not in the backup; `invites` are withdrawn.
    """

    copy: str
    users: list[RestoredUserView]
    changes: list[ChangeView]
    invites: int
    has_key: bool
    settings: list[str]
    policies: list[str]
    modules: list[str]
    moved: list[str]
    backup: NotRequired[SourceView]
    restored: NotRequired[bool]
    replaced: NotRequired[str]


class DiscardAnswer(TypedDict):
    """`restore --discard`: whether there was anything to decide."""

    discarded: bool


class EventsAnswer(TypedDict):
    """`events`; `head` and `digest` are those of the newest event."""

    head: int
    digest: str
    events: Iterable[RecordView]


class AuditEvent(TypedDict):
    """An event that a follower of the audit trail is told."""

    event: str
    record: RecordView


class VerifyAnswer(TypedDict):
    """`events --verify`: head and digest, or where the chain breaks and why."""

    verified: bool
    head: NotRequired[int]
    digest: NotRequired[str]
    seq: NotRequired[int]
    why: NotRequired[str]
