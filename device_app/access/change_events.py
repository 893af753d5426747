"""The events of changes of users, keys and invites."""

from dataclasses import dataclass
from typing import Final

from device_app.access.audit_log import CONSOLE, AuditLog
from device_app.access.change_details import (
    invite_details,
    invite_label,
    key_details,
    pairing_details,
    redemption_details,
    user_details,
)
from device_app.access.event_kind import EventKind
from iam.audit import Event
from iam.model import Invite, Key, Subject, User


@dataclass(frozen=True, slots=True)
class RequestPath:
    """The address and the network interface that a request came from, for its events."""

    address: str = ""
    interface: str = ""


NO_PATH: Final = RequestPath()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedKey:
    """A key that is to become a user by pairing, and what the ceremony has shown about it."""

    fingerprint: str
    name: str
    role: str
    method: str
    verified: bool = True
    receipt: bytes = b""


class ChangeEvents:
    """Creates the events of changes; the actor is None for a person at the device.

    The event of a user has the first key; every other key has an event of its own.
    """

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def user_added(self, actor: Subject | None, user: User) -> list[Event]:
        """A new user with all keys."""
        event = self._audit.event(
            EventKind.USER_ADDED,
            actor=self._audit.actor_name(actor),
            user=user.name,
            role=user.role,
            fingerprint=_first_fingerprint(user),
            detail=user_details(None, user),
        )
        return [event, *(self.key_added(actor, user.name, key) for key in user.keys[1:])]

    def user_changed(self, actor: Subject | None, before: User, after: User) -> Event:
        """Other values of a user; the event has the old name."""
        return self._audit.event(
            EventKind.USER_CHANGED,
            actor=self._audit.actor_name(actor),
            user=before.name,
            role=after.role,
            detail=user_details(before, after),
        )

    def user_removed(self, actor: Subject | None, user: User) -> list[Event]:
        """The end of a user and of all keys."""
        event = self._audit.event(
            EventKind.USER_REMOVED,
            actor=self._audit.actor_name(actor),
            user=user.name,
            role=user.role,
            fingerprint=_first_fingerprint(user),
        )
        others = user.keys[1:]
        return [event, *(self.key_revoked(actor, user.name, key.fingerprint) for key in others)]

    def key_added(
        self, actor: Subject | None, user: str, key: Key, before: Key | None = None
    ) -> Event:
        """A new key of a user, or another name of the key `before`."""
        return self._audit.event(
            EventKind.KEY_ADDED,
            actor=self._audit.actor_name(actor),
            user=user,
            fingerprint=key.fingerprint,
            method=key.method,
            detail=key_details(before, key),
        )

    def key_revoked(self, actor: Subject | None, user: str, fingerprint: str) -> Event:
        """The end of one key."""
        name = self._audit.actor_name(actor)
        return self._audit.event(
            EventKind.KEY_REVOKED, actor=name, user=user, fingerprint=fingerprint
        )

    def paired(
        self, opener: Subject | None, before: User | None, after: User, key: PairedKey
    ) -> Event:
        """A key that has become a user, or has been verified, by pairing."""
        return self._audit.event(
            EventKind.PAIRED,
            actor=self._audit.actor_name(opener),
            user=after.name,
            role=after.role,
            fingerprint=key.fingerprint,
            method=key.method,
            detail=pairing_details(before, after, key.fingerprint),
        )

    def invite_created(self, actor: Subject | None, invite: Invite) -> Event:
        """A new invite."""
        return self._audit.event(
            EventKind.INVITE_CREATED,
            actor=self._audit.actor_name(actor),
            user=invite.name,
            role=invite.role,
            fingerprint=invite.key,
            detail=invite_details(invite),
        )

    def invite_withdrawn(self, actor: Subject | None, invite: Invite) -> Event:
        """An invite that was withdrawn, or that ended with its inviter."""
        return self._audit.event(
            EventKind.INVITE_WITHDRAWN,
            actor=self._audit.actor_name(actor),
            user=invite.name,
            role=invite.role,
            detail=invite_label(invite.id),
        )

    def invite_redeemed(
        self, invite: Invite, user: User, fingerprint: str, path: RequestPath
    ) -> Event:
        """A key that has become a user by an invite; the actor is the inviter."""
        return self._audit.event(
            EventKind.INVITE_REDEEMED,
            actor=invite.inviter or CONSOLE,
            user=user.name,
            role=user.role,
            fingerprint=fingerprint,
            address=path.address,
            interface=path.interface,
            method="invite",
            detail=redemption_details(invite.id, user),
        )

    def invite_refused(
        self, invite_id: str, fingerprint: str, reason: str, path: RequestPath
    ) -> Event:
        """An invite that is not valid, or not for this key."""
        return self._audit.event(
            EventKind.INVITE_REFUSED,
            fingerprint=fingerprint,
            address=path.address,
            interface=path.interface,
            result=reason,
            detail=invite_label(invite_id),
        )


def _first_fingerprint(user: User) -> str:
    return user.keys[0].fingerprint if user.keys else ""
