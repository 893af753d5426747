"""No privilege escalation: random calls by all users, with all rights compared after each.

Owners, admins (unlimited, limited and expired), users, guests, roles of a policy file and unknown
keys use the whole API over DTLS on loopback: users, keys, invites, windows, pairing through them,
and the audit trail. Meanwhile the console changes users and policies, and time passes.

The expectations do not come from the code under test. `RightsModel` has its own tables of the
rights, and the machine keeps its own time and records the creator of each invite and the opener of
each window. After each call it compares the whole state with the one before:

- rank and time that a key has gained are within what the caller had at that moment; for a new user
  by an invite or through a window, within what its creator had then and has now;
- no user who ranks above the caller was changed, and nothing changed without the right to it;
- an owner without time limit remains, invites are within the reach of their creators, only users
  with the right receive events, and no answer is 5.00 or malformed.
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
from tests.hostile.escalation_machine import Backer, Observer
from tests.hostile.escalation_rights import (
    ADMINISTRATION,
    BASE,
    BUILT_IN_RIGHTS,
    CONSOLE,
    FINGERPRINTS,
    HOUSE_POLICY,
    HOUSE_RIGHTS,
    IAM_LIMITS,
    INVALID_POLICY,
    KEYS,
    LIMITS,
    NO_REACH,
    SUCCESS,
    WIDE_RIGHTS,
    RightsModel,
    callers,
    change_bodies,
    creators,
    invite_bodies,
    least,
    names,
    new_names,
    rarely,
    roles,
    unknown_keys,
)
from tests.hostile.escalation_users import UserCalls
from tests.kit.device import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping


class EscalationMachine(UserCalls):
    """The calls of all users, and what the console changes meanwhile."""

    @initialize(
        opener=st.sampled_from((1, 2, 4)), rights=st.sampled_from((HOUSE_RIGHTS, WIDE_RIGHTS))
    )
    def set_up_device(self, opener: int, rights: RightsModel) -> None:
        self.kit.policy(HOUSE_POLICY)
        clocks = SystemClocks(wall=lambda: self.wall, monotonic=lambda: self.monotonic)
        self.device = self.run(self.kit.device(limits=LIMITS, iam_limits=IAM_LIMITS, clocks=clocks))
        self.run(self.add_users())
        self.callers = [self.kit.caller(self.device, one) for one in KEYS]
        self.reload(rights, bad=False)
        self.invite(1, {"name": "nina", "role": "user", "uses": 2})
        self.invite(2, {"name": "leo", "role": "admin"})
        self.invite(4, {"name": "zoe", "role": "user", "uses": 2})
        self.invite(3, {"name": "leo"})
        self.open_window(opener, "guest" if opener == 4 else "user")

    # -- requests beyond the caller's rank or policy --------------------------------------------

    @rule(
        who=st.sampled_from((1, 2, 3, 4, 6, 2, 3, 1)),
        name=names,
        way=st.sampled_from(
            ("user", "role", "time", "key", "invite", "window", "remove", "policy", "policy")
        ),
        other=st.integers(0, 3),
    )
    def exceed_rank(self, who: int, name: str, way: str, other: int) -> None:
        """Ask for one rank too high, or for a time that ends after the caller's own."""
        rank, end = self.reach(self.acting(who))
        above = [role for role, needed in self.rights.ranks.items() if needed > rank] or ["king"]
        role = above[other % len(above)]
        user = self.state.user_of(FINGERPRINTS[who])
        own = user.name if user is not None else name
        beyond = None if other % 2 else min(end, BASE + 5000) + 1
        match way:
            case "user":
                self.add_user(who, "zoe", role, {}, FINGERPRINTS[12])
            case "role":
                self.change_user(who, own if other else name, {"role": role}, "PATCH")
            case "time":
                self.change_user(who, own if other else name, {"not_after": beyond}, "iPATCH")
            case "key":
                self.add_key(who, name, FINGERPRINTS[13], upper=False)
            case "invite":
                body = {"name": "zoe", "role": role} if other else {"name": "leo"}
                self.invite(who, {**body, "not_after": beyond} if other == 2 else body)
            case "window":
                self.open_window(who, role)
            case "policy":
                self.exceed_policy()
            case _:
                self.remove_user(who, name)

    def exceed_policy(self) -> None:
        """Ask for roles that the helper's rank would allow and the policy does not."""
        guests = [user.name for user in self.state.users.values() if user.role == "guest"]
        for name in guests[:2]:
            self.change_user(3, name, {"role": "auditor"}, "PATCH")
        self.add_user(3, "zoe", "auditor", {}, FINGERPRINTS[14])
        self.invite(3, {"name": "zoe", "role": "installer"})
        self.run(self.close_at_the_console())
        self.open_window(3, "auditor")

    async def close_at_the_console(self) -> None:
        self.device.app.pairing.close_window()

    # -- invites --------------------------------------------------------------------------------

    @rule(who=creators, body=invite_bodies)
    def invite(self, who: int, body: dict[str, Any]) -> None:
        creator = self.acting(who)
        made = self.call(
            who,
            ("POST", "/iam/invites", body),
            action="Iam:CreateInvite",
            targets=[(body["name"], body.get("role", "guest"))],
            fits="invite-made",
        )
        if made is not None:
            assert creator is not None
            reach = self.reach(creator)
            self.backers[made.body["id"]] = Backer(creator.name, reach, reach, body.get("uses", 1))
            self.tokens.append((made.body["id"], read_untrusted(made.body["token"])[1]))
            assert self.state.invites[made.body["id"]].inviter == creator.name

    @rule(who=callers, which=st.integers(0, 3))
    def withdraw(self, who: int, which: int) -> None:
        one = self.tokens[-1 - which % len(self.tokens)][0] if self.tokens else "0" * 32
        invite, power = self.state.invites.get(one), self.reach(self.acting(who))
        targets = [(invite.name, invite.role)] if invite else [("", "")]
        request = "DELETE", f"/iam/invites/{one}", None
        if self.call(who, request, action="Iam:RemoveInvite", targets=targets):
            assert invite is not None
            assert self.rights.ranks.get(invite.role, inf) <= power[0]

    @rule(which=st.integers(0, 3), who=unknown_keys)
    def redeem(self, which: int, who: int) -> None:
        if self.tokens:
            self.redeem_as(who, *self.tokens[-1 - which % len(self.tokens)])

    @rule(
        which=st.integers(0, 3),
        who=unknown_keys,
        meanwhile=st.sampled_from(("rename", "late", "not yet", "rules", "used", "fall")),
    )
    def redeem_too_late(self, which: int, who: int, meanwhile: str) -> None:
        """Redeem a valid invite after something has happened that may make it invalid."""
        good = [(one, token) for one, token in self.tokens if one in self.state.invites]
        if not good:
            return
        one, token = good[-1 - which % len(good)]
        creator = self.backers[one].name
        match meanwhile:
            case "rename":
                self.change_at_the_console(creator, {"name": "another-name"})
            case "late":
                self.wait(self.state.invites[one].expires - self.now, back=False)
            case "not yet":
                self.change_at_the_console(creator, {"not_before": self.now + 900})
            case "rules":
                self.reload(WIDE_RIGHTS, bad=False)
                self.invite(4, {"name": "zoe", "role": "user", "uses": 2})
                one, token = self.tokens[-1]
                self.reload(HOUSE_RIGHTS if which % 2 else BUILT_IN_RIGHTS, bad=False)
            case "used":
                for other in range(10, 13):
                    self.redeem_as(other, one, token)
            case _:
                self.change_at_the_console(creator, {"role": "guest"})
        self.redeem_as(who, one, token)

    def redeem_as(self, who: int, one: str, token: bytes) -> None:
        old, head, invite = self.state, self.head(), self.state.invites.get(one)
        limit, backer = NO_REACH, self.backers[one]
        if (
            invite is not None
            and backer.uses
            and invite.expires > self.now
            and invite.key in ("", FINGERPRINTS[who])
        ):
            limit = least(self.power_behind(backer), backer.low if backer.name else CONSOLE)
            about = invite.name, invite.role
            creator = self.state.users.get(backer.name)
            if backer.name and not self.rights.may(creator, "Iam:CreateInvite", about):
                limit = NO_REACH
        body = {"token": token}
        answer = self.answered(who, ("POST", "/iam/redeem", body), "redeemed")
        came = self.compare_newcomer(old, FINGERPRINTS[who], limit)
        self.watch(head)
        if came and backer.name:
            user = self.state.user_of(FINGERPRINTS[who])
            assert user is not None
            vouched = any(key.verified for key in old.users[backer.name].keys)
            assert user.key(FINGERPRINTS[who]).verified == vouched
        backer.uses -= came
        self.seen["redeem", came] += 1
        if answer is not None and answer.code in SUCCESS:
            user = self.state.user_of(FINGERPRINTS[who])
            assert user is not None
            assert (answer.body["user"], answer.body["role"]) == (user.name, user.role)

    # -- windows --------------------------------------------------------------------------------

    @rule(who=creators, role=roles | st.none())
    def open_window(self, who: int, role: str | None) -> None:
        creator, meant = self.acting(who), self.device.app.pairing.role_for(role)
        opened = self.call(
            who,
            ("POST", "/iam/window", {"role": role} if role else {}),
            action="Pairing:OpenWindow",
            targets=[("", meant)],
            fits="window",
        )
        if opened is not None:
            assert creator is not None
            reach = self.reach(creator)
            assert self.rights.ranks[meant] <= reach[0]
            self.opener = Backer(creator.name, reach, reach)

    @rule(who=callers)
    def close_window(self, who: int) -> None:
        role, was_open = self.device.app.pairing.role_for(None), self.device.app.pairing.is_open
        targets = [("", role)] if was_open else [("", "guest")]
        self.call(
            who, ("DELETE", "/iam/window", None), action="Pairing:OpenWindow", targets=targets
        )

    @rule(role=roles)
    def open_at_the_console(self, role: str) -> None:
        with suppress(IamError, PeerError):
            self.run(self.device.open(role=role))
            self.opener = Backer("", CONSOLE, CONSOLE)

    @rule(
        who=unknown_keys,
        name=new_names,
        yes=st.sampled_from((True, True, False)),
        meanwhile=st.none() | st.sampled_from(("guest", "user", "admin")),
        late=st.booleans(),
    )
    def pair(self, who: int, name: str, meanwhile: str | None, *, yes: bool, late: bool) -> None:
        """Run a ceremony, during which the role of the window's opener may change."""
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
        """Decide as the device's user, unless the window was closed together with its opener."""
        pending = self.device.app.pairing.ceremonies.pending()
        if pending is not None:
            with suppress(IamError, PeerError):
                self.device.app.pairing.ceremonies.decide(pending.id, accept=yes)

    def change_the_opener(self, role: str | None) -> None:
        if role is not None and self.opener is not None and self.opener.name:
            self.change_at_the_console(self.opener.name, {"role": role})

    def finish(self, who: int, started: Answer, *, yes: bool) -> None:
        """Confirm as the client, and check the new user."""
        assert self.opener is not None
        old, role = self.state, started.body["role"]
        limit = self.power_behind(self.opener)
        if self.opener.name:
            opener = None if self.opener.gone else self.state.users.get(self.opener.name)
            if not self.rights.may(opener, "Pairing:OpenWindow", ("", role)):
                limit = NO_REACH
        try:
            tags = self.callers[who].tags(started)
            answer = self.run(self.callers[who].send_tag(started, tags.client_tag))
        except (PeerError, KeyError):
            answer = None
        assert answer is None or answer.code in {"2.04", "4.03", "4.04", "4.09"}, answer.code
        came = self.compare_newcomer(old, FINGERPRINTS[who], limit if yes else NO_REACH)
        self.seen["pair", came] += 1

    # -- reading --------------------------------------------------------------------------------

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
    def list_resource(self, who: int, what: tuple[str, str, str]) -> None:
        path, action, fits = what
        may = self.rights.may(self.acting(who), action)
        answer = self.call(who, ("GET", path, None), action=action, fits=fits)
        assert (answer is not None) == may

    @rule(who=callers, name=names)
    def read_user(self, who: int, name: str) -> None:
        request = "GET", f"/iam/users/{name}", None
        targets = [self.target(name)]
        self.call(who, request, action="Iam:GetUser", targets=targets, fits="user-info")

    @rule(who=st.sampled_from((1, 2, 7, 9, 6, 8, 10)))
    def observe(self, who: int) -> None:
        head, one = self.head(), Observer(who)
        one.task = self.run(self.begin(one))
        self.run(self.device.until(lambda: one.newest or one.is_over))
        assert (one.newest > 0) == self.rights.may(self.acting(who), "Events:Read")
        self.observers.append(one)
        self.watch(head)

    @rule(who=st.sampled_from((2, 9)))
    def observe_past_expiry(self, who: int) -> None:
        """Let the access expire during an observation, and only then append an event."""
        self.observe(who)
        user = self.acting(who)
        if user is not None and user.end < BASE + 2000:
            self.wait(user.end - self.now, back=False)
            head = self.head()
            self.run(self.append_event())
            self.watch(head)

    async def append_event(self) -> None:
        audit = self.device.app.access.audit
        audit.append(audit.event(EventKind.LABEL_MADE))

    async def begin(self, one: Observer) -> asyncio.Task[None]:
        async def watching() -> None:
            with suppress(PeerError):
                async for answer in self.callers[one.who].observe("/events"):
                    assert answer.code in {"2.05", "4.03"}, answer.code
                    one.newest = max(one.newest, answer.body.get("head", 0))

        return asyncio.create_task(watching())

    # -- the console, and time ------------------------------------------------------------------

    @rule(name=names, body=change_bodies)
    def change_any_user_at_the_console(self, name: str, body: dict[str, Any]) -> None:
        self.change_at_the_console(name, body)

    @rule(which=st.integers(0, 5), body=change_bodies | st.just({"not_before": BASE + 900}))
    def change_a_creator(self, which: int, body: dict[str, Any]) -> None:
        """Change a user who has invites or an open window; these are the most relevant."""
        backers = [*([self.opener] if self.opener else []), *reversed(self.backers.values())]
        given = [one.name for one in backers if one.name and not one.gone]
        if given and not body.keys() & {"name", "display"}:
            self.change_at_the_console(given[which % len(given)], body)

    def change_at_the_console(self, name: str, body: Mapping[str, Any]) -> None:
        old, head = self.state, self.head()

        async def change() -> None:
            with suppress(IamError):
                patch = UserPatch.parse_untrusted(body)
                self.device.app.access.registry.set_user(None, name, patch)

        self.run(change())
        if self.state is not old:
            self.follow(old, (name, body.get("name", name)))
        self.watch(head)

    @rule(body=invite_bodies)
    def invite_at_the_console(self, body: dict[str, Any]) -> None:
        async def create() -> CreatedInviteView:
            request = InviteRequest.parse_untrusted(body)
            return self.device.app.invitations.create(None, request)

        with suppress(IamError):
            made = self.run(create())
            self.backers[made["id"]] = Backer("", CONSOLE, CONSOLE, body.get("uses", 1))
            self.tokens.append((made["id"], read_untrusted(made["token"])[1]))

    @rule(
        rights=st.sampled_from((HOUSE_RIGHTS, WIDE_RIGHTS, HOUSE_RIGHTS, BUILT_IN_RIGHTS)),
        bad=rarely,
    )
    def reload(self, rights: RightsModel, *, bad: bool) -> None:
        """Change the policy files; an invalid set changes nothing."""
        old, head = self.state, self.head()
        self.kit.policy(INVALID_POLICY if bad else rights.text)

        async def again() -> None:
            with suppress(ConfigError):
                await self.device.app.policies.reload()

        self.rights = self.rights if bad else rights
        self.run(again())
        assert self.state is old
        self.watch(head)

    @rule(seconds=st.sampled_from((10.0, 60.0, 120.0)), back=rarely)
    def wait(self, seconds: float, *, back: bool) -> None:
        """Let time pass; setting the system clock back extends no access."""
        head = self.head()
        self.monotonic += seconds
        self.wall += -3600.0 if back else seconds
        self.now = max(self.wall, self.now + seconds)
        assert self.device.app.access.clock.now() == pytest.approx(self.now)
        self.watch(head)


