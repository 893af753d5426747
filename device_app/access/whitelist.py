"""The users of this device: what `iam` decides, on the store's state, with events for every change.

Knows nothing of the network: the running daemon and a command on the store alone use it alike.
Whoever must react to a change (end sessions, look at expiry, close a window) subscribes to the
store. Times are the device's own (`clock`), but for those in events, which are the system's.
"""

import logging
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from device_app.access.clock import Clock
from device_app.access.event_budget import EventBudgets
from device_app.access.event_details import named_invite, of_invite, of_key, of_user
from device_app.access.journal import Journal
from iam import changes
from iam.access import Access
from iam.attributes import OF_DEVICE
from iam.audit import Event
from iam.builtin import OWNER
from iam.changes import Rules
from iam.errors import Denied, InviteRefused, StoreWriteFailed
from iam.limits import DEFAULT_IAM_LIMITS, IamLimits
from iam.model import Invite, Key, State, Subject, User
from iam.policy import Decision, Explanation
from iam.store import Store

_log = logging.getLogger("handfast.whitelist")
_WINDOW_EVENTS = 10  # what a window and those who come to it may cause
_NOTHING: Mapping[str, str] = MappingProxyType({})
CONSOLE = "@console"  # in events; no user's name can be that
CLOCK_ADVICE = "If the system's clock is right now: `handfast-device clock --trust-system`."
OPEN_WINDOW, CREATE_INVITE = "Pairing:OpenWindow", "Iam:CreateInvite"


