"""Who a key is, and what it may do, with a reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iam import Access, Key, Policy, Role, State, Statement, User
from iam.builtin import LOWEST, POLICIES, RANKS, ROLES
from iam.errors import PolicyError
from iam.model import Lapse
from iam.policy import Effect

Fp = Callable[[object], str]


def test_each_role_may_do_what_its_table_says(access: Access, house: State, fp: Fp) -> None:
    cast = {"owner": "anna", "admin": "bert", "user": "carl", "guest": "dora", "unpaired": "eve"}
    for role, name in cast.items():
        subject = access.subject(house, fp(name), 0)
        due = {action for action, lowest in LOWEST.items() if RANKS[lowest] <= RANKS[role]}
        assert set(access.actions_of(subject)) == due
    assert access.actions_of(access.subject(house, fp("eve"), 0)) == ("Core:Discover",)


def test_two_keys_of_one_user_give_the_same_rights(access: Access, house: State, fp: Fp) -> None:
    one, two = (access.subject(house, fp(key), 0) for key in ("anna", "anna's phone"))
    assert one.user is two.user
    assert access.actions_of(one) == access.actions_of(two)


@pytest.mark.parametrize(
    ("now", "lapse"), [(9.9, Lapse.NOT_YET), (10, None), (19.9, None), (20, Lapse.EXPIRED)]
)
def test_out_of_its_time_a_user_is_unpaired(
    now: float, lapse: Lapse | None, access: Access, fp: Fp
) -> None:
    state = State.of([User("gina", "owner", (Key(fp(1)),), not_before=10, not_after=20)])
    subject = access.subject(state, fp(1), now)
    decision = access.decide(subject, "Hello:Get")
    if lapse is None:
        assert (subject.role, decision.allowed) == ("owner", True)
    else:
        assert (subject.user, subject.role, subject.lapse) == (None, "unpaired", lapse)
        assert not decision.allowed
        assert lapse.value in decision.reason
        assert "access" in decision.missing


def test_a_stranger_is_told_to_pair(access: Access, fp: Fp) -> None:
    decision = access.decide(access.subject(State(), fp(1), 0), "Iam:ListUsers")
    assert "not paired" in decision.missing
    assert "Iam" not in decision.missing


def test_a_role_that_nobody_defined_may_do_nothing(access: Access, fp: Fp) -> None:
    state = State.of([User("hugo", "chief", (Key(fp(1)),))])
    subject = access.subject(state, fp(1), 0)
    decision = access.decide(subject, "Core:Discover")
    assert (decision.allowed, decision.reason) == (False, "role 'chief' is not defined")
    assert access.actions_of(subject) == ()


def test_an_application_adds_actions_for_a_role_and_those_above(house: State, fp: Fp) -> None:
    access = Access(app_actions={"Lamp:Set": "user", "Lamp:Burn": "owner"})
    for name, lamp in {
        "dora": (),
        "carl": ("Lamp:Set",),
        "anna": ("Lamp:Burn", "Lamp:Set"),
    }.items():
        mine = access.actions_of(access.subject(house, fp(name), 0))
        assert tuple(action for action in mine if action.startswith("Lamp")) == lamp


def test_an_application_may_repeat_what_is_built_in() -> None:
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
def test_an_application_cannot_widen_rights_of_ours(actions: dict[str, str]) -> None:
    with pytest.raises(PolicyError):
        Access(app_actions=actions)


def test_a_set_that_contradicts_itself_is_refused() -> None:
    policy = Policy("p", (Statement(Effect.ALLOW, ("Lamp:Set",)),))
    for roles, policies, why in (
        ((*ROLES, Role("x", 1, ("nowhere",))), POLICIES, "unknown policy 'nowhere'"),
        ((*ROLES, ROLES[0]), POLICIES, "role 'unpaired' is defined twice"),
        (ROLES, (*POLICIES, policy, policy), "policy 'p' is defined twice"),
        ((Role("unpaired", 0),), (), "role 'owner' is not defined"),
    ):
        with pytest.raises(PolicyError, match=why):
            Access(roles, policies)


def test_a_role_of_a_configuration_gets_only_what_it_names(fp: Fp) -> None:
    """Rank orders who may administer whom; it brings no rights by itself."""
    access = Access(
        (*ROLES, Role("installer", 35, ("app-user",))),
        app_actions={"Lamp:Set": "user", "Lamp:Get": "guest"},
    )
    state = State.of([User("ines", "installer", (Key(fp(1)),))])
    assert access.actions_of(access.subject(state, fp(1), 0)) == ("Lamp:Set",)