@pytest.mark.timeout(900)  # shrinking a failure is slow; a run without one takes seconds
def test_no_sequence_of_calls_escalates_privileges() -> None:
    phases = set(Phase) - {Phase.explain}  # it multiplies the run time
    run_state_machine_as_test(
        EscalationMachine,
        settings=settings(max_examples=60, stateful_step_count=40, phases=phases),
    )


def test_every_action_succeeds_for_some_callers_and_is_refused_for_others() -> None:
    """A fixed sequence of calls. If random calls were always refused, the other test would pass."""
    EscalationMachine.seen.clear()
    machine = EscalationMachine()
    try:
        machine.set_up_device(4, HOUSE_RIGHTS)
        for who in (10, 1):
            machine.observe(who)
            machine.list_resource(who, ("/iam/users", "Iam:ListUsers", "users"))
            machine.list_resource(who, ("/iam/invites", "Iam:ListInvites", "invites"))
            machine.list_resource(who, ("/events", "Events:Read", "any"))
            machine.read_user(who, "uwe")
            machine.change_user(who, "greta", {"role": "user"}, "PATCH")
            machine.add_key(who, "greta", FINGERPRINTS[17], upper=True)
            machine.remove_key(who, "greta", own=False)
            machine.remove_user(who, "greta")
            machine.add_user(who, "zoe", "guest", {}, FINGERPRINTS[16])
            machine.withdraw(who, 0)
            machine.close_window(who)
        for which in (0, 1):  # the invite with index 0 was withdrawn above
            machine.redeem(which, 11)
        for accepted in (False, True):
            machine.open_window(4, "guest")
            machine.pair(13, "gina", None, yes=accepted, late=False)
    finally:
        machine.teardown()
    for action in (*ADMINISTRATION, "redeem", "pair"):
        assert machine.seen[action, True], f"no one did {action}"
        assert machine.seen[action, False], f"no one was refused {action}"
