"""No privilege escalation: random calls by all users, and all rights before and after.

Owners, admins without limit, for a time and after their time, users, guests, roles of a policy file
and strangers call what there is, over DTLS on loopback: users, keys, invites, windows and pairing
through them, the trail. The console changes people and policies meanwhile, and time passes.

Nothing is believed of the code under test. `Book` says by tables of its own who may do what, and
the machine keeps its own time and remembers who created each invite and opened each window. After
each call the whole state is compared with what it was:

- whatever a key has gained, rank or time, is within what the caller had at that moment; for a new
  user by an invite or through a window, within what its maker had then and has now;
- no one who ranks above the caller was changed, and nothing changed without the right to it;
- a lasting owner stays, invites are within the power of their makers, events are for those who
  may read them, and no answer is 5.00 or misshapen.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from device_app.access.bodies import UserPatch
from device_app.access.clock import SystemClocks
from device_app.access.event_kind import EventKind
from device_app.access.invitations import CreatedInviteView, InviteRequest
from device_app.errors import ConfigError
from iam.errors import IamError
from iam.limits import IamLimits
from iam.model import Key, User
from peer.errors import PeerError
from peer.identity import Identity
from peer.pairing.invite import read_untrusted
from tests.kit.device import HASTY, Answer, Caller, Kit
from tests.kit.documents import DOCS, Cddl

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from iam.model import State
    from tests.kit.device import Device

# ---------------------------------------------------------------------------------- the rules

HOUSE = """
[[policy]]
id = "install"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:GetMe", "Pairing:OpenWindow"]
[[policy]]
id = "guests-only"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:AddUser", "Iam:GetUser", "Iam:SetUser", "Iam:RemoveUser", "Iam:CreateInvite",
    "Iam:RemoveInvite", "Pairing:OpenWindow"]