class Whitelist:
    """Users, keys, invites and decisions. `trouble` says why the last write failed, or is empty."""

    def __init__(
        self,
        store: Store,
        access: Access,
        *,
        journal: Journal,
        limits: IamLimits = DEFAULT_IAM_LIMITS,
        clock: Clock | None = None,
    ) -> None:
        self.store = store
        self.journal = journal
        self.clock = clock or Clock(
            wall=journal.wall, monotonic=journal.monotonic, floor=store.time_floor
        )
        self.trouble = ""
        self._clock_trouble = ""
        self.limits = limits
        self._budgets = EventBudgets(limits)
        self.adopt(access)

    def adopt(self, access: Access) -> None:
        """Other roles and policies from now on."""
        self.access = access
        self.rules = Rules(access.roles, self.limits)

    @property
    def state(self) -> State:
        """Everybody, as the disk has them."""
        return self.store.state

    @property
    def now(self) -> float:
        """Device time: seconds since 1970 that never run backwards."""
        return self.clock.now()

    def name_of(self, actor: Subject | None) -> str:
        """How events call whoever did something: by the name that their key has now, for another
        user may have the old one. None is whoever stands at the board."""
        if actor is None:
            return CONSOLE
        user = self.state.user_of(actor.fingerprint) or actor.user
        return user.name if user is not None else ""

    # -- deciding -------------------------------------------------------------------------------

    def subject(self, fingerprint: str) -> Subject:
        """Who this key is at this time."""
        return self.access.subject(self.state, fingerprint, self.now)

    def decide(
        self, subject: Subject, action: str, attributes: Mapping[str, str] = _NOTHING
    ) -> Decision:
        """May this subject do this?"""
        return self.access.decide(subject, action, attributes)

    def conceivable(
        self, subject: Subject, action: str, attributes: Mapping[str, str] = _NOTHING
    ) -> Decision:
        """May this subject do this to anybody at all? For when the target is not known yet."""
        return self.access.conceivable(subject, action, attributes)

    def depends_on(
        self, subject: Subject, action: str, attributes: Mapping[str, str] = _NOTHING
    ) -> tuple[str, ...]:
        """What only a request tells and decides whether this subject may do this."""
        return self.access.depends_on(subject, action, attributes)

    def explain(
        self, name: str, action: str, attributes: Mapping[str, str] = _NOTHING
    ) -> Explanation:
        """Why this user may or may not do this now. Raises `NotFound`."""
        return self.access.explain(
            self.subject_named(name), action, {**self.time_attributes(), **attributes}
        )

    def subject_named(self, name: str) -> Subject:
        """A user as they would ask, with the first of their keys. Raises `NotFound`."""
        user = self.state.user(name)
        if user.keys:
            return self.subject(user.keys[0].fingerprint)
        return Subject("", user, user.role)

    def time_attributes(self) -> dict[str, str]:
        """`Clock:Now`, or nothing while the time is not known."""
        return {"Clock:Now": str(int(self.now))} if self.clock.known else {}

    def check_opener(
        self, opener: Subject | None, role: str, attributes: Mapping[str, str] = _NOTHING
    ) -> float | None:
        """May whoever opened a window (None: the console) still open one for this role? Gives the
        end of what they may give. Raises `Denied` or `NotFound`."""
        if opener is None:
            changes.check_grant(self.state, None, role, rules=self.rules)
            return None
        asker = self.subject(opener.fingerprint)
        now = {**attributes, **self.time_attributes(), "IAM:RoleId": role}
        decision = self.decide(asker, OPEN_WINDOW, now)
        if asker.user is None or opener.user is None or not decision.allowed:
            raise Denied(decision.missing or "You have no access.", advice="Ask an owner.")
        ends = [user.not_after for user in (asker.user, opener.user) if user.not_after is not None]
        end = min(ends, default=None)
        changes.check_grant(self.state, opener, role, not_after=end, rules=self.rules)
        return end

    # -- writing --------------------------------------------------------------------------------

    def commit(
        self, new: State, *events: Event, attempts: Mapping[str, object] | None = None
    ) -> None:
        """Make it durable, with the time of now as the clock's floor. Raises `StoreWriteFailed`,
        remembers why, and says so in the log."""
        self.store.note_time(self.now)
        try:
            self.store.commit(new, *events, attempts=attempts)
        except StoreWriteFailed as error:
            self._in_trouble(error)
            raise
        self._out_of_trouble()

    def keep(self) -> None:
        """What is not written at once: the clock's floor, and who was seen when. At most one write
        an hour, however often it is called. Says in the log if the clock has become doubtful."""
        self.check_clock()
        self.store.note_time(self.now)
        try:
            self.store.flush_seen()
        except StoreWriteFailed as error:
            self._in_trouble(error)
        else:
            self._out_of_trouble()

    def check_clock(self) -> None:
        """Say in the log, once, what is the matter with the clock."""
        before, self._clock_trouble = self._clock_trouble, self.clock.trouble
        if self._clock_trouble and not before:
            _log.warning("%s. %s", self._clock_trouble, CLOCK_ADVICE)

    def trust_system_clock(self) -> float:
        """Device time is the system's from now on, be it earlier. Raises `AppError`,
        `StoreWriteFailed`."""
        before, now = self.now, self.clock.system_time()
        self.store.reset_time_floor(now)
        self.clock.restart(now)
        self.note("clock-trusted", actor=CONSOLE, detail=f"{now - before:+.0f} s")
        return now

    def saw(self, fingerprint: str) -> None:
        """A paired key has just asked for something."""
        self.store.note_seen(fingerprint, self.now)

    def note(self, kind: str, **fields: Any) -> None:
        """Append an event, as far as the disk lets: a full disk must not stop anything else."""
        try:
            self.commit(self.state, self.journal.event(kind, **fields))
        except StoreWriteFailed:
            _log.warning("the event %r could not be stored", kind)

    def note_stranger(
        self, kind: str, *, fingerprint: str, address: str = "", **fields: Any
    ) -> None:
        """Append that somebody tried what is not for them, as far as the budget of their user, or
        of their network, allows."""
        fields |= {"fingerprint": fingerprint, "address": address}
        self._note_refused(kind, self.state.user_of(fingerprint), kind, fields)

    def note_refusal(
        self, subject: Subject, action: str, reason: str, *, address: str = "", **fields: Any
    ) -> None:
        """Append that somebody was refused, within the same budgets. `reason` is the statement
        that decided."""
        fields |= {
            "user": subject.user.name if subject.user is not None else "",
            "role": subject.role,
            "fingerprint": subject.fingerprint,
            "address": address,
            "action": action,
            "result": reason,
        }
        self._note_refused("denied", subject.user, action, fields)

    def _note_refused(
        self, kind: str, user: User | None, what: str, fields: dict[str, Any]
    ) -> None:
        name = user.name if user is not None else ""
        now = self.journal.monotonic()
        omitted = self._budgets.admit_refusal(kind, name, fields["address"], what, now)
        if omitted is None:
            return
        fields["detail"] = f"{fields.get('detail', '')} {omitted}".strip()
        _log.info("%s: %s", kind, fields["detail"] or fields.get("result", ""))
        self.note(kind, **fields)

    def spend(self, actor: Subject | None, count: int) -> None:
        """Take the events of a change from the budget of its actor. The console has no bound.

        Raises `TooMany`: the change must not be made.
        """
        if actor is not None:
            now = self.journal.monotonic()
            self._budgets.spend(self.name_of(actor), count, now, is_owner=actor.role == OWNER)

    def spend_window(self, actor: Subject | None) -> None:
        """The same for opening a pairing window. Raises `TooMany`."""
        self.spend(actor, _WINDOW_EVENTS)

    def _in_trouble(self, error: StoreWriteFailed) -> None:
        if not self.trouble:
            _log.error("%s %s", error, error.advice)
        self.trouble = str(error)

    def _out_of_trouble(self) -> None:
        if self.trouble:
            _log.warning("the store can be written again")
        self.trouble = ""

    # -- changes, by an actor (None: whoever stands at the board) --------------------------------

    def add_user(self, actor: Subject | None, user: User) -> User:
        """A new user. Raises `IamError`."""
        new = changes.add_user(self.state, actor, user, rules=self.rules)
        first, others = _first_key(user)
        more = [self._key_event(actor, user.name, key) for key in others]
        self.spend(actor, 1 + len(more))
        self._apply(
            new,
            "user-added",
            actor,
            *more,
            user=user.name,
            role=user.role,
            fingerprint=first,
            detail=of_user(None, user),
        )
        return self.state.user(user.name)

    def set_user(self, actor: Subject | None, name: str, wishes: Mapping[str, Any]) -> User:
        """Change role, display name, times or, with `new_name`, the name. Raises `IamError`."""
        wishes, before = dict(wishes), self.state.user(name)
        new_name = wishes.pop("new_name", name)
        new = changes.set_user(self.state, actor, name, rules=self.rules, **wishes)
        if new_name != name:
            new = changes.rename(new, actor, name, new_name, rules=self.rules)
        after = new.user(new_name)
        if new is not self.state:
            self.spend(actor, 1)
        detail = of_user(before, after)
        self._apply(new, "user-changed", actor, user=name, role=after.role, detail=detail)
        if new_name != name:
            self._budgets.rename(name, new_name)
        return after

    def remove_user(self, actor: Subject | None, name: str) -> None:
        """The user and all keys. Raises `IamError`."""
        gone = self.state.user(name)
        new = changes.remove_user(self.state, actor, name, rules=self.rules)
        first, others = _first_key(gone)
        more = [self._key_gone(actor, name, key.fingerprint) for key in others]
        fields = {"user": name, "role": gone.role, "fingerprint": first}
        self._apply(new, "user-removed", actor, *more, **fields)

    def add_key(self, actor: Subject | None, name: str, key: Key) -> User:
        """One more key for a user, or another name for one. Raises `IamError`."""
        before = self.state.user(name)
        new = changes.add_key(self.state, actor, name, key, rules=self.rules)
        after = new.user(name)
        if new is not self.state:
            held = before.key(key.fingerprint) if key.fingerprint in before.fingerprints else None
            self.spend(actor, 1)
            event = self._key_event(actor, name, after.key(key.fingerprint), held)
            self.commit(new, event)
        return after

    def remove_key(self, actor: Subject | None, name: str, fingerprint: str) -> User:
        """One key less. Raises `IamError`."""
        new = changes.remove_key(self.state, actor, name, fingerprint, rules=self.rules)
        self._apply(new, "key-revoked", actor, user=name, fingerprint=fingerprint)
        return self.state.user(name)

    def create_invite(self, actor: Subject | None, invite: Invite) -> Invite:
        """A new invite, in the actor's name and cut to the actor's time. Raises `IamError`."""
        new = changes.add_invite(self.state, actor, invite, now=self.now, rules=self.rules)
        self.spend(actor, 1 + invite.uses)  # whoever redeems it acts for its maker
        self._apply(
            new,
            "invite-created",
            actor,
            user=invite.name,
            role=invite.role,
            fingerprint=invite.key,
            detail=of_invite(new.invite(invite.id)),
        )
        return self.state.invite(invite.id)

    def remove_invite(self, actor: Subject | None, invite_id: str) -> None:
        """Withdraw it. Raises `IamError`."""
        gone = self.state.invite(invite_id)
        new = changes.remove_invite(self.state, actor, invite_id, rules=self.rules)
        self.commit(new, self._invite_gone(actor, gone))

    def redeem(self, invite_id: str, *, fingerprint: str, key_name: str = "", **path: str) -> User:
        """The user that this key becomes by an invite; `path` goes into the event (`address`,
        `interface`). Raises `IamError`; whoever has no good invite is noted as well."""
        try:
            new, user = changes.redeem(
                self.state,
                invite_id,
                fingerprint=fingerprint,
                now=self.now,
                rules=self.rules,
                key_name=key_name,
            )
            if new is not self.state:
                self._check_inviter(self.state.invite(invite_id), user)
        except InviteRefused as error:
            fields = {"fingerprint": fingerprint, "result": str(error), **path}
            self.note_stranger("invite-refused", detail=named_invite(invite_id), **fields)
            raise
        if new is not self.state:
            invite = self.state.invite(invite_id)
            event = self.journal.event(
                "invite-redeemed",
                actor=invite.inviter or CONSOLE,
                user=user.name,
                role=user.role,
                fingerprint=fingerprint,
                method="invite",
                detail=", ".join(filter(None, (named_invite(invite_id), of_user(None, user)))),
                **path,
            )
            self.commit(new, event)
        return user

    def _check_inviter(self, invite: Invite, invited: User) -> None:
        """May the inviter let in this very user? By policy, as far as that can be known now: which
        way the inviter came is not asked again. Raises `InviteRefused`."""
        if not invite.inviter:
            return
        about = {
            "IAM:RoleId": invited.role,
            "IAM:Username": invited.name,
            "IAM:Fingerprint": invited.keys[0].fingerprint,
            **self.time_attributes(),
        }
        subjects = map(self.subject, self.state.user(invite.inviter).fingerprints)
        if not any(
            self.access.conceivable(one, CREATE_INVITE, about, unknown=OF_DEVICE).allowed
            for one in subjects
        ):
            raise InviteRefused(
                f"whoever invited you may not invite {invited.name!r} any more",
                advice="Ask for a new invite.",
            )

    def forget_all(self, *, keep: Collection[str] = ()) -> None:
        """Factory reset: nobody is known any more, nor any attempt or event, but for entries to
        `keep` (what stays with the board)."""
        event = self.journal.event("factory-reset", actor=CONSOLE)
        kept = {name: one for name, one in self.store.attempts.items() if name in keep}
        try:
            self.store.reset(event, attempts=kept)
        except StoreWriteFailed as error:
            self._in_trouble(error)
            raise
        self._out_of_trouble()

    def _apply(
        self, new: State, kind: str, actor: Subject | None, *more: Event, **fields: Any
    ) -> None:
        """Commit a change with its event, those that come with it, and the ends of the invites that
        it ends."""
        if new is self.state:
            return
        event = self.journal.event(kind, actor=self.name_of(actor), **fields)
        now, old = self.now, self.state.invites
        ended = [old[one] for one in old if one not in new.invites and old[one].expires > now]
        self.commit(new, event, *more, *(self._invite_gone(actor, one) for one in ended))

    def _key_event(
        self, actor: Subject | None, user: str, key: Key, before: Key | None = None
    ) -> Event:
        return self.journal.event(
            "key-added",
            actor=self.name_of(actor),
            user=user,
            fingerprint=key.fingerprint,
            method=key.method,
            detail=of_key(before, key),
        )

    def _key_gone(self, actor: Subject | None, user: str, fingerprint: str) -> Event:
        name = self.name_of(actor)
        return self.journal.event("key-revoked", actor=name, user=user, fingerprint=fingerprint)

    def _invite_gone(self, actor: Subject | None, invite: Invite) -> Event:
        return self.journal.event(
            "invite-withdrawn",
            actor=self.name_of(actor),
            user=invite.name,
            role=invite.role,
            detail=named_invite(invite.id),
        )


def _first_key(user: User) -> tuple[str, tuple[Key, ...]]:
    """The fingerprint that stands in a user's own event, and the keys that have events apart."""
    return (user.keys[0].fingerprint if user.keys else "", user.keys[1:])
