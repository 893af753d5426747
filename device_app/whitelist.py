"""The users of this device: what `iam` decides, on the store's state, with events for every change.

Knows nothing of the network: the running daemon and a command on the store alone use it alike.
Whoever must react to a change (end sessions, look at expiry, close a window) subscribes to the
store. Times are the device's own (`clock`), but for those in events, which are the system's.
"""

import logging
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from device_app.clock import Clock
from device_app.journal import Damper, Journal
from iam import changes
from iam.access import Access
from iam.attributes import OF_DEVICE
from iam.audit import Event
from iam.changes import Rules
from iam.errors import Denied, InviteRefused, StoreWriteFailed
from iam.model import Invite, Key, State, Subject, User
from iam.policy import Decision, Explanation
from iam.store import Store
from peer.limits import Limits

_log = logging.getLogger("handfast.whitelist")
_EVENT_SECONDS = 10.0  # one stranger's attempts of one kind are one event in this time
_NOTHING: Mapping[str, str] = MappingProxyType({})
CONSOLE = "console"
OPEN_WINDOW, CREATE_INVITE = "Pairing:OpenWindow", "Iam:CreateInvite"


def name_of(actor: Subject | None) -> str:
    """How events call whoever did something; None is whoever stands at the board."""
    if actor is None:
        return CONSOLE
    return actor.user.name if actor.user is not None else ""


class Whitelist:
    """Users, keys, invites and decisions. `trouble` says why the last write failed, or is empty."""

    def __init__(
        self,
        store: Store,
        access: Access,
        *,
        journal: Journal,
        limits: Limits,
        clock: Clock | None = None,
    ) -> None:
        self.store = store
        self.journal = journal
        self.clock = clock or Clock(
            wall=journal.wall, monotonic=journal.monotonic, floor=store.floor
        )
        self.trouble = ""
        self._limits = limits
        self._dampers: dict[str, Damper] = {}
        self.adopt(access)

    def adopt(self, access: Access) -> None:
        """Other roles and policies from now on."""
        limits = self._limits
        self.access = access
        self.rules = Rules(access.roles, limits.users, limits.keys_per_user, limits.invites)

    @property
    def state(self) -> State:
        """Everybody, as the disk has them."""
        return self.store.state

    @property
    def now(self) -> float:
        """Device time: seconds since 1970 that never run backwards."""
        return self.clock.now()

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
        an hour, however often it is called."""
        self.store.note_time(self.now)
        try:
            self.store.flush_seen()
        except StoreWriteFailed as error:
            self._in_trouble(error)
        else:
            self._out_of_trouble()

    def trust_system_clock(self) -> float:
        """Device time is the system's from now on, be it earlier. Raises `AppError`,
        `StoreWriteFailed`."""
        before, now = self.now, self.clock.system_time()
        self.store.reset_floor(now)
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

    def note_stranger(self, kind: str, **fields: Any) -> None:
        """Append an event that a stranger caused, per address once in a while; see `Damper`."""
        self._note_damped(kind, kind, fields.get("address", "").rpartition(":")[0], fields)

    def note_refusal(self, subject: Subject, action: str, reason: str, **fields: Any) -> None:
        """Append that somebody was refused, per key and action once in a while. `reason` is the
        statement that decided. Strangers, who cost nothing, do not use up what users have."""
        paired = subject.user is not None
        fields |= {
            "user": name_of(subject),
            "role": subject.role,
            "fingerprint": subject.fingerprint,
            "action": action,
            "result": reason,
        }
        budget = "denied" if paired else "denied unpaired"
        self._note_damped("denied", budget, (subject.fingerprint, action), fields)

    def _note_damped(self, kind: str, budget: str, key: object, fields: dict[str, Any]) -> None:
        damper = self._dampers.setdefault(budget, Damper(_EVENT_SECONDS))
        dropped = damper.admit(key, self.journal.monotonic())
        if dropped is None:
            return
        if dropped:
            fields["detail"] = f"{fields.get('detail', '')} (and {dropped} more)".strip()
        _log.info("%s: %s", kind, fields.get("detail") or fields.get("result", ""))
        self.note(kind, **fields)

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
        self._apply(new, "user-added", actor, user=user.name, role=user.role)
        return self.state.user(user.name)

    def set_user(self, actor: Subject | None, name: str, wishes: Mapping[str, Any]) -> User:
        """Change role, display name, times or, with `new_name`, the name. Raises `IamError`."""
        wishes = dict(wishes)
        new_name = wishes.pop("new_name", name)
        new = changes.set_user(self.state, actor, name, rules=self.rules, **wishes)
        if new_name != name:
            new = changes.rename(new, actor, name, new_name, rules=self.rules)
        role = new.user(new_name).role
        detail = f"now {new_name}" if new_name != name else ""
        self._apply(new, "user-changed", actor, user=name, role=role, detail=detail)
        return self.state.user(new_name)

    def remove_user(self, actor: Subject | None, name: str) -> None:
        """The user and all keys. Raises `IamError`."""
        new = changes.remove_user(self.state, actor, name, rules=self.rules)
        self._apply(new, "user-removed", actor, user=name)

    def add_key(self, actor: Subject | None, name: str, key: Key) -> User:
        """One more key for a user. Raises `IamError`."""
        new = changes.add_key(self.state, actor, name, key, rules=self.rules)
        self._apply(new, "key-added", actor, user=name, fingerprint=key.fingerprint)
        return self.state.user(name)

    def remove_key(self, actor: Subject | None, name: str, fingerprint: str) -> User:
        """One key less. Raises `IamError`."""
        new = changes.remove_key(self.state, actor, name, fingerprint, rules=self.rules)
        self._apply(new, "key-revoked", actor, user=name, fingerprint=fingerprint)
        return self.state.user(name)

    def create_invite(self, actor: Subject | None, invite: Invite) -> Invite:
        """A new invite, in the actor's name and cut to the actor's time. Raises `IamError`."""
        new = changes.add_invite(self.state, actor, invite, now=self.now, rules=self.rules)
        self._apply(
            new,
            "invite-created",
            actor,
            user=invite.name,
            role=invite.role,
            fingerprint=invite.key,
            detail=_invite_named(invite.id),
        )
        return self.state.invite(invite.id)

    def remove_invite(self, actor: Subject | None, invite_id: str) -> None:
        """Withdraw it. Raises `IamError`."""
        gone = self.state.invite(invite_id)
        new = changes.remove_invite(self.state, actor, invite_id, rules=self.rules)
        self._apply(
            new,
            "invite-withdrawn",
            actor,
            user=gone.name,
            role=gone.role,
            detail=_invite_named(invite_id),
        )

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
            self.note_stranger("invite-refused", detail=_invite_named(invite_id), **fields)
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
                detail=_invite_named(invite_id),
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
        """Factory reset: nobody is known any more, and no attempt either, but for entries to
        `keep` (what stays with the board)."""
        event = self.journal.event("factory-reset", actor=CONSOLE)
        kept = {name: one for name, one in self.store.attempts.items() if name in keep}
        self.commit(State.of(()), event, attempts=kept)

    def _apply(self, new: State, kind: str, actor: Subject | None, **fields: Any) -> None:
        if new is not self.state:
            self.commit(new, self.journal.event(kind, actor=name_of(actor), **fields))


def _invite_named(invite_id: str) -> str:
    return f"invite {invite_id[:8]}"
