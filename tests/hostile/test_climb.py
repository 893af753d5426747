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
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    rule,
    run_state_machine_as_test,
)

from device_app.access.bodies import UserPatch
from device_app.access.clock import SystemClocks
from device_app.access.event_kind import EventKind
from device_app.access.invitations import CreatedInviteView, InviteRequest
from device_app.errors import ConfigError
from iam.errors import IamError
from peer.errors import PeerError
from peer.pairing.invite import read_untrusted
from tests.hostile.climb_machine import Backer, Observer
from tests.hostile.climb_rules import (
    ADMINISTRATION,
    AT_HOME,
    BAD,
    BASE,
    CONSOLE,
    FEW,
    FINE,
    HOUSE,
    KEYS,
    LIMITS,
    LOOSE,
    NOBODY,
    PLAIN,
    PRINTS,
    Book,
    callers,
    change_wishes,
    givers,
    invite_wishes,
    least,
    names,
    new_names,
    roles,
    seldom,
    strangers,
)
from tests.hostile.climb_users import UserCalls
from tests.kit.device import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping


class Climb(UserCalls):
    """The calls of all users, and what the console changes meanwhile."""

    @initialize(opener=st.sampled_from((1, 2, 4)), book=st.sampled_from((AT_HOME, LOOSE)))
    def a_house(self, opener: int, book: Book) -> None:
        self.kit.policy(HOUSE)
        clocks = SystemClocks(wall=lambda: self.wall, monotonic=lambda: self.monotonic)
        self.device = self.run(self.kit.device(limits=LIMITS, iam_limits=FEW, clocks=clocks))
        self.run(self.people())
        self.callers = [self.kit.caller(self.device, one) for one in KEYS]
        self.reload(book, bad=False)
        self.invite(1, {"name": "nina", "role": "user", "uses": 2})
        self.invite(2, {"name": "leo", "role": "admin"})
        self.invite(4, {"name": "zoe", "role": "user", "uses": 2})
        self.invite(3, {"name": "leo"})
        self.open_window(opener, "guest" if opener == 4 else "user")

    # -- above and beside one's rank ------------------------------------------------------------

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
