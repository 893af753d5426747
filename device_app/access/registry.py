"""Changes of users, keys and invites: the rules of `iam.changes`, made durable with their events.

Every method takes an actor: a subject, or None for a person at the device, who has the highest
rank. When it returns, the change and its events are on the disk; if it raises, nothing has changed.
To react to a change (end sessions, check access periods, close a window), subscribe to the store.
"""

from collections.abc import Collection
from dataclasses import dataclass

from device_app.access.audit_log import CONSOLE, AuditLog
from device_app.access.authority import Authority
from device_app.access.bodies import UserPatch
from device_app.access.change_events import NO_PATH, ChangeEvents, PairedKey, RequestPath
from device_app.access.clock import Clock
from device_app.access.event_kind import EventKind
from device_app.access.store_writer import StoreWriter
from iam import changes
from iam.audit import Event
from iam.changes import KEEP
from iam.errors import InviteRefused
from iam.model import Invite, Key, State, Subject, User
from iam.store import Store


@dataclass(frozen=True, slots=True)
class PairingChange:
    """The change that a pairing makes, not yet written: the new state, the user, the event."""

    state: State
    user: User
    event: Event


class Registry:
    """The users, keys and invites of this device.

    A change that is refused, or that cannot be written, raises `IamError`.
    """

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
        self._events = ChangeEvents(audit)

    # -- users and keys -------------------------------------------------------------------------

    def add_user(self, actor: Subject | None, user: User) -> User:
        """Add a user. If there is one with all that is given, nothing is changed."""
        state, rules = self._store.state, self._authority.rules
        known = state.users.get(user.name)
        if known is not None and _has(known, user):
            changes.check_grant(state, actor, user.role, not_after=user.not_after, rules=rules)
            return known
        new = changes.add_user(state, actor, user, rules=rules)
        events = self._events.user_added(actor, user)
        self._audit.spend(actor, len(events))
        self._commit(new, actor, *events)
        return new.user(user.name)

    def set_user(self, actor: Subject | None, name: str, patch: UserPatch) -> User:
        """Change the fields of a user that the patch gives."""
        state, rules = self._store.state, self._authority.rules
        before = state.user(name)
        name, new_name = before.name, before.name if patch.name is None else patch.name
        new = changes.set_user(
            state,
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
        if new is not state:
            self._audit.spend(actor, 1)
            self._commit(new, actor, self._events.user_changed(actor, before, after))
        if new_name != name:
            self._audit.rename_source(name, new_name)
        return after

    def remove_user(self, actor: Subject | None, name: str) -> str:
        """Remove a user with all keys; return the name."""
        user = self._store.state.user(name)
        new = changes.remove_user(self._store.state, actor, name, rules=self._authority.rules)
        self._commit(new, actor, *self._events.user_removed(actor, user))
        return user.name

    def add_key(self, actor: Subject | None, name: str, key: Key) -> User:
        """Add a key to a user, or rename one that the user has."""
        state = self._store.state
        before = state.user(name)
        new = changes.add_key(state, actor, name, key, rules=self._authority.rules)
        after = new.user(name)
        if new is not state:
            known = before.key(key.fingerprint) if key.fingerprint in before.fingerprints else None
            self._audit.spend(actor, 1)
            event = self._events.key_added(actor, before.name, after.key(key.fingerprint), known)
            self._writer.commit(new, event)
        return after

    def remove_key(self, actor: Subject | None, name: str, fingerprint: str) -> User:
        """Remove one key of a user."""
        rules = self._authority.rules
        name = self._store.state.user(name).name
        new = changes.remove_key(self._store.state, actor, name, fingerprint, rules=rules)
        self._commit(new, actor, self._events.key_revoked(actor, name, fingerprint))
        return new.user(name)

    def plan_pairing(
        self, opener: Subject | None, key: PairedKey, *, not_after: float | None
    ) -> PairingChange:
        """Make a key a user by a window that `opener` opened, without writing it.

        At the start of a ceremony this checks that its end can succeed. `not_after` is the end of
        the access in seconds since 1970, or None.
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
        before, after = state.user_of(key.fingerprint), new.user_of(key.fingerprint)
        assert after is not None  # `pair_user` has added the key
        return PairingChange(new, after, self._events.paired(opener, before, after, key))

    # -- invites --------------------------------------------------------------------------------

    def create_invite(self, actor: Subject | None, invite: Invite) -> Invite:
        """Add an invite in the actor's name. The access it gives ends no later than the actor's."""
        state, rules = self._store.state, self._authority.rules
        new = changes.add_invite(state, actor, invite, now=self._clock.now(), rules=rules)
        created = new.invite(invite.id)
        self._audit.spend(actor, 1 + invite.uses)  # each redemption is an event of the actor's
        self._commit(new, actor, self._events.invite_created(actor, created))
        return created

    def remove_invite(self, actor: Subject | None, invite_id: str) -> None:
        """Withdraw an invite."""
        invite = self._store.state.invite(invite_id)
        rules = self._authority.rules
        new = changes.remove_invite(self._store.state, actor, invite_id, rules=rules)
        self._writer.commit(new, self._events.invite_withdrawn(actor, invite))

    def redeem(
        self,
        invite_id: str,
        *,
        fingerprint: str,
        key_name: str = "",
        path: RequestPath = NO_PATH,
    ) -> User:
        """Make a key a user by an invite. An invite that is refused is an event as well."""
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
            refusal = self._events.invite_refused(invite_id, fingerprint, str(error), path)
            self._audit.append_refusal(refusal)
            raise
        if new is not state:
            invite = state.invite(invite_id)
            self._writer.commit(new, self._events.invite_redeemed(invite, user, fingerprint, path))
        return user

    # -- the device -----------------------------------------------------------------------------

    def trust_system_clock(self) -> float:
        """Set device time to the system's time, even if that is earlier; return it.

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
        """Factory reset: forget every user, key, invite and event.

        The records of attempts are forgotten except those named in `keep`.
        """
        event = self._audit.event(EventKind.FACTORY_RESET, actor=CONSOLE)
        kept = {name: one for name, one in self._store.attempts.items() if name in keep}
        self._writer.reset(event, attempts=kept)

    def _commit(self, new: State, actor: Subject | None, *events: Event) -> None:
        """Commit a change with its events and those of the invites that it ends."""
        state, now = self._store.state, self._clock.now()
        if new is state:
            return
        ended = [
            invite
            for invite_id, invite in state.invites.items()
            if invite_id not in new.invites and invite.expires > now
        ]
        withdrawn = (self._events.invite_withdrawn(actor, one) for one in ended)
        self._writer.commit(new, *events, *withdrawn)


def _has(known: User, given: User) -> bool:
    """Whether a user has everything that a request to add the user gives."""
    return (
        (known.role, known.display_name) == (given.role, given.display_name)
        and (known.not_before, known.not_after) == (given.not_before, given.not_after)
        and set(given.fingerprints) <= set(known.fingerprints)
    )
