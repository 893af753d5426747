"""Random changes by random users: an owner remains, no user escalates, and the disk agrees.

The machine keeps its own record beside the state under test: the creator of each invite and window,
the rank and the end of access they had then, and their later changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iam import Access, IamError, Key, Rules, State, Store, Subject, User
from iam import changes as to
from iam.limits import IamLimits
from iam.model import Invite

ACCESS = Access()
RULES = Rules(ACCESS.roles, IamLimits(users=6, keys_per_user=3, invites=3))
PRINTS = tuple(sha256(bytes([n])).hexdigest() for n in range(8))
NAMES = ("dora", "eve", "finn", "gina", "hugo", "eve-2", "anna")

# Subject and target are drawn as indices of existing users (`key_at`, `user_at`); otherwise nearly
# all requests would be refused and change nothing.
places = st.integers(0, 6)
actors = st.sampled_from((1, 0, 2, 1, 0, 3, 4, None))
names = st.sampled_from(NAMES)
roles = st.sampled_from(("guest", "user", "admin", "user", "admin", "owner", "unpaired", "chief"))
prints = st.sampled_from(PRINTS)
ends = st.sampled_from((None, None, 100.0, 200.0, 50.0))
keys = st.builds(Key, prints, st.sampled_from(("", "phone")), added=st.sampled_from((1.0, 2.0)))
invites = st.builds(
    Invite,
    st.just("0" * 32),  # each gets its own id when it is created
    st.sampled_from(("eve", "eve", "finn", "anna")),
    roles,
    expires=st.sampled_from((150.0, 300.0, 90.0)),
    uses=st.integers(1, 3),
    inviter=st.sampled_from(("", "anna")),
    key=st.sampled_from(("", "", "", PRINTS[5])),
    not_after=ends,
)

Reach = tuple[float, float]
CONSOLE: Reach = (inf, inf)
NO_REACH: Reach = (-inf, -inf)


def reach(user: User | None) -> Reach:
    """The rank and the end of access of a user; an undefined role has the lowest rank."""
    return (ACCESS.roles[user.role].rank, user.end) if user else NO_REACH


def least(*reaches: Reach) -> Reach:
    return min(rank for rank, _ in reaches), min(end for _, end in reaches)


@dataclass
class Backer:
    """The creator of an invite, or None for the console; `then` is its reach at the creation."""

    name: str | None
    then: Reach
    gone: bool = False


class Lives(RuleBasedStateMachine):
    """Each call is made by the holder of a key or by the console (None), without policies."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.db"
        self.store = Store.open(self.path)
        self.had_owner = False
        self.now = 75.0
        self.backers: dict[str, Backer] = {}
        self.ids: list[str] = ["f" * 32]  # of all invites so far, and one unknown id
        self.window: tuple[Subject | None, str] | None = None

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @property
    def state(self) -> State:
        return self.store.state

    @initialize(end=ends)
    def first(self, end: float | None) -> None:
        """Start with the owner anna, the admin bert (with or without an end) and the user carl."""
        state = State()
        for number, (name, role) in enumerate(
            (("anna", "owner"), ("bert", "admin"), ("carl", "user"))
        ):
            state = to.pair_user(
                state,
                None,
                fingerprint=PRINTS[number],
                name=name,
                role=role,
                method="x",
                now=1,
                rules=RULES,
                not_after=end if name == "bert" else None,
            )
        self.store.commit(state)

    def user_at(self, place: int) -> str:
        """The name of an existing user, or an unknown name."""
        return dict(enumerate(sorted(self.state.users))).get(place, "nobody")

    def key_at(self, place: int) -> str:
        """A key of an existing user, or an unknown key."""
        user = self.state.users.get(self.user_at(place))
        return user.keys[0].fingerprint if user and user.keys else PRINTS[-1]

    def actor_at(self, by: int | None) -> Subject | None:
        return None if by is None else ACCESS.subject(self.state, self.key_at(by), self.now)

    def invite_at(self, place: int) -> str:
        """The id of an invite, the newest first; it may be used up or withdrawn."""
        return self.ids[-1 - place % len(self.ids)]

    def act(self, by: int | None, transition: str, *args: object, **options: object) -> bool:
        """Request a change as the user at this index; returns whether it was made."""
        actor = self.actor_at(by)

        def change(old: State) -> State:
            return getattr(to, transition)(old, actor, *args, rules=RULES, **options)  # type: ignore[no-any-return]

        limit = CONSOLE if actor is None else reach(actor.user)
        return self.move(change, limit, is_unpaired=limit == NO_REACH)

    def move(
        self, change: Callable[[State], State], limit: Reach, *, is_unpaired: bool = False
    ) -> bool:
        """Make a change if it is accepted, and check that every key gained at most `limit`."""
        old = self.state
        try:
            new = change(old)
        except IamError:
            return False
        assert not is_unpaired or new is old, "an unpaired client changed something"
        self.no_climb(limit, old, new)
        self.store.commit(new)
        return True

    def no_climb(self, limit: Reach, old: State, new: State) -> None:
        rank, end = limit
        for key in PRINTS:
            had, has = reach(old.user_of(key)), reach(new.user_of(key))
            assert had[0] <= rank or has == had, "a user above was changed"
            assert has[0] <= max(had[0], rank), "a user rose in rank"
            assert has[1] <= max(had[1], end), "a user got longer access"
        for one, invite in new.invites.items():
            if one not in old.invites:
                assert ACCESS.roles[invite.role].rank <= rank
                assert invite.end <= end
                assert invite.expires <= end

    @rule(by=actors, name=names, role=roles, end=ends, key=keys | st.none())
    def add(self, by: int | None, name: str, role: str, end: float | None, key: Key | None) -> None:
        user = User(name, role, (key,) if key else (), not_after=end)
        self.act(by, "add_user", user)

    @rule(by=actors, name=names, role=roles, key=prints, end=ends)
    def pair(self, by: int | None, name: str, role: str, key: str, end: float | None) -> None:
        self.act(
            by,
            "pair_user",
            fingerprint=key,
            name=name,
            role=role,
            method="x",
            now=self.now,
            not_after=end,
        )

    @rule(by=actors, who=places, role=roles)
    def set_role(self, by: int | None, who: int, role: str) -> None:
        self.act(by, "set_user", self.user_at(who), role=role)

    @rule(by=actors, who=places, start=st.sampled_from((None, 10.0)), end=ends)
    def set_time(self, by: int | None, who: int, start: float | None, end: float | None) -> None:
        self.act(by, "set_user", self.user_at(who), not_before=start, not_after=end)

    @rule(by=actors, who=places, new=names)
    def rename(self, by: int | None, who: int, new: str) -> None:
        name = self.user_at(who)
        if self.act(by, "rename", name, new):
            for backer in self.backers.values():
                backer.name = new if backer.name == name and not backer.gone else backer.name

    @rule(by=actors, who=places)
    def remove(self, by: int | None, who: int) -> None:
        name = self.user_at(who)
        if self.act(by, "remove_user", name):
            for backer in self.backers.values():
                backer.gone = backer.gone or backer.name == name

    @rule(seconds=st.sampled_from((10.0, 40.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # -- invites --------------------------------------------------------------------------------

    @rule(by=actors, invite=invites)
    def invite(self, by: int | None, invite: Invite) -> None:
        maker = None if by is None else self.state.user_of(self.key_at(by))
        invite = replace(invite, id=f"{len(self.ids):032x}")
        if self.act(by, "add_invite", invite, now=self.now):
            self.ids.append(invite.id)
            name = maker.name if maker else None
            self.backers[invite.id] = Backer(name, reach(maker) if maker else CONSOLE)
            assert self.state.invites[invite.id].inviter == (name or "")

    @rule(by=actors, role=roles, start=st.sampled_from((None, 120.0)), end=ends)
    def change_a_giver(
        self, by: int | None, role: str, start: float | None, end: float | None
    ) -> None:
        """Change a user with invites or an open window."""
        opener = self.window[0] if self.window else None
        user = self.state.user_of(opener.fingerprint) if opener else None
        inviters = sorted(one.inviter for one in self.state.invites.values())
        name = user.name if user else next(reversed(inviters), "nobody")
        self.act(by, "set_user", name, role=role, not_before=start, not_after=end)

    @rule(by=actors, which=st.integers(0, 3))
    def withdraw(self, by: int | None, which: int) -> None:
        one = self.invite_at(which)
        invite = self.state.invites.get(one)
        actor = None if by is None else self.state.user_of(self.key_at(by))
        if self.act(by, "remove_invite", one) and invite:
            assert by is None or reach(actor)[0] >= ACCESS.roles[invite.role].rank
            assert one not in self.state.invites

    @rule(which=st.integers(0, 3), key=prints)
    def redeem(self, which: int, key: str) -> None:
        """Check that a redeeming key gains at most what the creator had then and has now."""
        one = self.invite_at(which)
        invite, backer = self.state.invites.get(one), self.backers.get(one)
        limit = NO_REACH
        if invite and backer and not backer.gone and self.now < invite.expires:
            limit = backer.then
            if backer.name is not None:
                now = self.state.users[backer.name]
                limit = least(limit, reach(now)) if now.start <= self.now < now.end else NO_REACH
            if invite.key not in ("", key):
                limit = NO_REACH
        uses = invite.uses if invite else 0
        users = len(self.state.users)

        def change(old: State) -> State:
            return to.redeem(old, one, fingerprint=key, now=self.now, rules=RULES)[0]

        if limit == NO_REACH:
            before = self.state
            with suppress(IamError):
                assert change(before) is before, "something came of a worthless invite"
        elif self.move_up(change, limit):
            left = self.state.invites.get(one)
            taken = uses - (left.uses if left else 0)
            assert taken == len(self.state.users) - users <= 1

    def move_up(self, change: Callable[[State], State], limit: Reach) -> bool:
        """Like `move`, for a change that must not change an existing user."""
        old = self.state
        done = self.move(change, CONSOLE)
        for key in PRINTS:
            had, has = old.user_of(key), self.state.user_of(key)
            assert has == had if had else least(reach(has), limit) == reach(has)
        return done

    # -- windows --------------------------------------------------------------------------------

    @rule(by=actors, role=roles)
    def open_window(self, by: int | None, role: str) -> None:
        """Open a window for a user, who may be changed or removed before a client pairs."""
        opener = self.actor_at(by)
        with suppress(IamError):
            to.check_grant(self.state, opener, role, rules=RULES)
            self.window = opener, role

    @rule(name=names, key=st.sampled_from(PRINTS[3:]), end=ends)
    def come_in(self, name: str, key: str, end: float | None) -> None:
        if self.window is None:
            return
        opener, role = self.window

        def change(old: State) -> State:
            return to.pair_user(
                old,
                opener,
                fingerprint=key,
                name=name,
                role=role,
                method="x",
                now=self.now,
                rules=RULES,
                not_after=end,
            )

        limit = CONSOLE
        if opener is not None:
            limit = least(reach(opener.user), reach(self.state.user_of(opener.fingerprint)))
        self.move_up(change, limit)

    @rule(by=actors, who=places, key=keys)
    def add_key(self, by: int | None, who: int, key: Key) -> None:
        self.act(by, "add_key", self.user_at(who), key)

    @rule(by=actors, who=places, key=prints)
    def remove_key(self, by: int | None, who: int, key: str) -> None:
        self.act(by, "remove_key", self.user_at(who), key)

    @rule()
    def restart(self) -> None:
        before = self.state
        self.store.close()
        self.store = Store.open(self.path)
        assert self.state == before
        assert dict(self.state.user_name_by_key) == dict(before.user_name_by_key)

    @invariant()
    def an_owner_remains(self) -> None:
        lasting = [
            user
            for user in self.state.users.values()
            if user.role == "owner" and user.keys and user.start == -inf and user.end == inf
        ]
        self.had_owner = self.had_owner or bool(lasting)
        assert lasting or not self.had_owner

    @invariant()
    def the_limits_hold(self) -> None:
        users = self.state.users.values()
        assert len(users) <= RULES.limits.users
        assert all(len(user.keys) <= RULES.limits.keys_per_user for user in users)
        assert len(self.state.invites) <= RULES.limits.invites
        assert dict(self.state.user_name_by_key) == dict(pairs(self.state))

    @invariant()
    def the_indexes_match_the_users(self) -> None:
        users = list(self.state.users.values())
        assert {user.name for user in self.state.owners()} == {
            user.name for user in users if user.role == "owner"
        }
        assert self.state.roles == {user.role for user in users}
        for role in ("owner", "admin", "user", "guest"):
            assert self.state.count_in(role) == sum(user.role == role for user in users)
        limited = {user.name for user in users if (user.start, user.end) != (-inf, inf)}
        assert {user.name for user in self.state.limited_users()} == limited

    @invariant()
    def every_invite_has_a_creator_who_may_grant_it(self) -> None:
        for invite in self.state.invites.values():
            if invite.inviter:
                rank, end = reach(self.state.users[invite.inviter])
                assert ACCESS.roles[invite.role].rank <= rank
                assert invite.end <= end


def pairs(state: State) -> Iterator[tuple[str, str]]:
    for user in state.users.values():
        for key in user.keys:
            yield key.fingerprint, user.name


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=200, stateful_step_count=40)
