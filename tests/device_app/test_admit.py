"""`Guard.admit`: what it lets pass, `authorise` lets pass; it reports no refusal itself."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code
from hypothesis import given, settings
from hypothesis import strategies as st

from device_app.access.access_control import AccessControl
from device_app.access.bodies import UserPatch
from device_app.access.clock import SystemClocks
from device_app.access.guard import Guard
from device_app.limits import SUBJECTS_REMEMBERED
from iam.access import Access
from iam.builtin import LOWEST, POLICIES, ROLES
from iam.condition import Condition, Operator
from iam.limits import SETTLED_DECISIONS_MAX
from iam.model import Key, State, User
from iam.policy import Effect, Policy, Role, Statement
from iam.store import Store
from peer.identity import Fingerprint
from peer.net.address import Address
from peer.net.locality_verdict import LocalityVerdict
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity
from peer.net.session_route import SessionRoute
from tests.kit.internals import remembered_subjects, settled_decisions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from device_app.access.path_rules import Path as Segments
    from tests.kit.device import Kit

NOW = 1_800_000_000.0
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "iPATCH", "FETCH")
LAMP_ACTIONS = {"Lamp:Get": "guest", "Lamp:Set": "user"}
FINGERPRINTS = {
    name: f"{number:064x}"
    for number, name in enumerate(
        ("olga", "ada", "uwe", "gus", "ina", "una", "late", "early", "brief", "nobody")
    )
}


def key(name: str) -> tuple[Key, ...]:
    return (Key(FINGERPRINTS[name], verified=name != "una"),)


USERS = (
    User("olga", "owner", key("olga")),
    User("ada", "admin", key("ada")),
    User("uwe", "user", key("uwe")),
    User("gus", "guest", key("gus")),
    User("ina", "installer", key("ina")),
    User("una", "user", key("una")),
    User("late", "owner", key("late"), not_after=NOW - 1),
    User("early", "owner", key("early"), not_before=NOW + 1),
    User("brief", "user", key("brief"), not_after=NOW + 60),
)

LOCAL = Condition(Operator.BOOL, "Connection:IsLocal", ("true",))
VERIFIED = Condition(Operator.BOOL, "Connection:Verified", ("true",))
IN_TIME = Condition(Operator.DATE_LESS_THAN, "Clock:Now", (str(int(NOW) + 30),))
OF_GUESTS = Condition(Operator.STRING_EQUALS, "IAM:RoleId", ("guest",))


def access(*statements: Statement) -> Access:
    """The built-in rules, and one more policy of every role but `unpaired`."""
    more = Policy("more", statements)
    roles = [Role(r.id, r.rank, (*r.policies, "more")) if r.rank else r for r in ROLES]
    installer = Role("installer", 15, ("core-unpaired", "more"))
    return Access([*roles, installer], [*POLICIES, more], app_actions=LAMP_ACTIONS)


ACCESSES = {
    "built-in": Access(app_actions=LAMP_ACTIONS),  # it defines no installer
    "local": access(Statement(Effect.DENY, ("Board:*", "Hello:Get"), (LOCAL,))),
    "time": access(
        Statement(Effect.ALLOW, ("Board:Read", "Iam:GetUser"), (IN_TIME, VERIFIED)),
        Statement(Effect.DENY, ("Iam:ListRoles",)),
    ),
    "target": access(
        Statement(Effect.ALLOW, ("Iam:GetUser", "Iam:SetUser", "Iam:AddUser"), (OF_GUESTS,)),
        Statement(Effect.ALLOW, ("Lamp:*", "Events:Read")),
    ),
}


def peer(name: str, *, is_local: bool = True) -> PeerIdentity:
    return PeerIdentity(
        fingerprint=Fingerprint(bytes.fromhex(FINGERPRINTS[name])),
        address=Address("192.0.2.7", 4000),
        interface="eth0",
        is_local=is_local,
        verdict=LocalityVerdict(is_local, "", "eth0", 255, ""),
        session_id=1,
        exporter=b"",
        extended_master_secret=True,
        path=SessionRoute.LAN if is_local else SessionRoute.ADDRESS,
    )


def passes(guard: Guard, sender: PeerIdentity, path: Segments, method: str) -> bool:
    request = aiocoap.Message(code=Code[method], uri_path=path)
    request.remote = SimpleNamespace(peer=sender)
    try:
        guard.authorise(request, path, object())
    except ProblemError:
        return False
    return True


class House:
    """A guard on a store with all USERS, and a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.store = Store.open(folder / "device.db")
        self.store.commit(State.of(USERS))
        clocks = SystemClocks(lambda: self.now, lambda: self.now, "boot")
        self.control = AccessControl.create(self.store, Access(), clocks)
        self.guard = Guard(self.control)
        rules = self.guard.rules
        rules.add(("hello",), {"GET": "Hello:Get"})
        rules.add(("board",), {"GET": "Board:Read"})
        rules.add(("lamp",), {"GET": "Lamp:Get", "PUT": "Lamp:Set"}, own=lambda _request: {})
        rules.add(("plain",), {"GET": "Lamp:Get", "PUT": "Lamp:Set"})
        rules.add(("roles",), {"GET": "Iam:ListRoles"})
        rules.add(("users",), {"GET": "Iam:ListUsers", "POST": "Iam:AddUser"}, late=("POST",))
        self.add_user_rules()
        rules.add(("redeem",), {"POST": "Iam:RedeemInvite"}, as_unpaired=True)

    def add_user_rules(self) -> None:
        targets = self.guard.user_targets
        actions = {"GET": "Iam:GetUser", "PATCH": "Iam:SetUser"}
        self.guard.rules.add(("iam", "users", None), actions, targets=targets)

    def adopt(self, access: Access) -> None:
        self.control.authority.adopt(access)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    yield house
    house.store.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.store.close()


