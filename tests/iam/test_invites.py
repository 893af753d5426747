"""An invite never grants more than its creator may grant, at its creation and its redemption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from iam import Access, IamError, Key, Rules, State, Subject, User
from iam import changes as to
from iam.errors import (
    Denied,
    InviteRefused,
    KeyTaken,
    LimitReached,
    Malformed,
    NameTaken,
    NotFound,
)
from iam.limits import INVITE_USES_MAX, IamLimits
from iam.model import Invite

Fp = Callable[[object], str]
Make = Callable[..., Invite]
Actor = Callable[[str], Subject]
Redeem = Callable[..., tuple[State, User]]
NOW = 50.0
RULES = Rules(Access().roles)


@pytest.fixture
def actor(access: Access, house: State, fp: Fp) -> Actor:
    return lambda name: access.subject(house, fp(name), NOW)


@pytest.fixture
def redeem(fp: Fp) -> Redeem:
    """Redeem invite `number` with the key of `who`."""

    def by(state: State, number: int, who: object, now: float = NOW) -> tuple[State, User]:
        return to.redeem(state, f"{number:032x}", fingerprint=fp(who), now=now, rules=RULES)

    return by


@pytest.fixture
def add() -> Callable[..., State]:
    return partial(to.add_invite, now=NOW, rules=RULES)


Add = Callable[..., State]


def is_refused(redeem: Redeem, state: State, number: int, who: object, now: float = NOW) -> str:
    """Check that the redemption is refused; returns the error text."""
    with pytest.raises(InviteRefused) as caught:
        redeem(state, number, who, now)
    assert caught.value.reason == "invite"
    assert caught.value.advice
    return str(caught.value)


# ------------------------------------------------------------------------------------- redeeming


def test_an_invite_creates_one_user_and_is_removed(
    house: State, add: Add, redeem: Redeem, invite: Make, actor: Actor, fp: Fp
) -> None:
    state = add(house, actor("bert"), invite(1, "eve", "user", not_after=90.0))
    assert state.invites[f"{1:032x}"].inviter == "bert"
    assert state.users.keys() == house.users.keys()
    new, user = to.redeem(
        state, f"{1:032x}", fingerprint=fp("eve"), now=NOW, rules=RULES, key_name="phone"
    )
    key = Key(fp("eve"), "phone", "invite", True, NOW, f"{1:032x}")
    assert user == User("eve", "user", (key,), "", None, 90.0, NOW)
    assert new.users["eve"] is user
    assert (len(new.users), len(new.invites)) == (5, 0)
    assert "used or withdrawn" in is_refused(redeem, new, 1, "finn")


def test_redeeming_again_with_the_same_key_changes_nothing(
    house: State, add: Add, redeem: Redeem, invite: Make
) -> None:
    """The response may have been lost, so a repetition gets the same result."""
    for uses in (1, 3):
        state, user = redeem(add(house, None, invite(1, uses=uses)), 1, "eve")
        for now in (NOW, 1e9):  # even if the invite has expired by now
            assert redeem(state, 1, "eve", now) == (state, user)
        renamed = to.rename(state, None, "eve", "eva", rules=RULES)
        again, found = redeem(renamed, 1, "eve")
        assert again is renamed
        assert found.name == "eva"


def test_a_key_that_already_has_the_user_name_takes_no_use(
    house: State, add: Add, redeem: Redeem, invite: Make
) -> None:
    shared = add(house, None, invite(1, "dora", uses=2))
    assert redeem(shared, 1, "dora") == (shared, house.users["dora"])
    with pytest.raises(KeyTaken):
        redeem(shared, 1, "carl")


def test_an_invite_of_several_uses_numbers_its_users(
    house: State, add: Add, redeem: Redeem, invite: Make
) -> None:
    state = add(house, None, invite(1, "crew", uses=4))
    state = to.add_user(state, None, User("crew-3", "guest"), rules=RULES)
    made = []
    for who in range(4):
        state, user = redeem(state, 1, who)
        made.append(user.name)
        left = state.invites.get(f"{1:032x}")
        assert (left.uses if left else 0) == 3 - who
    assert made == ["crew", "crew-2", "crew-4", "crew-5"]
    is_refused(redeem, state, 1, "fifth")


def test_a_removed_user_cannot_use_the_same_invite_again(
    house: State, add: Add, redeem: Redeem, invite: Make, fp: Fp
) -> None:
    """This holds for its old key and for any new key."""
    state, _ = redeem(add(house, None, invite(1, "crew", uses=5)), 1, "first")
    state, _ = redeem(state, 1, "second")
    for shown_out in (
        to.remove_user(state, None, "crew-2", rules=RULES),
        to.remove_key(state, None, "crew-2", fp("second"), rules=RULES),
    ):
        is_refused(redeem, shown_out, 1, "second")
        is_refused(redeem, shown_out, 1, "a new key")
        assert redeem(shown_out, 1, "first") == (shown_out, shown_out.users["crew"])
    for other in (
        to.remove_user(state, None, "dora", rules=RULES),
        to.rename(state, None, "crew-2", "zoe", rules=RULES),
        to.add_key(state, None, "crew-2", Key(fp("more")), rules=RULES),
        to.set_user(state, None, "crew-2", role="user", rules=RULES),
    ):
        redeem(other, 1, "third")


def test_a_long_name_is_shortened_for_its_number(
    house: State, add: Add, redeem: Redeem, invite: Make
) -> None:
    state = add(house, None, invite(1, "n" * 64, uses=2))
    state, first = redeem(state, 1, 1)
    state, second = redeem(state, 1, 2)
    assert (first.name, second.name) == ("n" * 64, "n" * 62 + "-2")


def test_an_invite_bound_to_a_key_refuses_other_keys(
    house: State, add: Add, redeem: Redeem, invite: Make, fp: Fp
) -> None:
    state = add(house, None, invite(1, key=fp("eve")))
    assert "another key" in is_refused(redeem, state, 1, "finn")
    assert redeem(state, 1, "eve")[1].name == "eve"


def test_an_expired_or_unknown_invite_is_refused(
    house: State, add: Add, redeem: Redeem, invite: Make, fp: Fp
) -> None:
    state = add(house, None, invite(1))
    redeem(state, 1, "eve", 99.9)
    for now in (100.0, 1e12):
        assert "expired" in is_refused(redeem, state, 1, "eve", now)
    for number in (0, 2, 16**32 - 1):
        is_refused(redeem, state, number, "eve")
    with pytest.raises(InviteRefused):
        to.redeem(state, "", fingerprint=fp("eve"), now=NOW, rules=RULES)


def test_a_name_or_a_limit_used_up_meanwhile_refuses_the_redemption(
    house: State, add: Add, redeem: Redeem, invite: Make, fp: Fp
) -> None:
    state = add(
        add(house, None, invite(1)), None, invite(2)
    )  # two invites for one name, so that one can be lost
    state, _ = redeem(state, 2, "eve")
    with pytest.raises(NameTaken):
        redeem(state, 1, "finn")
    full = Rules(RULES.roles, IamLimits(users=4))
    state = add(house, None, invite(1))
    with pytest.raises(LimitReached):
        to.redeem(state, f"{1:032x}", fingerprint=fp("eve"), now=NOW, rules=full)
    with pytest.raises(KeyTaken):
        redeem(state, 1, "carl")
    with pytest.raises(NameTaken):
        add(house, None, invite(1, "dora"))


# --------------------------------------------------------------------- limits of the creator


@pytest.mark.parametrize(
    ("by", "fields"),
    [
        ("bert", {"role": "owner"}),
        ("carl", {"role": "admin"}),
        ("dora", {"role": "user"}),
        ("nobody", {"role": "guest"}),
    ],
)
def test_an_invite_above_the_creators_rank_is_denied(
    by: str, fields: dict[str, str], house: State, add: Add, invite: Make, actor: Actor
) -> None:
    with pytest.raises(Denied):
        add(house, actor(by), invite(1, **fields))


@pytest.mark.parametrize("role", ["chief", "unpaired"])
def test_an_invite_for_an_undefined_role_is_refused(
    role: str, house: State, add: Add, invite: Make
) -> None:
    with pytest.raises(NotFound):
        add(house, None, invite(1, role=role))


def test_an_invite_cannot_outlast_the_access_of_its_creator(
    house: State, add: Add, redeem: Redeem, invite: Make, access: Access, fp: Fp
) -> None:
    house = to.set_user(house, None, "bert", not_after=80.0, rules=RULES)
    bert = access.subject(house, fp("bert"), NOW)
    with pytest.raises(Denied):
        add(house, bert, invite(1, not_after=81.0))
    [made] = add(house, bert, invite(1)).invites.values()
    assert (made.expires, made.not_after) == (80.0, 80.0)
    [made] = add(house, bert, invite(1, not_after=60.0)).invites.values()
    assert (made.expires, made.not_after) == (60.0, 60.0)
    for end in (NOW, NOW - 1):
        with pytest.raises(Malformed):
            add(house, bert, invite(1, not_after=end))
        with pytest.raises(Malformed):
            add(house, bert, invite(1, expires=end))
    longer = to.set_user(add(house, bert, invite(1)), None, "bert", not_after=None, rules=RULES)
    assert redeem(longer, 1, "eve", 79.0)[1].end == 80.0


def test_the_creator_and_the_uses_of_an_invite_cannot_be_forged(
    house: State, add: Add, invite: Make, actor: Actor
) -> None:
    lie = invite(1, inviter="anna", uses=2, used=3)
    [made] = add(house, actor("bert"), lie).invites.values()
    assert (made.inviter, made.uses, made.used) == ("bert", 2, 0)
    [made] = add(house, None, lie).invites.values()
    assert made.inviter == ""


def test_invites_are_removed_with_their_creator(
    house: State, add: Add, redeem: Redeem, invite: Make, actor: Actor, fp: Fp
) -> None:
    state = add(house, actor("bert"), invite(1))
    state = add(state, actor("anna"), invite(2, "finn"))
    gone = to.remove_user(state, None, "bert", rules=RULES)
    assert [one.inviter for one in gone.invites.values()] == ["anna"]
    is_refused(redeem, gone, 1, "eve")
    again = to.add_user(gone, None, User("bert", "admin", (Key(fp("bert")),)), rules=RULES)
    is_refused(redeem, again, 1, "eve")  # a new user with the same name does not inherit it
    redeem(gone, 2, "eve")


def test_invites_follow_a_renamed_creator(
    house: State, add: Add, redeem: Redeem, invite: Make, actor: Actor
) -> None:
    state = to.rename(add(house, actor("bert"), invite(1)), None, "bert", "bob", rules=RULES)
    assert [one.inviter for one in state.invites.values()] == ["bob"]
    redeem(state, 1, "eve")
    namesake = to.add_user(state, None, User("bert", "guest"), rules=RULES)
    namesake = to.remove_user(namesake, None, "bert", rules=RULES)
    redeem(namesake, 1, "eve")
    is_refused(redeem, to.remove_user(state, None, "bob", rules=RULES), 1, "eve")


def test_a_demoted_creator_loses_the_invites_above_its_rank(
    house: State, add: Add, redeem: Redeem, invite: Make, actor: Actor
) -> None:
    bert = actor("bert")
    state = house
    for number, (name, role) in enumerate(
        (("eve", "admin"), ("finn", "user"), ("gina", "guest")), 1
    ):
        state = add(state, bert, invite(number, name, role))
    fallen = to.set_user(state, None, "bert", role="user", rules=RULES)
    assert sorted(one.role for one in fallen.invites.values()) == ["guest", "user"]
    raised = to.set_user(fallen, None, "bert", role="admin", rules=RULES)
    is_refused(redeem, raised, 1, "eve")  # a removed invite stays removed
    redeem(raised, 2, "eve")
    limited = to.set_user(state, None, "bert", not_after=200.0, rules=RULES)
    assert not limited.invites


def test_an_invite_of_an_inactive_or_less_privileged_creator_is_refused(
    house: State, add: Add, redeem: Redeem, invite: Make, actor: Actor, fp: Fp
) -> None:
    state = add(house, actor("bert"), invite(1, "eve", "user", not_after=90.0))
    late = to.set_user(state, None, "bert", not_before=70.0, rules=RULES)
    assert "no access now" in is_refused(redeem, late, 1, "eve", 60.0)
    assert "no access now" not in str(redeem(late, 1, "eve", 70.0))
    for roles in (
        {**RULES.roles, "admin": replace(RULES.roles["admin"], rank=5)},
        {name: role for name, role in RULES.roles.items() if name != "admin"},
        {name: role for name, role in RULES.roles.items() if name != "user"},
    ):  # the configuration changed meanwhile
        with pytest.raises(InviteRefused, match="may no longer grant"):
            to.redeem(state, f"{1:032x}", fingerprint=fp("eve"), now=NOW, rules=Rules(roles))


def test_an_invite_by_a_user_who_lost_the_right_is_denied(
    house: State, add: Add, invite: Make, actor: Actor
) -> None:
    bert = actor("bert")
    for state in (
        to.set_user(house, None, "bert", role="guest", rules=RULES),
        to.remove_user(house, None, "bert", rules=RULES),
    ):
        with pytest.raises(Denied):
            add(state, bert, invite(1, "eve", "user"))


# -------------------------------------------------------------------------- withdrawal, limits


def test_only_invites_up_to_the_rank_of_the_actor_can_be_withdrawn(
    house: State, add: Add, redeem: Redeem, invite: Make, actor: Actor
) -> None:
    state = add(house, actor("anna"), invite(1, "eve", "owner"))
    state = add(state, actor("anna"), invite(2, "finn"))
    for by in ("bert", "nobody"):
        with pytest.raises(Denied):
            to.remove_invite(state, actor(by), f"{1:032x}", rules=RULES)
    with pytest.raises(NotFound):
        to.remove_invite(state, None, f"{3:032x}", rules=RULES)
    state = to.remove_invite(state, actor("bert"), f"{2:032x}", rules=RULES)
    state = to.remove_invite(state, None, f"{1:032x}", rules=RULES)
    assert not state.invites
    is_refused(redeem, state, 1, "eve")
    with pytest.raises(NotFound):
        to.remove_invite(state, None, f"{1:032x}", rules=RULES)


def test_an_expired_invite_makes_room_for_a_new_one(house: State, invite: Make) -> None:
    two = Rules(RULES.roles, IamLimits(invites=2))
    state = to.add_invite(house, None, invite(1, expires=60.0), now=NOW, rules=two)
    state = to.add_invite(state, None, invite(2, expires=70.0), now=NOW, rules=two)
    with pytest.raises(LimitReached) as caught:
        to.add_invite(state, None, invite(3), now=59.9, rules=two)
    assert caught.value.advice
    state = to.add_invite(state, None, invite(3), now=60.0, rules=two)
    assert {one.expires for one in state.invites.values()} == {70.0, 100.0}


def test_the_id_of_an_invite_is_used_once(house: State, add: Add, invite: Make) -> None:
    state = add(house, None, invite(1))
    with pytest.raises(Malformed):
        add(state, None, invite(1, "finn"))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "AB" * 16},
        {"id": "ab" * 16 + "\n"},
        {"name": ""},
        {"name": "n" * 65},
        {"role": ""},
        {"inviter": "\ud800"},
        {"expires": float("inf")},
        {"not_after": float("nan")},
        {"uses": 0},
        {"uses": INVITE_USES_MAX + 1},
        {"used": -1},
        {"used": INVITE_USES_MAX},
        {"key": "AB" * 32},
    ],
)
def test_an_invalid_invite_is_refused(fields: dict[str, object]) -> None:
    wished = {"id": "0" * 32, "name": "eve", "role": "guest", "expires": 1.0, **fields}
    with pytest.raises(Malformed):
        Invite(**wished)  # type: ignore[arg-type]


def test_a_state_with_invites_of_an_unknown_creator_is_refused(house: State, invite: Make) -> None:
    with pytest.raises(Malformed):
        State.of(house.users.values(), [invite(1, inviter="zoe")])
    with pytest.raises(Malformed):
        State.of(house.users.values(), [invite(1), invite(1, "finn")])
    with pytest.raises(Malformed):
        Key("a" * 64, invite="no id")


def test_every_refusal_has_advice_and_a_reason(
    house: State, add: Add, invite: Make, fp: Fp
) -> None:
    state = add(house, None, invite(1, key=fp("eve")))
    full = Rules(RULES.roles, IamLimits(invites=1))
    for change in (
        partial(to.remove_invite, state, None, "f" * 32, rules=RULES),
        partial(to.add_invite, state, None, invite(2), now=NOW, rules=full),
        partial(to.redeem, state, "f" * 32, fingerprint=fp(1), now=NOW, rules=RULES),
        partial(to.redeem, state, f"{1:032x}", fingerprint=fp(1), now=NOW, rules=RULES),
    ):
        with pytest.raises(IamError) as caught:
            change()
        assert caught.value.advice
        assert caught.value.reason in {"not-found", "limit", "invite"}
