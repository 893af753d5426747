"""The user of a key, its rights, and the reasons of decisions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam import (
    Access,
    Condition,
    Effect,
    Key,
    Operator,
    Policy,
    Role,
    State,
    Statement,
    Subject,
    User,
)
from iam.attributes import OF_SUBJECT
from iam.builtin import LOWEST, POLICIES, RANKS, ROLES
from iam.errors import PolicyError
from iam.limits import ATTRIBUTE_CHARACTERS_MAX
from iam.model import Inactive

Fp = Callable[[object], str]


def test_each_role_has_the_actions_of_its_table(access: Access, house: State, fp: Fp) -> None:
    cast = {"owner": "anna", "admin": "bert", "user": "carl", "guest": "dora", "unpaired": "eve"}
    for role, name in cast.items():
        subject = access.subject(house, fp(name), 0)
        due = {action for action, lowest in LOWEST.items() if RANKS[lowest] <= RANKS[role]}
        assert set(access.actions_of(subject)) == due
    assert access.actions_of(access.subject(house, fp("eve"), 0)) == (
        "Core:Discover",
        "Iam:RedeemInvite",
    )


def test_two_keys_of_one_user_give_the_same_rights(access: Access, house: State, fp: Fp) -> None:
    one, two = (access.subject(house, fp(key), 0) for key in ("anna", "anna's phone"))
    assert one.user is two.user
    assert access.actions_of(one) == access.actions_of(two)


@pytest.mark.parametrize(
    ("now", "inactive"), [(9.9, Inactive.NOT_YET), (10, None), (19.9, None), (20, Inactive.EXPIRED)]
)
def test_a_user_outside_its_access_period_is_unpaired(
    now: float, inactive: Inactive | None, access: Access, fp: Fp
) -> None:
    state = State.of([User("gina", "owner", (Key(fp(1)),), not_before=10, not_after=20)])
    subject = access.subject(state, fp(1), now)
    decision = access.decide(subject, "Hello:Get")
    if inactive is None:
        assert (subject.role, decision.allowed) == ("owner", True)
    else:
        assert (subject.user, subject.role, subject.inactive) == (None, "unpaired", inactive)
        assert not decision.allowed
        assert inactive.value in decision.reason
        assert "access" in decision.missing


def test_an_unpaired_client_is_advised_to_pair(access: Access, fp: Fp) -> None:
    decision = access.decide(access.subject(State(), fp(1), 0), "Iam:ListUsers")
    assert "not paired" in decision.missing
    assert "Iam" not in decision.missing


def test_an_undefined_role_has_no_rights(access: Access, fp: Fp) -> None:
    state = State.of([User("hugo", "chief", (Key(fp(1)),))])
    subject = access.subject(state, fp(1), 0)
    decision = access.decide(subject, "Core:Discover")
    assert (decision.allowed, decision.reason) == (False, "role 'chief' is not defined")
    assert access.actions_of(subject) == ()


def test_an_application_adds_actions_for_a_role_and_higher_roles(house: State, fp: Fp) -> None:
    access = Access(app_actions={"Lamp:Set": "user", "Lamp:Burn": "owner"})
    for name, lamp in {
        "dora": (),
        "carl": ("Lamp:Set",),
        "anna": ("Lamp:Burn", "Lamp:Set"),
    }.items():
        mine = access.actions_of(access.subject(house, fp(name), 0))
        assert tuple(action for action in mine if action.startswith("Lamp")) == lamp


def test_an_application_may_repeat_built_in_actions() -> None:
    assert Access(app_actions={"Board:Read": "guest"}).policies["app-guest"].statements == ()


@pytest.mark.parametrize(
    "actions",
    [
        {"Iam:SetUser": "guest"},
        {"Iam:Anything": "owner"},
        {"Lamp:Set": "unpaired"},
        {"Lamp:Set": "nobody"},
        {"Lamp:*": "user"},
        {"Lamp": "user"},
    ],
)
def test_an_application_cannot_extend_built_in_rights(actions: dict[str, str]) -> None:
    with pytest.raises(PolicyError):
        Access(app_actions=actions)


def test_contradictory_roles_and_policies_are_refused() -> None:
    policy = Policy("p", (Statement(Effect.ALLOW, ("Lamp:Set",)),))
    for roles, policies, why in (
        ((*ROLES, Role("x", 1, ("nowhere",))), POLICIES, "unknown policy 'nowhere'"),
        ((*ROLES, ROLES[0]), POLICIES, "role 'unpaired' is defined twice"),
        (ROLES, (*POLICIES, policy, policy), "policy 'p' is defined twice"),
        ((Role("unpaired", 0),), (), "role 'owner' is not defined"),
    ):
        with pytest.raises(PolicyError, match=why):
            Access(roles, policies)


def test_a_configured_role_has_only_the_policies_it_names(fp: Fp) -> None:
    """The rank decides which users a user may administer; it grants no rights by itself."""
    access = Access(
        (*ROLES, Role("installer", 35, ("app-user",))),
        app_actions={"Lamp:Set": "user", "Lamp:Get": "guest"},
    )
    state = State.of([User("ines", "installer", (Key(fp(1)),))])
    assert access.actions_of(access.subject(state, fp(1), 0)) == ("Lamp:Set",)


# ---------------------------------------------------------------------------------- attributes

KEY = "ab" * 32
CARL = Subject(KEY, User("carl", "tester", (Key(KEY, "phone", "code", verified=False),)), "tester")
UNPAIRED_CLIENT = Subject(KEY, None, "unpaired")


def equals(name: str, *values: str) -> Condition:
    return Condition(Operator.STRING_EQUALS, name, values)


def with_rules(*statements: Statement) -> Access:
    """Rules with a role `tester` that has these statements for actions of Lamp."""
    app = {f"Lamp:{verb}": "owner" for verb in ("Get", "Set", "Burn")}
    return Access(
        (*ROLES, Role("tester", 5, ("p",))), (*POLICIES, Policy("p", statements)), app_actions=app
    )


OURS = {
    "Connection:Username": "carl",
    "Connection:RoleId": "tester",
    "Connection:Fingerprint": KEY,
    "Connection:KeyName": "phone",
    "Connection:Method": "code",
    "Connection:Verified": "false",
}


@pytest.mark.parametrize("name", sorted(OF_SUBJECT))
def test_attributes_of_the_subject_cannot_be_overridden(name: str) -> None:
    """The subject's own attributes are used even if an application passes others."""
    mine = with_rules(Statement(Effect.ALLOW, ("Lamp:Set",), (equals(name, OURS[name]),)))
    theirs = with_rules(Statement(Effect.ALLOW, ("Lamp:Set",), (equals(name, "forged"),)))
    for passed in ({}, {name: "forged"}, {name.upper(): "forged"}):
        assert mine.decide(CARL, "Lamp:Set", passed).allowed
        assert not theirs.decide(CARL, "Lamp:Set", passed).allowed
        assert not theirs.conceivable(CARL, "Lamp:Set", passed, unknown=[name]).allowed