# -- it admits nothing that would be refused -------------------------------------------------------


@pytest.mark.parametrize("name", ACCESSES)
async def test_authorise_lets_everything_pass_that_admit_does(
    kit: Kit, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "handfast.guard")
    clocks = SystemClocks(lambda: NOW, lambda: NOW, "boot")
    device = await kit.device(clocks=clocks)
    control, guard = device.app.access, device.app.guard
    control.writer.commit(State.of([replace(one, not_before=None) for one in USERS]))
    control.authority.adopt(ACCESSES[name])
    patterns = [*guard.rules.actions(), ("no", "such", "path")]
    paths = {
        tuple(part or name for part in pattern) for pattern in patterns for name in ("gus", "none")
    }
    admitted = 0
    for path, method, who, is_local in product(paths, METHODS, FINGERPRINTS, (True, False)):
        sender = peer(who, is_local=is_local)
        events = control.store.audit.head
        is_admitted = guard.admit(sender, path, method)
        assert control.store.audit.head == events
        if is_admitted:
            admitted += 1
            assert passes(guard, sender, path, method), (who, path, method)
    assert admitted > 20


@pytest.mark.parametrize("name", ACCESSES)
def test_admit_lets_pass_whatever_depends_on_no_message(shared: House, name: str) -> None:
    """It is not just right but useful: only attributes, targets in bodies and 4.03 are excepted."""
    shared.adopt(ACCESSES[name])
    for path, method, who, is_local in product(
        (("hello",), ("board",), ("plain",), ("roles",), ("users",), ("iam", "users", "gus")),
        ("GET", "PUT", "PATCH"),
        FINGERPRINTS,
        (True, False),
    ):
        sender = peer(who, is_local=is_local)
        assert shared.guard.admit(sender, path, method) == passes(
            shared.guard, sender, path, method
        ), (path, method, who)
    for path, method in ((("lamp",), "GET"), (("users",), "POST"), (("redeem",), "POST")):
        assert not shared.guard.admit(peer("olga"), path, method)


