"""The users of this device: what `iam` decides, on the store's state, with events for every change.

Knows nothing of the network: the running daemon and a command on the store alone use it alike.
Whoever must react to a change (end sessions, look at expiry) subscribes to the store.
"""

import logging
from collections.abc import Mapping
from typing import Any

from device_app.journal import Damper, Journal
from iam import changes
from iam.access import Access
from iam.audit import Event
from iam.changes import Rules
from iam.errors import StoreWriteFailed
from iam.model import Key, State, Subject, User
from iam.policy import Decision
from iam.store import Store
from peer.limits import Limits

_log = logging.getLogger("handfast.whitelist")
_EVENT_SECONDS = 10.0  # one stranger's attempts of one kind are one event in this time
CONSOLE = "console"


class Whitelist:
    """Users, keys and decisions. `trouble` says why the last write failed, or is empty."""

    def __init__(self, store: Store, access: Access, *, journal: Journal, limits: Limits) -> None:
        self.store = store
        self.access = access
        self.journal = journal
        self.rules = Rules(access.roles, limits.users, limits.keys_per_user)
        self.trouble = ""
        self._damper = Damper(_EVENT_SECONDS)

    @property
    def state(self) -> State:
        """Everybody, as the disk has them."""
        return self.store.state

    @property
    def now(self) -> float:
        """Wall-clock seconds."""
        return self.journal.wall()

    def subject(self, fingerprint: str) -> Subject:
        """Who this key is at this time."""
        return self.access.subject(self.state, fingerprint, self.now)

    def decide(self, subject: Subject, action: str) -> Decision:
        """May this subject do this?"""
        return self.access.decide(subject, action)

    # -- writing --------------------------------------------------------------------------------

    def commit(
        self, new: State, *events: Event, attempts: Mapping[str, object] | None = None
    ) -> None:
        """Make it durable. Raises `StoreWriteFailed`, remembers why, and says so in the log."""
        try:
            self.store.commit(new, *events, attempts=attempts)
        except StoreWriteFailed as error:
            if not self.trouble:
                _log.error("%s %s", error, error.advice)
            self.trouble = str(error)
            raise
        if self.trouble:
            _log.warning("the store can be written again")
        self.trouble = ""

    def note(self, kind: str, **fields: Any) -> None:
        """Append an event, as far as the disk lets: a full disk must not stop anything else."""
        try:
            self.commit(self.state, self.journal.event(kind, **fields))
        except StoreWriteFailed:
            _log.warning("the event %r could not be stored", kind)

    def note_stranger(self, kind: str, **fields: Any) -> None:
        """Append an event that a stranger caused: each kind, per address, once in a while."""
        key = (kind, fields.get("address", "").rpartition(":")[0])
        dropped = self._damper.admit(key, self.journal.monotonic())
        if dropped is None:
            return
        if dropped:
            fields["detail"] = f"{fields.get('detail', '')} (and {dropped} more)".strip()
        _log.info("%s: %s", kind, fields.get("detail", ""))
        self.note(kind, **fields)

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

    def forget_all(self) -> None:
        """Factory reset: nobody is known any more, and no failed attempt either."""
        event = self.journal.event("factory-reset", actor=CONSOLE)
        self.commit(State.of(()), event, attempts={})

    def _apply(self, new: State, kind: str, actor: Subject | None, **fields: Any) -> None:
        if new is self.state:
            return
        who = CONSOLE if actor is None else (actor.user.name if actor.user else "")
        self.commit(new, self.journal.event(kind, actor=who, **fields))