@pytest.mark.parametrize("name", sorted(OF_SUBJECT))
def test_attributes_passed_for_an_unpaired_subject_are_ignored(name: str) -> None:
    """An unpaired subject has only a role and a key; its other attributes stay absent."""
    policy = Policy("p", (Statement(Effect.ALLOW, ("Hello:Get",), (equals(name, OURS[name]),)),))
    roles = (*(role for role in ROLES if role.id != "unpaired"), Role("unpaired", 0, ("p",)))
    access = Access(roles, (*POLICIES, policy))
    decision = access.decide(UNPAIRED_CLIENT, "Hello:Get", OURS)
    assert decision.allowed is (name == "Connection:Fingerprint")
    early = access.conceivable(UNPAIRED_CLIENT, "Hello:Get", OURS, unknown=[name])
    assert early.allowed is decision.allowed


def test_a_subject_with_another_key_than_its_user_has_no_key_attributes() -> None:
    access = with_rules(Statement(Effect.ALLOW, ("Lamp:Set",), (equals("Connection:KeyName", ""),)))
    user = User("carl", "tester", (Key("cd" * 32),))
    assert not access.decide(Subject(KEY, user, "tester"), "Lamp:Set").allowed
    assert access.decide(Subject("cd" * 32, user, "tester"), "Lamp:Set").allowed


