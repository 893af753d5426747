"""Changes of users, keys and invites: the rules of `iam.changes`, made durable with their events.

Every method takes an actor: a subject, or None for a person at the device, who has the highest
rank. When it returns, the change and its event are on the disk; if it raises, nothing has changed.
To react to a change (end sessions, look at expiry, close a window), subscribe to the store.
"""

from collections.abc import Collection
from dataclasses import dataclass

from device_app.access.audit_log import CONSOLE, AuditLog
from device_app.access.authority import Authority
from device_app.access.bodies import UserPatch
from device_app.access.clock import Clock
from device_app.access.event_details import named_invite, of_invite, of_key, of_pairing, of_user
from device_app.access.event_kind import EventKind
from device_app.access.store_writer import StoreWriter
from iam import changes
from iam.audit import Event
from iam.changes import KEEP
from iam.errors import InviteRefused
from iam.model import Invite, Key, State, Subject, User
from iam.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedKey:
    """A key that asks to become a user by pairing, and what the ceremony has shown about it."""

    fingerprint: str
    name: str
    role: str
    method: str
    verified: bool = True
    receipt: bytes = b""


@dataclass(frozen=True, slots=True)
class PairingChange:
    """What a pairing changes, not yet written: the new state, its user and its event."""

    state: State
    user: User
    event: Event


