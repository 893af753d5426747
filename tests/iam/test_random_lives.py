"""Random changes by random people: owners never run out, nobody climbs, and the disk agrees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iam import Access, IamError, Key, Rules, State, Store, Subject, User
from iam import changes as to

ACCESS = Access()
RULES = Rules(ACCESS.roles, users=6, keys_per_user=3)
PRINTS = tuple(sha256(bytes([n])).hexdigest() for n in range(8))

names = st.sampled_from(("anna", "bert", "carl", "dora", "eve", "finn", "gina"))
roles = st.sampled_from(("owner", "admin", "user", "guest", "unpaired", "chief"))
prints = st.sampled_from(PRINTS)
ends = st.sampled_from((None, 50.0, 100.0, 200.0))
keys = st.builds(Key, prints, st.sampled_from(("", "phone")), added=st.sampled_from((1.0, 2.0)))
NOW = 75.0


def reach(user: User) -> tuple[float, float]:
    return RULES.rank(user.role), user.end


class Lives(RuleBasedStateMachine):
    """Each call is made by whoever holds a key, or by the console (None), policy aside."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.db"
        self.store = Store.open(self.path)
        self.had_owner = False

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @property
    def state(self) -> State:
        return self.store.state

    @initialize(key=prints)
    def first(self, key: str) -> None:
        new = to.pair_user(
            State(),
            None,
            fingerprint=key,
            name="anna",
            role="owner",
            method="x",
            now=1,
            rules=RULES,
        )
        self.store.commit(new)

    def act(self, by: str | None, wish: str, *args: object, **options: object) -> None:
        actor = None if by is None else ACCESS.subject(self.state, by, NOW)
        old = self.state
        with suppress(IamError):
            new = getattr(to, wish)(old, actor, *args, rules=RULES, **options)
            if actor is not None:
                self.no_climb(actor, old, new)
            self.store.commit(new)

    def no_climb(self, actor: Subject, old: State, new: State) -> None:
        """Whatever key gained anything, gained no more than the actor has."""
        if actor.user is None:
            assert new is old, "a stranger changed something"
            return
        rank, end = reach(actor.user)
        for key in PRINTS:
            before, after = old.user_of(key), new.user_of(key)
            had = reach(before) if before else (-inf, -inf)
            has = reach(after) if after else (-inf, -inf)
            assert had[0] <= rank or has == had, "somebody above was touched"
            assert has[0] <= max(had[0], rank)
            assert has[1] <= max(had[1], end)

    @rule(by=prints | st.none(), name=names, role=roles, end=ends, key=keys | st.none())
    def add(self, by: str | None, name: str, role: str, end: float | None, key: Key | None) -> None:
        user = User(name, role, (key,) if key else (), not_after=end)
        self.act(by, "add_user", user)

    @rule(by=prints | st.none(), name=names, role=roles, key=prints, end=ends)
    def pair(self, by: str | None, name: str, role: str, key: str, end: float | None) -> None:
        self.act(
            by,
            "pair_user",
            fingerprint=key,
            name=name,
            role=role,
            method="x",
            now=NOW,
            not_after=end,
        )

    @rule(by=prints | st.none(), name=names, role=roles)
    def set_role(self, by: str | None, name: str, role: str) -> None:
        self.act(by, "set_user", name, role=role)

    @rule(by=prints | st.none(), name=names, start=st.sampled_from((None, 10.0)), end=ends)
    def set_time(self, by: str | None, name: str, start: float | None, end: float | None) -> None:
        self.act(by, "set_user", name, not_before=start, not_after=end)

    @rule(by=prints | st.none(), name=names, new=names)
    def rename(self, by: str | None, name: str, new: str) -> None:
        self.act(by, "rename", name, new)

    @rule(by=prints | st.none(), name=names)
    def remove(self, by: str | None, name: str) -> None:
        self.act(by, "remove_user", name)

    @rule(by=prints | st.none(), name=names, key=keys)
    def add_key(self, by: str | None, name: str, key: Key) -> None:
        self.act(by, "add_key", name, key)

    @rule(by=prints | st.none(), name=names, key=prints)
    def remove_key(self, by: str | None, name: str, key: str) -> None:
        self.act(by, "remove_key", name, key)

    @rule()
    def restart(self) -> None:
        before = self.state
        self.store.close()
        self.store = Store.open(self.path)
        assert self.state == before
        assert dict(self.state.owner_of_key) == dict(before.owner_of_key)

    @invariant()
    def an_owner_is_left(self) -> None:
        lasting = [
            user
            for user in self.state.users.values()
            if user.role == "owner" and user.keys and user.start == -inf and user.end == inf
        ]
        self.had_owner = self.had_owner or bool(lasting)
        assert lasting or not self.had_owner

    @invariant()
    def the_bounds_hold(self) -> None:
        users = self.state.users.values()
        assert len(users) <= RULES.users
        assert all(len(user.keys) <= RULES.keys_per_user for user in users)
        assert dict(self.state.owner_of_key) == dict(pairs(self.state))


def pairs(state: State) -> Iterator[tuple[str, str]]:
    for user in state.users.values():
        for key in user.keys:
            yield key.fingerprint, user.name


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