NAMES = ("Lamp:Zone", "IAM:RoleId", "IAM:Username", "Connection:IsLocal", "Clock:Now")
conditions = st.builds(
    Condition,
    st.sampled_from([one for one in Operator if one.startswith("String")]),
    st.sampled_from((*NAMES, "Connection:Username")),
    st.lists(
        st.sampled_from(["carl", "true", "1", "*", *(f"${{{name}}}" for name in NAMES)]),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
accesses = st.lists(
    st.builds(
        Statement,
        st.sampled_from(Effect),
        st.lists(st.sampled_from(["Lamp:*", "Lamp:Set", "Lamp:Get"]), max_size=2).map(tuple),
        st.lists(conditions, max_size=2).map(tuple),
    ),
    max_size=4,
).map(lambda some: with_rules(*some))
texts = st.sampled_from(["carl", "true", "1", "*", "x"])
attributes = st.dictionaries(st.sampled_from(NAMES), texts)


@given(accesses, attributes, st.sampled_from(["Lamp:Set", "Lamp:Burn", "Lamp", "Hello:Get"]))
def test_explain_and_decide_give_the_same_decision(
    access: Access, found: dict[str, str], action: str
) -> None:
    for subject in (CARL, UNPAIRED_CLIENT, Subject(KEY, CARL.user, "nobody")):
        decision = access.decide(subject, action, found)
        explained = access.explain(subject, action, found)
        if explained.depends_on:
            assert not explained.decision.allowed
            assert all(name in explained.decision.reason for name in explained.depends_on)
            continue
        assert explained.decision == decision
        applying = [step for step in explained.steps if step.applies]
        assert decision.allowed is ({step.effect for step in applying} == {Effect.ALLOW})
        if applying:
            deciding = Effect.ALLOW if decision.allowed else Effect.DENY
            assert any(
                f"policy {step.policy!r}, statement {step.statement}: {deciding}" in decision.reason
                for step in applying
                if step.effect is deciding
            )


@given(accesses, attributes, st.dictionaries(st.sampled_from(NAMES), texts), st.data())
def test_a_subject_denied_early_is_denied_for_any_later_attribute(
    access: Access, early: dict[str, str], late: dict[str, str], data: st.DataObject
) -> None:
    """An attribute that is unknown at first may later have any value or be absent."""
    unknown = data.draw(st.sets(st.sampled_from(["Lamp:Zone", "Connection:IsLocal"])))
    opened = {name for name in NAMES if name.startswith("IAM:")} | unknown
    turned_out = {name: text for name, text in late.items() if name in opened} | early
    if access.decide(CARL, "Lamp:Set", turned_out).allowed:
        assert access.conceivable(CARL, "Lamp:Set", early, unknown=unknown).allowed


telling = st.lists(
    st.builds(
        Statement,
        st.sampled_from(Effect),
        st.just(("Lamp:Set", "Iam:GetUser", "Iam:ListUsers")),
        st.lists(
            st.builds(
                equals,
                st.sampled_from(("Lamp:Zone", "IAM:RoleId", "Connection:IsLocal")),
                st.sampled_from(("true", "1", "${Lamp:Zone}", "${Connection:IsLocal}")),
            ),
            max_size=2,
        ).map(tuple),
    ),
    min_size=1,
    max_size=3,
).map(lambda some: with_rules(*some))


@settings(max_examples=300)
@given(
    telling,
    st.dictionaries(st.just("Connection:IsLocal"), texts),
    st.dictionaries(st.sampled_from(("Lamp:Zone", "IAM:RoleId")), texts),
    st.sampled_from(["Lamp:Set", "Iam:GetUser", "Iam:ListUsers"]),
    st.sampled_from([CARL, CARL, UNPAIRED_CLIENT]),
)
def test_a_decision_without_dependencies_holds_for_every_request(
    access: Access, now: dict[str, str], request: dict[str, str], action: str, subject: Subject
) -> None:
    """A request adds attributes of its target and resource, but none of the device."""
    given = request.keys() & ({"IAM:RoleId", "IAM:Username"} if action == "Iam:GetUser" else {})
    if subject.user and action.startswith("Lamp:"):
        given |= request.keys() & {"Lamp:Zone"}
    asked = {**{name: request[name] for name in given}, **now}
    before, then = (access.decide(subject, action, some).allowed for some in (now, asked))
    depends = access.depends_on(subject, action, now)
    assert before == then or depends
    assert not set(depends) & now.keys()
    if then and action in access.actions:
        assert action in {
            *access.actions_of(subject, attributes=now),
            *access.conditional_of(subject, now),
        }
    if not then:
        assert action not in access.actions_of(subject, attributes=now)


def test_depends_on_names_exactly_the_deciding_attributes() -> None:
    room, other = equals("Lamp:Zone", "hall"), equals("Lamp:Age", "1")
    near = Condition(Operator.BOOL, "Connection:IsLocal", ("true",))

    def allow(*some: Condition) -> Statement:
        return Statement(Effect.ALLOW, ("Lamp:Set",), some)

    def deny(*some: Condition) -> Statement:
        return Statement(Effect.DENY, ("Lamp:Set",), some)

    far = {"Connection:IsLocal": "false"}
    for statements, due in (
        ([allow()], ()),
        ([allow(room)], ("Lamp:Zone",)),
        ([allow(), deny(room)], ("Lamp:Zone",)),
        ([allow(), deny(room, other)], ("Lamp:Age", "Lamp:Zone")),
        ([allow(), deny(room, near)], ()),  # the Deny does not apply remotely
        ([allow(near), deny(room)], ()),  # denied remotely in every room
        ([allow(), allow(room)], ()),
        ([deny(), allow(room)], ()),
        ([deny(room)], ()),
        ([allow(equals("Lamp:Zone", "${Lamp:Age}"))], ("Lamp:Age", "Lamp:Zone")),
        ([allow(equals("IAM:Username", "anna"))], ()),  # Lamp:Set has no target user
        ([allow(equals("Connection:KeyName", "anna"))], ()),
    ):
        access = with_rules(*statements)
        assert access.depends_on(CARL, "Lamp:Set", far) == due, statements
        assert access.depends_on(UNPAIRED_CLIENT, "Lamp:Set", far) == ()
        given = {**far, "Lamp:Zone": "hall", "Lamp:Age": "1"}
        assert access.depends_on(CARL, "Lamp:Set", given) == ()


@given(accesses, attributes, attributes)
def test_actions_that_other_attributes_would_allow_are_listed(
    access: Access, now: dict[str, str], other: dict[str, str]
) -> None:
    may, might = access.actions_of(CARL, attributes=now), access.conditional_of(CARL, now)
    assert not set(may) & set(might)
    assert list(might) == sorted(might)
    assert set(access.actions_of(CARL, attributes=other)) <= {*may, *might}


def test_allowed_and_conditional_actions_are_listed_separately() -> None:
    local = Condition(Operator.BOOL, "Connection:IsLocal", ("true",))
    access = with_rules(
        Statement(Effect.ALLOW, ("Lamp:Get",)),
        Statement(Effect.ALLOW, ("Lamp:Set",), (local,)),
        Statement(Effect.ALLOW, ("Lamp:Burn",), (equals("Connection:Username", "anna"),)),
    )
    assert access.actions_of(CARL) == ("Lamp:Get",)
    assert access.conditional_of(CARL) == ("Lamp:Set",)
    near = {"Connection:IsLocal": "true"}
    assert access.actions_of(CARL, attributes=near) == ("Lamp:Get", "Lamp:Set")
    assert access.actions_of(CARL, ["Lamp:Set", "Lamp:Burn"], near) == ("Lamp:Set",)
    assert access.conditional_of(CARL, near) == ()
    assert access.conditional_of(UNPAIRED_CLIENT) == ()


def test_missing_mentions_only_the_locality_and_the_time() -> None:
    local = Condition(Operator.BOOL, "Connection:IsLocal", ("true",))
    early = Condition(Operator.DATE_LESS_THAN, "Clock:Now", ("100",))
    named = equals("Connection:Username", "anna")
    far, late = {"Connection:IsLocal": "false"}, {"Clock:Now": "200"}
    lack = "You lack the right Lamp:Set."
    for due, found, statements in (
        ("only from the device's own network", far, [(local,)]),
        ("not at this time.", late, [(early,)]),
        ("does not know the time", {}, [(early,)]),
        (lack, {**far, **late}, [(local, early)]),
        (lack, far, [(local, named)]),
        (lack, far, [(named,)]),
        ("only from the device's own network", {**far, **late}, [(local,), (early,)]),
    ):
        access = with_rules(*(Statement(Effect.ALLOW, ("Lamp:Set",), some) for some in statements))
        missing = access.decide(CARL, "Lamp:Set", found).missing
        assert due in missing
        assert "anna" not in missing
    never = Statement(Effect.DENY, ("Lamp:Set",))
    access = with_rules(Statement(Effect.ALLOW, ("Lamp:Set",), (local,)), never)
    assert access.decide(CARL, "Lamp:Set", far).missing == lack


def test_an_overlong_attribute_does_not_bypass_a_deny() -> None:
    access = with_rules(
        Statement(Effect.ALLOW, ("Lamp:Set",)),
        Statement(Effect.DENY, ("Lamp:Set",), (equals("Lamp:Zone", "bedroom"),)),
    )
    found = {"Lamp:Zone": "x" * (ATTRIBUTE_CHARACTERS_MAX + 1)}
    assert not access.decide(CARL, "Lamp:Set", found).allowed
    assert not access.conceivable(CARL, "Lamp:Set", found).allowed
    assert access.explain(CARL, "Lamp:Set", found).steps == ()


@pytest.mark.parametrize(
    ("pattern", "fine"),
    [
        ("Core:Discover", True),
        ("Core:*", True),
        ("Hello:*", True),
        ("Board:Read", True),
        ("Iam:RedeemInvite", True),
        ("Iam:*", False),
        ("Iam:GetMe", False),
        ("Iam:Later", False),
        ("Hello:Later", False),
        ("Events:Read", False),
        ("Pairing:OpenWindow", False),
        ("Lamp:Get", False),
        ("Lamp:*", False),
    ],
)
def test_unpaired_can_be_allowed_only_a_fixed_set_of_actions(pattern: str, *, fine: bool) -> None:
    """A condition does not change this; a Deny is always accepted."""
    local = Condition(Operator.BOOL, "Connection:IsLocal", ("true",))
    roles = (*(role for role in ROLES if role.id != "unpaired"), Role("unpaired", 0, ("p",)))
    Access(roles, (*POLICIES, Policy("p", (Statement(Effect.DENY, (pattern,)),))))
    policy = Policy("p", (Statement(Effect.ALLOW, ("Hello:Get", pattern), (local,)),))
    if fine:
        assert Access(roles, (*POLICIES, policy)).roles["unpaired"].policies == ("p",)
    else:
        with pytest.raises(PolicyError, match=f"do {pattern}".replace("*", r"\*")):
            Access(roles, (*POLICIES, policy))


def test_the_rights_of_equivalent_roles_are_equal() -> None:
    one, two = (Statement(Effect.ALLOW, (f"Lamp:{verb}",)) for verb in ("Set", "Get"))
    near = Statement(Effect.ALLOW, ("Lamp:Set",), (equals("Connection:IsLocal", "true"),))
    before = with_rules(one, two)
    assert before.rights("tester") == with_rules(two, one).rights("tester")
    for other in (with_rules(one), with_rules(one, near), with_rules(near, two), with_rules()):
        assert before.rights("tester") != other.rights("tester")
        assert before.rights("guest") == other.rights("guest")
    policy = Policy("p", (one, two))
    higher = Access((*ROLES, Role("tester", 6, ("p",))), (*POLICIES, policy))
    assert before.rights("tester") != higher.rights("tester")
    assert before.rights("nobody") is None
    assert Access(app_actions={"Lamp:Set": "guest"}).rights("guest") != before.rights("guest")
    assert len({before.rights("tester"), with_rules(two, one).rights("tester")}) == 1