class Registry:
    """The users, keys and invites of this device. Every change raises `IamError` if it is refused
    or cannot be written."""

    def __init__(
        self,
        store: Store,
        writer: StoreWriter,
        authority: Authority,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._store = store
        self._writer = writer
        self._authority = authority
        self._audit = audit
        self._clock = clock

    def add_user(self, actor: Subject | None, user: User) -> User:
        """Add a user."""
        new = changes.add_user(self._store.state, actor, user, rules=self._authority.rules)
        first, others = _first_key(user)
        more = [self._key_added(actor, user.name, key) for key in others]
        self._audit.spend(actor, 1 + len(more))
        event = self._audit.event(
            EventKind.USER_ADDED,
            actor=self._audit.actor_name(actor),
            user=user.name,
            role=user.role,
            fingerprint=first,
            detail=of_user(None, user),
        )
        self._commit(new, actor, event, *more)
        return new.user(user.name)

    def set_user(self, actor: Subject | None, name: str, patch: UserPatch) -> User:
        """Change the fields of a user that the patch gives."""
        rules, before = self._authority.rules, self._store.state.user(name)
        new_name = name if patch.name is None else patch.name
        new = changes.set_user(
            self._store.state,
            actor,
            name,
            rules=rules,
            role=KEEP if patch.role is None else patch.role,
            display_name=KEEP if patch.display_name is None else patch.display_name,
            not_before=patch.not_before,
            not_after=patch.not_after,
        )
        if new_name != name:
            new = changes.rename(new, actor, name, new_name, rules=rules)
        after = new.user(new_name)
        if new is not self._store.state:
            self._audit.spend(actor, 1)
        event = self._audit.event(
            EventKind.USER_CHANGED,
            actor=self._audit.actor_name(actor),
            user=name,
            role=after.role,
            detail=of_user(before, after),
        )
        self._commit(new, actor, event)
        if new_name != name:
            self._audit.rename_source(name, new_name)
        return after

    def remove_user(self, actor: Subject | None, name: str) -> None:
        """Remove a user with all keys."""
        removed = self._store.state.user(name)
        new = changes.remove_user(self._store.state, actor, name, rules=self._authority.rules)
        first, others = _first_key(removed)
        event = self._audit.event(
            EventKind.USER_REMOVED,
            actor=self._audit.actor_name(actor),
            user=name,
            role=removed.role,
            fingerprint=first,
        )
        more = [self._key_revoked(actor, name, key.fingerprint) for key in others]
        self._commit(new, actor, event, *more)

    def add_key(self, actor: Subject | None, name: str, key: Key) -> User:
        """Add a key to a user, or rename one that the user has."""
        state = self._store.state
        before = state.user(name)
        new = changes.add_key(state, actor, name, key, rules=self._authority.rules)
        after = new.user(name)
        if new is not state:
            held = before.key(key.fingerprint) if key.fingerprint in before.fingerprints else None
            self._audit.spend(actor, 1)
            event = self._key_added(actor, name, after.key(key.fingerprint), held)
            self._writer.commit(new, event)
        return after

    def remove_key(self, actor: Subject | None, name: str, fingerprint: str) -> User:
        """Remove one key of a user."""
        rules = self._authority.rules
        new = changes.remove_key(self._store.state, actor, name, fingerprint, rules=rules)
        self._commit(new, actor, self._key_revoked(actor, name, fingerprint))
        return new.user(name)

    def create_invite(self, actor: Subject | None, invite: Invite) -> Invite:
        """Add an invite in the actor's name. It cannot give access beyond the end of the actor's
        own."""
        rules = self._authority.rules
        new = changes.add_invite(
            self._store.state, actor, invite, now=self._clock.now(), rules=rules
        )
        created = new.invite(invite.id)
        self._audit.spend(actor, 1 + invite.uses)  # each redemption is an event of the maker's
        event = self._audit.event(
            EventKind.INVITE_CREATED,
            actor=self._audit.actor_name(actor),
            user=invite.name,
            role=invite.role,
            fingerprint=invite.key,
            detail=of_invite(created),
        )
        self._commit(new, actor, event)
        return created

    def remove_invite(self, actor: Subject | None, invite_id: str) -> None:
        """Withdraw an invite."""
        removed = self._store.state.invite(invite_id)
        rules = self._authority.rules
        new = changes.remove_invite(self._store.state, actor, invite_id, rules=rules)
        self._writer.commit(new, self._invite_withdrawn(actor, removed))

    def redeem(
        self,
        invite_id: str,
        *,
        fingerprint: str,
        key_name: str = "",
        address: str = "",
        interface: str = "",
    ) -> User:
        """Make a key a user by an invite. A refused invite is an event as well.

        Args:
            address: where the request came from, for the event; so is `interface`.
        """
        state = self._store.state
        try:
            new, user = changes.redeem(
                state,
                invite_id,
                fingerprint=fingerprint,
                now=self._clock.now(),
                rules=self._authority.rules,
                key_name=key_name,
            )
            if new is not state:
                self._authority.check_inviter(state.invite(invite_id), user)
        except InviteRefused as error:
            refusal = self._audit.event(
                EventKind.INVITE_REFUSED,
                fingerprint=fingerprint,
                address=address,
                interface=interface,
                result=str(error),
                detail=named_invite(invite_id),
            )
            self._audit.append_refusal(refusal)
            raise
        if new is not state:
            event = self._audit.event(
                EventKind.INVITE_REDEEMED,
                actor=state.invite(invite_id).inviter or CONSOLE,
                user=user.name,
                role=user.role,
                fingerprint=fingerprint,
                address=address,
                interface=interface,
                method="invite",
                detail=", ".join(filter(None, (named_invite(invite_id), of_user(None, user)))),
            )
            self._writer.commit(new, event)
        return user

    def plan_pairing(
        self, opener: Subject | None, key: PairedKey, *, not_after: float | None
    ) -> PairingChange:
        """What it would change to make a key a user by a window that `opener` opened.

        Writes nothing: at the start of a ceremony this is the check that its end can succeed.

        Args:
            not_after: the end of the access, in seconds since 1970; None for no end.
        """
        state = self._store.state
        new = changes.pair_user(
            state,
            opener,
            fingerprint=key.fingerprint,
            name=key.name,
            role=key.role,
            method=key.method,
            verified=key.verified,
            now=self._clock.now(),
            rules=self._authority.rules,
            not_after=not_after,
            receipt=key.receipt,
        )
        user = new.user(key.name)
        event = self._audit.event(
            EventKind.PAIRED,
            actor=self._audit.actor_name(opener),
            user=user.name,
            role=user.role,
            fingerprint=key.fingerprint,
            method=key.method,
            detail=of_pairing(state.user_of(key.fingerprint), user, key.fingerprint),
        )
        return PairingChange(new, user, event)

    def trust_system_clock(self) -> float:
        """Set device time to the system's time, even if that is earlier; returns it.

        Raises:
            AppError: the system's clock has not been set.
            StoreWriteFailed: the time is unchanged.
        """
        before, now = self._clock.now(), self._clock.system_time()
        self._store.reset_time_floor(now)
        self._clock.restart(now)
        event = self._audit.event(
            EventKind.CLOCK_TRUSTED, actor=CONSOLE, detail=f"{now - before:+.0f} s"
        )
        self._audit.append(event)
        return now

    def forget_all(self, *, keep: Collection[str] = ()) -> None:
        """Factory reset: forget every user, key, invite and event, and the records of attempts
        except those named in `keep`."""
        event = self._audit.event(EventKind.FACTORY_RESET, actor=CONSOLE)
        kept = {name: one for name, one in self._store.attempts.items() if name in keep}
        self._writer.reset(event, attempts=kept)

    def _commit(self, new: State, actor: Subject | None, *events: Event) -> None:
        """Commit a change with its events and those of the invites that end with it."""
        state = self._store.state
        if new is state:
            return
        now = self._clock.now()
        ended = [
            invite
            for invite_id, invite in state.invites.items()
            if invite_id not in new.invites and invite.expires > now
        ]
        self._writer.commit(new, *events, *(self._invite_withdrawn(actor, one) for one in ended))

    def _key_added(
        self, actor: Subject | None, user: str, key: Key, before: Key | None = None
    ) -> Event:
        return self._audit.event(
            EventKind.KEY_ADDED,
            actor=self._audit.actor_name(actor),
            user=user,
            fingerprint=key.fingerprint,
            method=key.method,
            detail=of_key(before, key),
        )

    def _key_revoked(self, actor: Subject | None, user: str, fingerprint: str) -> Event:
        name = self._audit.actor_name(actor)
        return self._audit.event(
            EventKind.KEY_REVOKED, actor=name, user=user, fingerprint=fingerprint
        )

    def _invite_withdrawn(self, actor: Subject | None, invite: Invite) -> Event:
        return self._audit.event(
            EventKind.INVITE_WITHDRAWN,
            actor=self._audit.actor_name(actor),
            user=invite.name,
            role=invite.role,
            detail=named_invite(invite.id),
        )


def _first_key(user: User) -> tuple[str, tuple[Key, ...]]:
    """The fingerprint in a user's own event, and the keys that have events of their own."""
    return (user.keys[0].fingerprint if user.keys else "", user.keys[1:])