conditions = [{ StringEquals = { "IAM:RoleId" = ["guest"] } }]
[[policy]]
id = "own-keys"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:GetUser", "Iam:AddKey", "Iam:RemoveKey"]
conditions = [{ StringEquals = { "IAM:Username" = ["${Connection:Username}"] } }]
[[policy]]
id = "audit"
[[policy.statement]]
effect = "Allow"
actions = ["Events:Read", "Iam:GetMe"]
[[role]]
id = "installer"
rank = 15
policies = ["core-unpaired", "install"]
[[role]]
id = "helper"
rank = 18
policies = ["core-unpaired", "core-guest", "guests-only"]
[[role]]
id = "auditor"
rank = 2
policies = ["core-unpaired", "audit"]
[[role]]
id = "user"
policies = ["core-unpaired", "core-guest", "core-user", "own-keys"]
"""
#: Middle ranks with every right there is, so that ranks alone keep them back; and no windows of
#: admins.
WIDE = """
[[policy]]
id = "all"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:*", "Pairing:*"]
[[policy]]
id = "no-window"
[[policy.statement]]
effect = "Deny"
actions = ["Pairing:*"]
[[role]]
id = "installer"
rank = 25
policies = ["all"]
[[role]]
id = "helper"
rank = 18
policies = ["all"]
[[role]]
id = "admin"
policies = ["core-unpaired", "core-guest", "core-user", "core-admin", "no-window"]
"""
BAD = HOUSE + '[[role]]\nid = "king"\nrank = 40\npolicies = []\n'

GUESTS_ONLY = frozenset(
    {
        "Iam:AddUser",
        "Iam:GetUser",
        "Iam:SetUser",
        "Iam:RemoveUser",
        "Iam:CreateInvite",
        "Iam:RemoveInvite",
        "Pairing:OpenWindow",
    }
)
EVERYTHING = GUESTS_ONLY | {"Iam:ListUsers", "Iam:AddKey", "Iam:RemoveKey", "Iam:ListInvites"}
ADMINISTRATION = EVERYTHING | {"Events:Read"}
OWN_KEYS = frozenset({"Iam:GetUser", "Iam:AddKey", "Iam:RemoveKey"})
BUILT_IN = {"unpaired": 0, "guest": 10, "user": 20, "admin": 30, "owner": 40}
Target = tuple[str, str]  # the name of a user and a role


@dataclass(frozen=True)
class Book:
    """What a policy file means, said once more: ranks, and who may do what to whom."""

    text: str
    ranks: Mapping[str, int]
    always: Mapping[str, frozenset[str]]
    to_guests: Mapping[str, frozenset[str]] = field(default_factory=dict)
    to_oneself: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def may(self, user: User | None, action: str, *targets: Target) -> bool:
        """`user` is the requester, during their access."""
        if user is None or user.role not in self.ranks:
            return False
        if action in self.always.get(user.role, ()):
            return True
        guests = action in self.to_guests.get(user.role, ())
        oneself = action in self.to_oneself.get(user.role, ())
        return bool(targets) and all(
            (guests and role == "guest") or (oneself and name == user.name)
            for name, role in targets
        )


OFFICES = {"admin": ADMINISTRATION, "owner": ADMINISTRATION}
PLAIN = Book("", BUILT_IN, OFFICES)
AT_HOME = Book(
    HOUSE,
    {**BUILT_IN, "installer": 15, "helper": 18, "auditor": 2},
    {
        **OFFICES,
        "installer": frozenset({"Pairing:OpenWindow"}),
        "auditor": frozenset({"Events:Read"}),
    },
    to_guests={"helper": GUESTS_ONLY},
    to_oneself={"user": OWN_KEYS},
)
LOOSE = Book(
    WIDE,
    {**BUILT_IN, "installer": 25, "helper": 18},
    {
        "owner": ADMINISTRATION,
        "admin": ADMINISTRATION - {"Pairing:OpenWindow"},
        "installer": EVERYTHING,
        "helper": EVERYTHING,
    },
)

Reach = tuple[float, float]  # rank and end
CONSOLE: Reach = (inf, inf)
NOBODY: Reach = (-inf, -inf)


def least(*reaches: Reach) -> Reach:
    return min(rank for rank, _ in reaches), min(end for _, end in reaches)


# --------------------------------------------------------------------------------- the people

BASE = 2_000_000_000.0
KEYS = tuple(Identity.create() for _ in range(18))
PRINTS = tuple(one.fingerprint.hex for one in KEYS)
#: name, role, end; the key of each has the same place in KEYS, and the rest are strangers'.
PEOPLE: tuple[tuple[str, str, float | None], ...] = (
    ("olga", "owner", None),
    ("adam", "admin", None),
    ("edda", "admin", BASE + 200),
    ("hanna", "helper", BASE + 400),
    ("ines", "installer", None),
    ("uwe", "user", None),
    ("greta", "guest", BASE + 300),
    ("rita", "auditor", None),
    ("xaver", "admin", BASE - 1),
    ("otto", "owner", BASE + 250),
)
#: A user whose key no one has compared: it vouches for none, and least of all for itself.
UNVERIFIED = frozenset({"uwe", "otto"})
NAMES = (*(name for name, _, _ in PEOPLE), "nina", "leo")
OFTEN = (1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 10, 11, 12)

callers = st.sampled_from(OFTEN)
givers = st.sampled_from((1, 2, 3, 4, 9, 2, 3, 4, 1, 5, 0, 8, 6))
strangers = st.sampled_from((*range(10, 18), 6, 8))
names = st.sampled_from(NAMES)
new_names = st.sampled_from(("nina", "leo", "leo-2", "adam", "zoe"))
roles = st.sampled_from(
    ("guest", "user", "admin", "owner", "installer", "helper", "admin", "owner", "auditor", "king")
)
ends = st.sampled_from((None, BASE + 150, BASE + 220, BASE + 350, BASE + 1000))
starts = st.sampled_from((None, None, BASE - 10, BASE + 100))
prints = st.sampled_from((*PRINTS[10:], *PRINTS[:3], "ab" * 32))
methods = st.sampled_from(("PATCH", "iPATCH", "POST"))
seldom = st.sampled_from((False,) * 5 + (True,))
user_wishes = st.fixed_dictionaries({}, optional={"not_before": starts, "not_after": ends})
change_wishes = st.one_of(
    st.fixed_dictionaries({"role": roles}, optional={"not_after": ends}),
    st.fixed_dictionaries({"not_after": ends}, optional={"not_before": starts}),
    st.fixed_dictionaries({"name": new_names}, optional={"role": roles}),
    st.just({"display": "somebody"}),
)
invite_wishes = st.fixed_dictionaries(
    {"name": new_names},
    optional={
        "role": roles,
        "seconds": st.sampled_from((50, 1000)),
        "uses": st.sampled_from((1, 2)),
        "key": st.sampled_from(PRINTS[10:]),
        "not_after": ends,
    },
)

FINE = {"2.01", "2.02", "2.04", "2.05"}
REFUSED = {"4.00", "4.03", "4.04", "4.09", "4.29"}
LIMITS = replace(HASTY, window_failures=50, backoff_after=500)
FEW = IamLimits(users=16, keys_per_user=3, invites=5)


@cache
def cddl() -> Cddl:
    return Cddl((DOCS / "handfast.cddl").read_text())


@dataclass
class Backer:
    """The creator of an invite or window: `low` is the least they reached since they made it;
    without a name it is the board."""

    name: str
    then: Reach
    low: Reach
    uses: int = 1
    gone: bool = False


@dataclass
class Observer:
    """An observation of /events; `lost`: the newest event when the right to it was lost."""

    who: int
    newest: int = 0
    lost: int | None = None
    task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done()


class Listener(logging.Handler):
    """What the log says that it should not: a traceback of anything."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.tracebacks.append(logging.Formatter().format(record))


