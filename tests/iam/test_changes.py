"""Changes of users, keys and roles: which are allowed and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

import pytest

from iam import Access, IamError, Key, Rules, State, Subject, User, changed_keys
from iam import changes as to
from iam.errors import (
    Denied,
    KeyTaken,
    LastOwner,
    LimitReached,
    Malformed,
    NameTaken,
    NotFound,
)
from iam.limits import IamLimits

Fp = Callable[[object], str]
Pair = Callable[..., State]


@pytest.fixture
def pair(rules: Rules) -> Pair:
    return partial(to.pair_user, role="guest", method="compare", now=5.0, rules=rules)


@pytest.fixture
def actor(access: Access, house: State, fp: Fp) -> Callable[[str], Subject]:
    return lambda name: access.subject(house, fp(name), 0)


def test_the_first_pairing_makes_the_owner_and_the_next_a_guest(pair: Pair, fp: Fp) -> None:
    assert to.default_role(State()) == "owner"
    state = pair(State(), None, fingerprint=fp(1), name="anna", role="owner")
    user = state.users["anna"]
    assert (user.role, user.created, user.keys) == (
        "owner",
        5.0,
        (Key(fp(1), method="compare", added=5.0),),
    )
    assert to.default_role(state) == "guest"


def test_an_owner_with_expired_access_still_counts_as_owner(fp: Fp) -> None:
    """Otherwise the next client that pairs would become the owner."""
    state = State.of([User("anna", "owner", (Key(fp(1)),), not_after=1.0)])
    assert to.default_role(state) == "guest"


def test_pairing_a_key_again_changes_nothing(pair: Pair, house: State, fp: Fp) -> None:
    assert pair(house, None, fingerprint=fp("dora"), name="dora", role="owner") is house
    with pytest.raises(KeyTaken):
        pair(house, None, fingerprint=fp("dora"), name="dolores")
    with pytest.raises(NameTaken):
        pair(house, None, fingerprint=fp("new"), name="dora")


def test_unknown_users_keys_and_roles_are_not_found(
    pair: Pair, house: State, rules: Rules, fp: Fp
) -> None:
    for change in (
        partial(pair, house, None, fingerprint=fp(1), name="eve", role="chief"),
        partial(pair, house, None, fingerprint=fp(1), name="eve", role="unpaired"),
        partial(to.add_user, house, None, User("eve", "chief"), rules=rules),
        partial(to.set_user, house, None, "dora", role="chief", rules=rules),
        partial(to.set_user, house, None, "eve", rules=rules),
        partial(to.rename, house, None, "eve", "dora", rules=rules),
        partial(to.remove_user, house, None, "eve", rules=rules),
        partial(to.add_key, house, None, "eve", Key(fp(1)), rules=rules),
        partial(to.remove_key, house, None, "dora", fp(1), rules=rules),
        partial(to.check_grant, house, None, "chief", rules=rules),
    ):
        with pytest.raises(NotFound):
            change()
    gone = to.remove_user(house, None, "dora", rules=rules)
    with pytest.raises(NotFound):
        to.remove_user(gone, None, "dora", rules=rules)


@pytest.mark.parametrize("wrong", ["", "ab" * 31, "AB" * 32, "zz" * 32, "ab" * 32 + "\n"])
def test_a_key_must_be_64_lowercase_hex_digits(wrong: str) -> None:
    with pytest.raises(Malformed) as caught:
        Key(wrong)
    assert not wrong or wrong not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "n" * 65},
        {"display_name": "\ud800"},
        {"not_after": float("nan")},
        {"keys": (Key("a" * 64, "one"), Key("a" * 64, "two"))},
        {"not_before": 2.0, "not_after": 2.0},
    ],
)
def test_an_invalid_user_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises((Malformed, KeyTaken)):
        User(**{"name": "eve", "role": "guest", **fields})  # type: ignore[arg-type]


def test_the_number_of_users_is_limited(pair: Pair, house: State, rules: Rules, fp: Fp) -> None:
    full = Rules(rules.roles, IamLimits(users=4))
    with pytest.raises(LimitReached):
        pair(house, None, fingerprint=fp(1), name="eve", rules=full)
    with pytest.raises(LimitReached):
        to.add_user(house, None, User("eve", "guest"), rules=full)
    assert to.rename(house, None, "dora", "eve", rules=full).users.keys() == {
        "anna",
        "bert",
        "carl",
        "eve",
    }


def test_the_number_of_keys_of_a_user_is_limited(house: State, rules: Rules, fp: Fp) -> None:
    for number in range(7):
        house = to.add_key(house, None, "dora", Key(fp(number)), rules=rules)
    with pytest.raises(LimitReached):
        to.add_key(house, None, "dora", Key(fp(7)), rules=rules)
    nine = tuple(Key(fp(number)) for number in range(10, 19))
    with pytest.raises(LimitReached):
        to.add_user(house, None, User("eve", "guest", nine), rules=rules)
    fewer = Rules(rules.roles, IamLimits(keys_per_user=2))  # a lower limit removes no existing key
    to.set_user(house, None, "dora", display_name="D", rules=fewer)
    assert len(to.remove_key(house, None, "dora", fp(0), rules=fewer).users["dora"].keys) == 7


def test_a_key_belongs_to_one_user(house: State, rules: Rules, fp: Fp) -> None:
    with pytest.raises(KeyTaken):
        to.add_key(house, None, "dora", Key(fp("carl")), rules=rules)
    with pytest.raises(KeyTaken):
        to.add_user(house, None, User("eve", "guest", (Key(fp("carl")),)), rules=rules)
    with pytest.raises(NameTaken):
        to.rename(house, None, "dora", "carl", rules=rules)
    same = to.add_key(house, None, "dora", Key(fp("dora"), added=9.0), rules=rules)
    assert same is house
    named = to.add_key(house, None, "dora", Key(fp("dora"), "tablet", added=9.0), rules=rules)
    assert named.users["dora"].keys == (Key(fp("dora"), "tablet"),)


@pytest.mark.parametrize(
    "end",
    [
        partial(to.remove_user, name="anna"),
        partial(to.set_user, name="anna", role="admin"),
        partial(to.set_user, name="anna", not_after=9e9),
        partial(to.set_user, name="anna", not_before=1.0),
    ],
)
def test_the_last_owner_cannot_be_removed_or_limited(
    end: Callable[..., State], house: State, rules: Rules
) -> None:
    useless = (
        User("eve", "owner"),
        User("finn", "owner", (Key("f" * 64),), not_after=9e9),
    )
    for (
        other
    ) in useless:  # neither has permanent access with a key, so anna is still the last owner
        house = to.add_user(house, None, other, rules=rules)
    with pytest.raises(LastOwner):
        end(house, None, rules=rules)
    helped = to.add_key(house, None, "eve", Key("e" * 64), rules=rules)
    end(helped, None, rules=rules)


def test_the_last_key_of_the_last_owner_cannot_be_removed(
    house: State, rules: Rules, fp: Fp
) -> None:
    house = to.remove_key(house, None, "anna", fp("anna's phone"), rules=rules)
    with pytest.raises(LastOwner):
        to.remove_key(house, None, "anna", fp("anna"), rules=rules)


def test_changes_above_the_rank_of_the_actor_are_denied(
    house: State, rules: Rules, actor: Callable[[str], Subject], fp: Fp, pair: Pair
) -> None:
    bert = actor("bert")
    for change in (
        partial(to.set_user, house, bert, "bert", role="owner", rules=rules),
        partial(to.set_user, house, bert, "dora", role="owner", rules=rules),
        partial(to.set_user, house, bert, "anna", display_name="A", rules=rules),
        partial(to.set_user, house, bert, "anna", rules=rules),
        partial(to.rename, house, bert, "anna", "eve", rules=rules),
        partial(to.remove_user, house, bert, "anna", rules=rules),
        partial(to.add_key, house, bert, "anna", Key(fp(1)), rules=rules),
        partial(to.remove_key, house, bert, "anna", fp("anna"), rules=rules),
        partial(to.add_user, house, bert, User("eve", "owner"), rules=rules),
        partial(pair, house, bert, fingerprint=fp(1), name="eve", role="owner"),
        partial(to.check_grant, house, bert, "owner", rules=rules),
    ):
        with pytest.raises(Denied):
            change()
    assert to.set_user(house, bert, "dora", role="admin", rules=rules).users["dora"].role == "admin"
    to.check_grant(house, bert, "admin", rules=rules)


def test_a_grant_cannot_outlast_the_access_of_its_grantor(
    house: State, rules: Rules, access: Access, fp: Fp
) -> None:
    house = to.set_user(house, None, "bert", not_after=100.0, rules=rules)
    house = to.add_user(house, None, User("finn", "guest", not_before=90.0), rules=rules)
    bert = access.subject(house, fp("bert"), 50)
    for change in (
        partial(to.set_user, house, bert, "bert", not_after=None, rules=rules),
        partial(to.set_user, house, bert, "finn", not_before=60.0, rules=rules),
        partial(to.add_user, house, bert, User("eve", "guest", not_after=101.0), rules=rules),
        partial(to.add_key, house, bert, "dora", Key(fp(1)), rules=rules),
        partial(to.check_grant, house, bert, "guest", rules=rules),
    ):
        with pytest.raises(Denied):
            change()
    to.add_user(house, bert, User("eve", "guest", not_after=100.0), rules=rules)
    to.check_grant(house, bert, "guest", not_after=99.0, rules=rules)
    to.remove_user(house, bert, "dora", rules=rules)


def test_a_right_lost_since_the_request_is_denied(
    house: State, rules: Rules, actor: Callable[[str], Subject], fp: Fp
) -> None:
    bert = actor("bert")
    demoted = to.set_user(house, None, "bert", role="guest", rules=rules)
    removed = to.remove_user(house, None, "bert", rules=rules)
    for state in (demoted, removed):
        with pytest.raises(Denied):
            to.add_key(state, bert, "carl", Key(fp(1)), rules=rules)
    for unpaired in (Subject(fp(1), None, "owner"), Subject(fp("bert"), None, "owner")):
        with pytest.raises(Denied):
            to.set_user(house, unpaired, "dora", role="user", rules=rules)


def test_only_the_highest_rank_can_replace_an_undefined_role(
    house: State, rules: Rules, actor: Callable[[str], Subject], access: Access, fp: Fp
) -> None:
    lost = State.of([*house.users.values(), User("hugo", "chief", (Key(fp("hugo")),))])
    with pytest.raises(Denied):
        to.set_user(lost, actor("bert"), "hugo", role="guest", rules=rules)
    hugo = access.subject(lost, fp("hugo"), 0)
    with pytest.raises(Denied):
        to.set_user(lost, hugo, "hugo", role="guest", rules=rules)
    mended = to.set_user(lost, actor("anna"), "hugo", role="guest", rules=rules)
    assert mended.users["hugo"].role == "guest"


def test_changed_keys_are_those_whose_sessions_must_end(house: State, rules: Rules, fp: Fp) -> None:
    both = {fp("anna"), fp("anna's phone")}
    more = to.add_user(house, None, User("eve", "owner", (Key(fp("eve")),)), rules=rules)
    for change, due in (
        (partial(to.remove_key, name="anna", fingerprint=fp("anna")), {fp("anna")}),
        (partial(to.remove_user, name="anna"), both),
        (partial(to.set_user, name="anna", role="user"), both),
        (partial(to.set_user, name="anna", not_after=9.0), both),
        (partial(to.set_user, name="anna", display_name="A"), set()),
        (partial(to.rename, name="anna", new_name="ann"), set()),
        (partial(to.add_key, name="anna", key=Key(fp(1))), set()),
    ):
        assert changed_keys(more, change(more, None, rules=rules)) == due


def test_the_access_periods_are_those_of_users_with_a_start_or_an_end(rules: Rules) -> None:
    state = State.of(
        [
            User("a", "guest", not_before=5, not_after=20),
            User("b", "guest"),
            User("c", "guest", not_after=7),
        ]
    )
    assert dict(state.access_periods()) == {"a": (5, 20), "c": (-inf, 7)}
    state = to.set_user(state, None, "a", not_before=None, not_after=None, rules=rules)
    state = to.set_user(state, None, "b", not_before=3, rules=rules)
    state = to.rename(state, None, "c", "d", rules=rules)
    assert dict(state.access_periods()) == {"b": (3, inf), "d": (-inf, 7)}
    assert state.limited_count == 2


def test_every_error_has_advice_and_a_reason(house: State, rules: Rules, fp: Fp) -> None:
    for change in (
        partial(to.remove_user, house, None, "anna", rules=rules),
        partial(to.remove_user, house, None, "eve", rules=rules),
        partial(to.rename, house, None, "dora", "carl", rules=rules),
        partial(to.add_key, house, None, "dora", Key(fp("carl")), rules=rules),
    ):
        with pytest.raises(IamError) as caught:
            change()
        assert caught.value.advice
        assert caught.value.reason in {"last-owner", "not-found", "taken"}