CONDITIONS = st.sampled_from([LOCAL, VERIFIED, IN_TIME, OF_GUESTS]) | st.builds(
    Condition,
    st.sampled_from([Operator.STRING_EQUALS, Operator.STRING_NOT_EQUALS, Operator.STRING_LIKE]),
    st.sampled_from(["Connection:Username", "Connection:Address", "IAM:Username", "Room:Name"]),
    st.lists(
        st.sampled_from(["gus", "192.0.2.7", "${Connection:Username}", "*", "u?e"]),
        min_size=1,
        max_size=2,
    ).map(tuple),
)
STATEMENTS = st.builds(
    Statement,
    st.sampled_from(Effect),
    st.lists(
        st.sampled_from([*LOWEST, *LAMP_ACTIONS, "Board:*", "Hello:*", "Iam:*", "Lamp:*"]),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.lists(CONDITIONS, max_size=2).map(tuple),
)
PATHS = [("hello",), ("board",), ("lamp",), ("plain",), ("users",), ("iam", "users", "gus")]


@settings(max_examples=150)
@given(
    st.lists(STATEMENTS, max_size=4),
    st.lists(
        st.tuples(
            st.sampled_from(sorted(FINGERPRINTS)),
            st.sampled_from([*PATHS, ("iam", "users", "nobody"), ("redeem",), ("none",)]),
            st.sampled_from(METHODS),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_authorise_agrees_whatever_the_policies(
    shared: House, statements: list[Statement], requests: list[tuple[str, Segments, str, bool]]
) -> None:
    shared.adopt(access(*statements))
    for who, path, method, is_local in requests * 2:  # what is remembered is right, too
        sender = peer(who, is_local=is_local)
        if shared.guard.admit(sender, path, method):
            assert passes(shared.guard, sender, path, method)


# -- after a change --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda control: control.registry.remove_user(None, "uwe"),
        lambda control: control.registry.remove_key(None, "uwe", FINGERPRINTS["uwe"]),
        lambda control: control.registry.set_user(None, "uwe", UserPatch(role="gone")),
        lambda control: control.registry.set_user(None, "uwe", UserPatch(not_after=NOW - 5)),
        lambda control: control.registry.set_user(None, "uwe", UserPatch(not_before=NOW + 5)),
        lambda control: control.authority.adopt(access(Statement(Effect.DENY, ("Iam:ListRoles",)))),
        lambda control: control.registry.forget_all(),
    ],
    ids=["removed", "key", "role", "ended", "begins", "policy", "reset"],
)
def test_no_one_is_admitted_after_losing_the_right(house: House, change: Any) -> None:
    gone = Role("gone", 1, ())
    house.adopt(Access([*ROLES, gone]))
    sender = peer("uwe")
    for _ in range(2):
        assert house.guard.admit(sender, ("roles",), "GET")
    change(house.control)
    assert not house.guard.admit(sender, ("roles",), "GET")
    assert not passes(house.guard, sender, ("roles",), "GET")


def test_no_one_is_admitted_when_the_time_is_over(house: House) -> None:
    sender = peer("brief")
    assert house.guard.admit(sender, ("hello",), "GET")
    house.now = NOW + 60
    assert not house.guard.admit(sender, ("hello",), "GET")


def test_a_key_moved_to_another_user_gets_the_rights_of_that_one(house: House) -> None:
    sender = peer("ada")
    assert house.guard.admit(sender, ("users",), "GET")
    house.control.registry.remove_user(None, "ada")
    house.control.registry.add_key(None, "gus", Key(FINGERPRINTS["ada"]))
    assert not house.guard.admit(sender, ("users",), "GET")
    assert house.guard.admit(sender, ("hello",), "GET")


# -- last use --------------------------------------------------------------------------------------


def test_admit_notes_the_use_of_a_key_as_authorise_does(house: House) -> None:
    seen = house.store.seen
    assert not house.guard.admit(peer("gus"), ("roles",), "GET")
    assert not house.guard.admit(peer("late"), ("hello",), "GET")
    assert not seen
    assert house.guard.admit(peer("gus"), ("hello",), "GET")
    assert dict(seen) == {FINGERPRINTS["gus"]: NOW}
    house.now += 7
    assert passes(house.guard, peer("gus"), ("hello",), "GET")
    assert dict(seen) == {FINGERPRINTS["gus"]: NOW + 7}


# -- what is remembered ----------------------------------------------------------------------------


def test_remembered_decisions_are_bounded_and_belong_to_one_set() -> None:
    one, other = Access(), access(Statement(Effect.DENY, ("Hello:Get",)))
    subject = one.subject(State.of(USERS), FINGERPRINTS["uwe"], NOW)
    for number in range(2 * SETTLED_DECISIONS_MAX):
        settled = one.settled(subject, f"Any:Action{number}")
        assert settled is not None
        assert not settled.allowed
        assert settled_decisions(one) <= SETTLED_DECISIONS_MAX
    assert settled_decisions(other) == 0
    allowed, denied = one.settled(subject, "Hello:Get"), other.settled(subject, "Hello:Get")
    assert allowed is not None
    assert allowed.allowed
    assert denied is not None
    assert not denied.allowed


def test_remembered_subjects_are_bounded_and_have_access(house: House) -> None:
    keys = [f"{number:064x}" for number in range(1_000, 1_001 + SUBJECTS_REMEMBERED)]
    house.store.commit(State.of([User(f"u{int(one, 16)}", "guest", (Key(one),)) for one in keys]))
    authority = house.control.authority
    for one in keys:
        assert authority.subject(one).role == "guest"
        assert authority.subject(one[::-1]).user is None  # a stranger takes no room
        assert 0 < remembered_subjects(authority) <= SUBJECTS_REMEMBERED


def test_a_decision_that_a_condition_reads_for_is_not_remembered() -> None:
    rules = access(Statement(Effect.ALLOW, ("Board:Read",), (LOCAL,)))
    subject = rules.subject(State.of(USERS), FINGERPRINTS["ina"], NOW)
    for local in ("true", "false", "true"):
        decision = rules.decide(subject, "Board:Read", {"Connection:IsLocal": local})
        assert decision.allowed is (local == "true")
    assert rules.settled(subject, "Board:Read") is None
    assert settled_decisions(rules) == 0


def test_a_remembered_decision_is_the_one_that_a_new_set_makes() -> None:
    """With its texts: subjects of one role differ in what they are told."""
    state = State.of([*USERS, User("odd", "unpaired", key("nobody"))])
    used = access()
    for _, who, action in product(range(2), [*FINGERPRINTS.values(), "f" * 64], LOWEST):
        subject = used.subject(state, who, NOW)
        assert used.decide(subject, action) == access().decide(subject, action)
        assert used.conceivable(subject, action) == access().conceivable(subject, action)