class Climb(RuleBasedStateMachine):
    """Each caller holds one key; the console is a person at the board."""

    #: The calls that were done and refused, over all runs, to show that there were some.
    seen: ClassVar[Counter[tuple[str, bool]]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.log = Listener()
        logging.getLogger().addHandler(self.log)
        self.folder = TemporaryDirectory()
        self.kit = Kit(Path(self.folder.name) / "home")
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(self.fault)
        self.faults: list[str] = []
        self.wall = self.now = BASE
        self.monotonic = 1000.0
        self.book = AT_HOME
        self.tokens: list[tuple[str, bytes]] = []  # of every invite there ever was
        self.backers: dict[str, Backer] = {}
        self.opener: Backer | None = None
        self.observers: list[Observer] = []
        self.callers: list[Caller] = []

    def fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(str(context))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Some work on our own loop, and what follows from it."""

        async def settled() -> Any:
            done = await work
            for _ in range(12):  # goodbyes and notifications on loopback
                await asyncio.sleep(0)
            return done

        return self.runner.run(settled())

    @initialize(opener=st.sampled_from((1, 2, 4)), book=st.sampled_from((AT_HOME, LOOSE)))
    def a_house(self, opener: int, book: Book) -> None:
        self.kit.policy(HOUSE)
        clocks = SystemClocks(wall=lambda: self.wall, monotonic=lambda: self.monotonic)
        self.device: Device = self.run(
            self.kit.device(limits=LIMITS, iam_limits=FEW, clocks=clocks)
        )
        self.run(self.people())
        self.callers = [self.kit.caller(self.device, one) for one in KEYS]
        self.reload(book, bad=False)
        self.invite(1, {"name": "nina", "role": "user", "uses": 2})
        self.invite(2, {"name": "leo", "role": "admin"})
        self.invite(4, {"name": "zoe", "role": "user", "uses": 2})
        self.invite(3, {"name": "leo"})
        self.open_window(opener, "guest" if opener == 4 else "user")

    async def people(self) -> None:
        for place, (name, role, end) in enumerate(PEOPLE):
            key = Key(PRINTS[place], "", "given", name not in UNVERIFIED, 1.0)
            self.device.app.access.registry.add_user(None, User(name, role, (key,), not_after=end))

    def teardown(self) -> None:
        try:
            for one in self.observers:
                if one.task is not None:
                    one.task.cancel()
            self.run(self.kit.close())
        finally:
            self.runner.close()
            self.folder.cleanup()
            logging.getLogger().removeHandler(self.log)
        assert not self.log.tracebacks, self.log.tracebacks[0]
        assert not self.faults, self.faults[0]

    # -- the books ------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.device.users

    def head(self) -> int:
        return self.device.app.access.store.audit.head[0]

    def reach(self, user: User | None) -> Reach:
        """How high and how long, whatever the time is now."""
        if user is None or user.role not in self.book.ranks:
            return NOBODY
        return self.book.ranks[user.role], user.end

    def acting(self, who: int) -> User | None:
        """The user of this key, if it is their time."""
        user = self.state.user_of(PRINTS[who])
        return user if user is not None and user.start <= self.now < user.end else None

    def power_behind(self, backer: Backer) -> Reach:
        """The rights that the creator of an invite or window can grant now."""
        if not backer.name:
            return CONSOLE
        user = None if backer.gone else self.state.users.get(backer.name)
        if user is None or not user.start <= self.now < user.end:
            return NOBODY
        return least(backer.then, self.reach(user))

    def follow(self, old: State, renamed: Target | None) -> None:
        """Update the rights of creators and openers."""
        for backer in (*self.backers.values(), *([self.opener] if self.opener else [])):
            if not backer.name or backer.gone:
                continue
            before = old.users[backer.name]
            if renamed and renamed[0] == backer.name and renamed[1] in self.state.users:
                backer.name = renamed[1]
            after = self.state.users.get(backer.name)
            backer.gone = after is None
            if after and (after.role, after.end) != (before.role, before.end):
                backer.low = least(backer.low, self.reach(after))

    # -- calling, and comparing -----------------------------------------------------------------

    def call(
        self,
        who: int,
        request: tuple[str, str, object],
        *,
        action: str,
        targets: Sequence[Target] = (),
        fits: str = "",
        renamed: Target | None = None,
    ) -> Answer | None:
        """One request, its answer looked at, and the state before and after compared."""
        old, head, user = self.state, self.head(), self.acting(who)
        power = self.reach(user)
        may = self.book.may(user, action, *targets)
        answer = self.answered(who, request, fits)
        if self.state is not old:
            assert may, f"{user} changed something without {action}"
            self.compare(old, power, renamed)
            self.compare_vouched(old, who)
            self.follow(old, renamed)
        self.watch(head)
        done = answer is not None and answer.code in FINE
        assert may or not done, f"{user} did {request} without {action}"
        self.seen[action, done] += 1
        return answer if done else None

    def answered(self, who: int, request: tuple[str, str, object], fits: str) -> Answer | None:
        method, path, body = request
        try:
            answer: Answer = self.run(self.callers[who].ask(method, path, body))
        except PeerError:
            return None  # the call has ended the caller's own session
        assert answer.code in FINE | REFUSED, (request, answer.code)
        if answer.code in REFUSED:
            cddl().validate("problem", answer.payload)
        elif fits in cddl().rules:
            cddl().validate(fits, answer.payload)
        else:
            assert bool(answer.payload) == bool(fits)
        return answer

    def compare(self, old: State, power: Reach, renamed: Target | None = None) -> None:
        """No one rose above what the caller had, and no one above the caller was changed."""
        new = self.state
        back = {renamed[1]: renamed[0]} if renamed else {}
        for name, before in old.users.items():
            if new.users.get(name) != before:
                top = self.book.ranks.get(before.role, BUILT_IN["owner"])
                assert top <= power[0], f"{name} ranks above the user who changed them"
        for name, user in new.users.items():
            was = old.users.get(name) or old.users.get(back.get(name, ""))
            self.compare_rights(was, user, power)
        for key in (*PRINTS, "ab" * 32):
            had, has = old.user_of(key), new.user_of(key)
            if has is not None:
                self.compare_rights(had, has, power)
        for one, invite in new.invites.items():
            if one not in old.invites:
                assert self.book.ranks[invite.role] <= power[0]
                assert max(invite.end, invite.expires) <= power[1]

    def compare_rights(self, had: User | None, has: User, power: Reach) -> None:
        before, after = self.reach(had), self.reach(has)
        earlier = had is not None and has.start < had.start
        if earlier or after != least(before, after):
            assert after == least(after, power), f"{had} rose to {has} by {power}"

    def compare_vouched(self, old: State, who: int) -> None:
        """Whatever a key is now trusted for, another one that is verified has said so."""
        caller = old.user_of(PRINTS[who])
        vouches = caller is not None and caller.key(PRINTS[who]).verified
        for user in self.state.users.values():
            for key in user.keys:
                had = old.user_of(key.fingerprint)
                was = had.key(key.fingerprint) if had else None
                if was is None or (was.name, was.verified) != (key.name, key.verified):
                    assert vouches, f"an unverified key vouched for {key}"
                    assert key.fingerprint != PRINTS[who], "a key vouched for itself"

    def compare_newcomer(self, old: State, key: str, limit: Reach) -> None:
        """One new user at most, with this key and within the limit; all others as they were."""
        new = self.state
        assert all(new.users.get(name) == user for name, user in old.users.items())
        came = [user for name, user in new.users.items() if name not in old.users]
        assert len(came) <= 1
        for user in came:
            assert user.fingerprints == {key}
            assert self.reach(user) == least(self.reach(user), limit), f"{user} beyond {limit}"

    def watch(self, head: int) -> None:
        """No one received events after losing the right to them; `head`: the newest event
        before what has just happened."""
        for one in self.observers:
            if self.book.may(self.acting(one.who), "Events:Read"):
                one.lost = None
            elif one.lost is None:
                one.lost = head
            assert one.lost is None or one.newest <= one.lost, "an event for who may not read it"
        self.observers = [one for one in self.observers if not one.is_over]

    # -- users and keys -------------------------------------------------------------------------

    @rule(who=givers, name=new_names, role=roles, more=user_wishes, key=prints | st.none())
    def add_user(
        self, who: int, name: str, role: str, more: dict[str, Any], key: str | None
    ) -> None:
        wish = {"name": name, "role": role, **more, "keys": [key] if key else []}
        self.call(
            who,
            ("POST", "/iam/users", wish),
            action="Iam:AddUser",
            targets=[(name, role)],
            fits="user-info",
        )

    def target(self, name: str) -> Target:
        user = self.state.users.get(name)
        return name, user.role if user else ""

    @rule(who=callers, name=names, wish=change_wishes, method=methods)
    def change_user(self, who: int, name: str, wish: dict[str, Any], method: str) -> None:
        before = self.target(name)
        after = wish.get("name", name), wish.get("role", before[1])
        self.call(
            who,
            (method, f"/iam/users/{name}", wish),
            action="Iam:SetUser",
            targets=[before, after],
            fits="user-info",
            renamed=(name, after[0]),
        )

    @rule(who=callers, name=names)
    def remove_user(self, who: int, name: str) -> None:
        request = "DELETE", f"/iam/users/{name}", None
        self.call(who, request, action="Iam:RemoveUser", targets=[self.target(name)])

    @rule(who=callers, name=names, key=prints, shout=st.booleans())
    def add_key(self, who: int, name: str, key: str, *, shout: bool) -> None:
        path = f"/iam/users/{name}/keys/{key.upper() if shout else key}"
        request = "PUT", path, {"name": "second"}
        targets = [self.target(name)]
        self.call(who, request, action="Iam:AddKey", targets=targets, fits="user-info")

    @rule(who=callers, called=st.sampled_from((None, "second", "phone")))
    def vouch_for_oneself(self, who: int, called: str | None) -> None:
        user = self.state.user_of(PRINTS[who])
        if user is not None:
            request = "PUT", f"/iam/users/{user.name}/keys/{PRINTS[who]}", {"name": called or ""}
            targets = [self.target(user.name)]
            self.call(who, request, action="Iam:AddKey", targets=targets, fits="user-info")

    @rule(who=callers, name=names, own=st.booleans())
    def remove_key(self, who: int, name: str, *, own: bool) -> None:
        user = self.state.user_of(PRINTS[who]) if own else self.state.users.get(name)
        if user is not None and user.keys:
            path = f"/iam/users/{user.name}/keys/{user.keys[-1].fingerprint}"
            targets = [self.target(user.name)]
            self.call(who, ("DELETE", path, None), action="Iam:RemoveKey", targets=targets)

    @rule(
        who=st.sampled_from((1, 2, 3, 4, 6, 2, 3, 1)),
        name=names,
        way=st.sampled_from(
            ("user", "role", "time", "key", "invite", "window", "remove", "aside", "aside")
        ),
        other=st.integers(0, 3),
    )
    def reach_up(self, who: int, name: str, way: str, other: int) -> None:
        """What a caller must not get: just above, or just beyond, whatever they may do else."""
        rank, end = self.reach(self.acting(who))
        above = [role for role, needed in self.book.ranks.items() if needed > rank] or ["king"]
        role = above[other % len(above)]
        user = self.state.user_of(PRINTS[who])
        own = user.name if user is not None else name
        beyond = None if other % 2 else min(end, BASE + 5000) + 1
        match way:
            case "user":
                self.add_user(who, "zoe", role, {}, PRINTS[12])
            case "role":
                self.change_user(who, own if other else name, {"role": role}, "PATCH")
            case "time":
                self.change_user(who, own if other else name, {"not_after": beyond}, "iPATCH")
            case "key":
                self.add_key(who, name, PRINTS[13], shout=False)
            case "invite":
                wish = {"name": "zoe", "role": role} if other else {"name": "leo"}
                self.invite(who, {**wish, "not_after": beyond} if other == 2 else wish)
            case "window":
                self.open_window(who, role)
            case "aside":
                self.reach_aside()
            case _:
                self.remove_user(who, name)

    def reach_aside(self) -> None:
        """What the helper's rank would allow, and the policy does not: anything but guests."""
        guests = [user.name for user in self.state.users.values() if user.role == "guest"]
        for name in guests[:2]:
            self.change_user(3, name, {"role": "auditor"}, "PATCH")
        self.add_user(3, "zoe", "auditor", {}, PRINTS[14])
        self.invite(3, {"name": "zoe", "role": "installer"})
        self.run(self.shut())
        self.open_window(3, "auditor")

    async def shut(self) -> None:
        self.device.app.pairing.close_window()

    # -- invites --------------------------------------------------------------------------------

    @rule(who=givers, wish=invite_wishes)
    def invite(self, who: int, wish: dict[str, Any]) -> None:
        maker = self.acting(who)
        made = self.call(
            who,
            ("POST", "/iam/invites", wish),
            action="Iam:CreateInvite",
            targets=[(wish["name"], wish.get("role", "guest"))],
            fits="invite-made",
        )
        if made is not None:
            assert maker is not None
            reach = self.reach(maker)
            self.backers[made.body["id"]] = Backer(maker.name, reach, reach, wish.get("uses", 1))
            self.tokens.append((made.body["id"], read_untrusted(made.body["token"])[1]))
            assert self.state.invites[made.body["id"]].inviter == maker.name

    @rule(who=callers, which=st.integers(0, 3))
    def withdraw(self, who: int, which: int) -> None:
        one = self.tokens[-1 - which % len(self.tokens)][0] if self.tokens else "0" * 32
        invite, power = self.state.invites.get(one), self.reach(self.acting(who))
        targets = [(invite.name, invite.role)] if invite else [("", "")]
        request = "DELETE", f"/iam/invites/{one}", None
        if self.call(who, request, action="Iam:RemoveInvite", targets=targets):
            assert invite is not None
            assert self.book.ranks.get(invite.role, inf) <= power[0]

    @rule(which=st.integers(0, 3), who=strangers)
    def redeem(self, which: int, who: int) -> None:
        if self.tokens:
            self.redeem_as(who, *self.tokens[-1 - which % len(self.tokens)])

    @rule(
        which=st.integers(0, 3),
        who=strangers,
        meanwhile=st.sampled_from(("rename", "late", "not yet", "rules", "used", "fall")),
    )
    def redeem_too_late(self, which: int, who: int, meanwhile: str) -> None:
        """A good invite, and something that happens before it is used."""
        good = [(one, token) for one, token in self.tokens if one in self.state.invites]
        if not good:
            return
        one, token = good[-1 - which % len(good)]
        maker = self.backers[one].name
        match meanwhile:
            case "rename":
                self.change_at_the_board(maker, {"name": "somebody-else"})
            case "late":
                self.wait(self.state.invites[one].expires - self.now, back=False)
            case "not yet":
                self.change_at_the_board(maker, {"not_before": self.now + 900})
            case "rules":
                self.reload(LOOSE, bad=False)
                self.invite(4, {"name": "zoe", "role": "user", "uses": 2})
                one, token = self.tokens[-1]
                self.reload(AT_HOME if which % 2 else PLAIN, bad=False)
            case "used":
                for other in range(10, 13):
                    self.redeem_as(other, one, token)
            case _:
                self.change_at_the_board(maker, {"role": "guest"})
        self.redeem_as(who, one, token)

    def redeem_as(self, who: int, one: str, token: bytes) -> None:
        old, head, invite = self.state, self.head(), self.state.invites.get(one)
        limit, backer = NOBODY, self.backers[one]
        if (
            invite is not None
            and backer.uses
            and invite.expires > self.now
            and invite.key in ("", PRINTS[who])
        ):
            limit = least(self.power_behind(backer), backer.low if backer.name else CONSOLE)
            about = invite.name, invite.role
            maker = self.state.users.get(backer.name)
            if backer.name and not self.book.may(maker, "Iam:CreateInvite", about):
                limit = NOBODY
        body = {"token": token}
        answer = self.answered(who, ("POST", "/iam/redeem", body), "redeemed")
        self.compare_newcomer(old, PRINTS[who], limit)
        self.watch(head)
        came = len(self.state.users) - len(old.users)
        if came and backer.name:
            user = self.state.user_of(PRINTS[who])
            assert user is not None
            vouched = any(key.verified for key in old.users[backer.name].keys)
            assert user.key(PRINTS[who]).verified == vouched
        backer.uses -= came
        self.seen["redeem", bool(came)] += 1
        if answer is not None and answer.code in FINE:
            user = self.state.user_of(PRINTS[who])
            assert user is not None
            assert (answer.body["user"], answer.body["role"]) == (user.name, user.role)

    # -- windows --------------------------------------------------------------------------------

    @rule(who=givers, role=roles | st.none())
    def open_window(self, who: int, role: str | None) -> None:
        maker, meant = self.acting(who), self.device.app.pairing.role_for(role)
        opened = self.call(
            who,
            ("POST", "/iam/window", {"role": role} if role else {}),
            action="Pairing:OpenWindow",
            targets=[("", meant)],
            fits="window",
        )
        if opened is not None:
            assert maker is not None
            reach = self.reach(maker)
            assert self.book.ranks[meant] <= reach[0]
            self.opener = Backer(maker.name, reach, reach)

    @rule(who=callers)
    def close_window(self, who: int) -> None:
        role, was_open = self.device.app.pairing.role_for(None), self.device.app.pairing.is_open
        targets = [("", role)] if was_open else [("", "guest")]
        self.call(
            who, ("DELETE", "/iam/window", None), action="Pairing:OpenWindow", targets=targets
        )

    @rule(role=roles)
    def open_at_the_board(self, role: str) -> None:
        with suppress(IamError, PeerError):
            self.run(self.device.open(role=role))
            self.opener = Backer("", CONSOLE, CONSOLE)

    @rule(
        who=strangers,
        name=new_names,
        yes=st.sampled_from((True, True, False)),
        meanwhile=st.none() | st.sampled_from(("guest", "user", "admin")),
        late=st.booleans(),
    )
    def come_in(self, who: int, name: str, meanwhile: str | None, *, yes: bool, late: bool) -> None:
        """A ceremony, while which its opener may be replaced."""
        if self.opener is None or not self.device.app.pairing.is_open:
            return
        caller, head = self.callers[who], self.head()
        try:
            started = self.run(caller.start(name))
        except PeerError:
            return
        assert started.code in {"2.01", "2.04", "4.03", "4.09", "5.03"}, started.code
        if started.code == "2.01":
            if not late:
                self.change_the_opener(meanwhile)
            self.run(self.decide(yes=yes))
            if late:
                self.change_the_opener(meanwhile)
            self.finish(who, started, yes=yes)
        self.watch(head)

    async def decide(self, *, yes: bool) -> None:
        """The user of the device, unless the window went with its opener."""
        pending = self.device.app.pairing.ceremonies.pending()
        if pending is not None:
            with suppress(IamError, PeerError):
                self.device.app.pairing.ceremonies.decide(pending.id, accept=yes)

    def change_the_opener(self, role: str | None) -> None:
        if role is not None and self.opener is not None and self.opener.name:
            self.change_at_the_board(self.opener.name, {"role": role})

    def finish(self, who: int, started: Answer, *, yes: bool) -> None:
        """The client's yes, and what comes of it."""
        assert self.opener is not None
        old, role = self.state, started.body["role"]
        limit = self.power_behind(self.opener)
        if self.opener.name:
            opener = None if self.opener.gone else self.state.users.get(self.opener.name)
            if not self.book.may(opener, "Pairing:OpenWindow", ("", role)):
                limit = NOBODY
        try:
            tags = self.callers[who].tags(started)
            answer = self.run(self.callers[who].send_tag(started, tags.client_tag))
        except (PeerError, KeyError):
            answer = None
        assert answer is None or answer.code in {"2.04", "4.03", "4.04", "4.09"}, answer.code
        self.compare_newcomer(old, PRINTS[who], limit if yes else NOBODY)
        self.seen["pair", len(self.state.users) > len(old.users)] += 1

    # -- looking --------------------------------------------------------------------------------

    @rule(
        who=callers,
        what=st.sampled_from(
            (
                ("/iam/users", "Iam:ListUsers", "users"),
                ("/iam/invites", "Iam:ListInvites", "invites"),
                ("/events", "Events:Read", "any"),
                ("/events?last=3", "Events:Read", "any"),
            )
        ),
    )
    def look(self, who: int, what: tuple[str, str, str]) -> None:
        path, action, fits = what
        may = self.book.may(self.acting(who), action)
        answer = self.call(who, ("GET", path, None), action=action, fits=fits)
        assert (answer is not None) == may

    @rule(who=callers, name=names)
    def look_at(self, who: int, name: str) -> None:
        request = "GET", f"/iam/users/{name}", None
        targets = [self.target(name)]
        self.call(who, request, action="Iam:GetUser", targets=targets, fits="user-info")

    @rule(who=st.sampled_from((1, 2, 7, 9, 6, 8, 10)))
    def observe(self, who: int) -> None:
        head, one = self.head(), Observer(who)
        one.task = self.run(self.begin(one))
        self.run(self.device.until(lambda: one.newest or one.is_over))
        assert (one.newest > 0) == self.book.may(self.acting(who), "Events:Read")
        self.observers.append(one)
        self.watch(head)

    @rule(who=st.sampled_from((2, 9)))
    def observe_too_long(self, who: int) -> None:
        """Time is over in the middle of an observation, and only then something happens."""
        self.observe(who)
        user = self.acting(who)
        if user is not None and user.end < BASE + 2000:
            self.wait(user.end - self.now, back=False)
            head = self.head()
            self.run(self.happens())
            self.watch(head)

    async def happens(self) -> None:
        audit = self.device.app.access.audit
        audit.append(audit.event(EventKind.LABEL_MADE))

    async def begin(self, one: Observer) -> asyncio.Task[None]:
        async def watching() -> None:
            with suppress(PeerError):
                async for answer in self.callers[one.who].observe("/events"):
                    assert answer.code in {"2.05", "4.03"}, answer.code
                    one.newest = max(one.newest, answer.body.get("head", 0))

        return asyncio.create_task(watching())

    # -- the board, and time --------------------------------------------------------------------

    @rule(name=names, wish=change_wishes)
    def at_the_board(self, name: str, wish: dict[str, Any]) -> None:
        self.change_at_the_board(name, wish)

    @rule(which=st.integers(0, 5), wish=change_wishes | st.just({"not_before": BASE + 900}))
    def change_a_giver(self, which: int, wish: dict[str, Any]) -> None:
        """The most relevant users are those with invites or open windows."""
        backers = [*([self.opener] if self.opener else []), *reversed(self.backers.values())]
        given = [one.name for one in backers if one.name and not one.gone]
        if given and not wish.keys() & {"name", "display"}:
            self.change_at_the_board(given[which % len(given)], wish)

    def change_at_the_board(self, name: str, wish: Mapping[str, Any]) -> None:
        old, head = self.state, self.head()

        async def change() -> None:
            with suppress(IamError):
                patch = UserPatch.parse_untrusted(wish)
                self.device.app.access.registry.set_user(None, name, patch)

        self.run(change())
        if self.state is not old:
            self.follow(old, (name, wish.get("name", name)))
        self.watch(head)

    @rule(wish=invite_wishes)
    def invite_at_the_board(self, wish: dict[str, Any]) -> None:
        async def create() -> CreatedInviteView:
            request = InviteRequest.parse_untrusted(wish)
            return self.device.app.invitations.create(None, request)

        with suppress(IamError):
            made = self.run(create())
            self.backers[made["id"]] = Backer("", CONSOLE, CONSOLE, wish.get("uses", 1))
            self.tokens.append((made["id"], read_untrusted(made["token"])[1]))

    @rule(book=st.sampled_from((AT_HOME, LOOSE, AT_HOME, PLAIN)), bad=seldom)
    def reload(self, book: Book, *, bad: bool) -> None:
        """The policy files change; a bad set changes nothing."""
        old, head = self.state, self.head()
        self.kit.policy(BAD if bad else book.text)

        async def again() -> None:
            with suppress(ConfigError):
                await self.device.app.policies.reload()

        self.book = self.book if bad else book
        self.run(again())
        assert self.state is old
        self.watch(head)

    @rule(seconds=st.sampled_from((10.0, 60.0, 120.0)), back=seldom)
    def wait(self, seconds: float, *, back: bool) -> None:
        """Time passes; the system's clock may be put back, which gives no one more of it."""
        head = self.head()
        self.monotonic += seconds
        self.wall += -3600.0 if back else seconds
        self.now = max(self.wall, self.now + seconds)
        assert self.device.app.access.clock.now() == pytest.approx(self.now)
        self.watch(head)

    # -- always ---------------------------------------------------------------------------------

    @invariant()
    def a_lasting_owner_stays(self) -> None:
        owners = [user for user in self.state.users.values() if user.role == "owner"]
        assert any(user.keys and (user.start, user.end) == (-inf, inf) for user in owners)

    @invariant()
    def invites_are_within_what_their_makers_were_left(self) -> None:
        for one, invite in self.state.invites.items():
            backer = self.backers[one]
            assert invite.inviter == ("" if backer.gone else backer.name)
            if backer.name:
                assert not backer.gone
                assert invite.end <= backer.low[1]

    @invariant()
    def nothing_has_gone_wrong_inside(self) -> None:
        assert not self.log.tracebacks, self.log.tracebacks[0]
        assert not self.faults, self.faults[0]


@pytest.mark.timeout(900)  # for making a failure small; no escalation happens within seconds
def test_nobody_climbs() -> None:
    phases = set(Phase) - {Phase.explain}  # it would take many times as long
    run_state_machine_as_test(
        Climb,
        settings=settings(max_examples=100, stateful_step_count=40, deadline=None, phases=phases),
    )


def test_everything_can_be_done_and_refused() -> None:
    """A life in good order: without it the random ones might be refused everything, and pass."""
    Climb.seen.clear()
    life = Climb()
    try:
        life.a_house(4, AT_HOME)
        for who in (10, 1):
            life.observe(who)
            life.look(who, ("/iam/users", "Iam:ListUsers", "users"))
            life.look(who, ("/iam/invites", "Iam:ListInvites", "invites"))
            life.look(who, ("/events", "Events:Read", "any"))
            life.look_at(who, "uwe")
            life.change_user(who, "greta", {"role": "user"}, "PATCH")
            life.add_key(who, "greta", PRINTS[17], shout=True)
            life.remove_key(who, "greta", own=False)
            life.remove_user(who, "greta")
            life.add_user(who, "zoe", "guest", {}, PRINTS[16])
            life.withdraw(who, 0)
            life.close_window(who)
        for which in (0, 1):  # that one was withdrawn just now
            life.redeem(which, 11)
        for accepted in (False, True):
            life.open_window(4, "guest")
            life.come_in(13, "gina", None, yes=accepted, late=False)
    finally:
        life.teardown()
    for action in (*ADMINISTRATION, "redeem", "pair"):
        assert life.seen[action, True], f"no one did {action}"
        assert life.seen[action, False], f"no one was refused {action}"
