"""Names of users are compared without case: no user can be taken for another one's spelling."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam import Access, Store
from iam import changes as to
from iam.errors import NameTaken, NotFound
from iam.invites import names_of
from iam.model import Invite, Key, State, User
from iam.rules import Rules
from iam.values import name_key

RULES = Rules(Access().roles)
KEYS = {name: f"{number:064x}" for number, name in enumerate(("anna", "mia", "eve", "ann"))}

# Pairs that differ only in case, of several scripts, and such that only full folding finds.
ALIKE = [
    ("anna", "Anna"),
    ("anna", "ANNA"),
    ("Anna Maria", "anna maria"),
    ("straße", "STRASSE"),
    ("straße", "STRAẞE"),
    ("ſam", "Sam"),
    ("Ωmega", "ωMEGA"),
    ("σοφος", "σοφος".upper()),
    ("σοφοσ", "σοφος"),
    ("ΐx", "Ϊ\u0301X"),
    ("ﬁnn", "FINN"),
    ("ǅina", "ǆINA"),
    ("АННА", "анна"),
    ("ა", "Ა"),
]
DISTINCT = [("anna", "аnna"), ("I", "ı"), ("anna", "ánna"), ("ß", "s"), ("σ", "s")]


def user(name: str, key: str = "anna", role: str = "user") -> User:
    return User(name, role, (Key(KEYS[key]),))


def owned(*users: User) -> State:
    return State.of([User("boss", "owner", (Key("b" * 64),)), *users])


def invite(name: str, **fields: object) -> Invite:
    given = {"id": "0" * 32, "role": "user", "expires": 100.0, **fields}
    return Invite(name=name, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_differ_only_in_case_have_one_key(one: str, other: str) -> None:
    assert name_key(one) == name_key(other) == name_key(unicodedata.normalize("NFD", other))


@pytest.mark.parametrize(("one", "other"), DISTINCT)
def test_names_of_other_letters_have_other_keys(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


def test_the_key_of_a_key_is_itself_for_every_character() -> None:
    for point in range(sys.maxunicode + 1):
        name = f"a{chr(point)}"
        if not 0xD800 <= point <= 0xDFFF:
            assert name_key(name_key(name)) == name_key(name)
            assert name_key(name) == name_key(unicodedata.normalize("NFC", name))


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_no_way_adds_a_name_like_another_users(one: str, other: str) -> None:
    state = owned(user(one), user("mia", "mia"))
    with pytest.raises(NameTaken):
        to.add_user(state, None, user(other, "eve"), rules=RULES)
    with pytest.raises(NameTaken):
        to.rename(state, None, "mia", other, rules=RULES)
    with pytest.raises(NameTaken):
        to.pair_user(
            state,
            None,
            fingerprint=KEYS["eve"],
            name=other,
            role="user",
            method="code",
            now=1.0,
            rules=RULES,
        )
    with pytest.raises(NameTaken):
        to.add_invite(state, None, invite(other), now=1.0, rules=RULES)
    shared = to.add_invite(state, None, invite(other, uses=2), now=1.0, rules=RULES)
    redeemed, new = to.redeem(shared, "0" * 32, fingerprint=KEYS["eve"], now=1.0, rules=RULES)
    assert new.name == f"{other}-2"
    assert redeemed.user(other).name == one


def test_an_invite_that_was_made_before_the_user_gives_no_like_name() -> None:
    state = to.add_invite(owned(), None, invite("Anna"), now=1.0, rules=RULES)
    state = to.add_user(state, None, user("anna"), rules=RULES)
    with pytest.raises(NameTaken):
        to.redeem(state, "0" * 32, fingerprint=KEYS["eve"], now=1.0, rules=RULES)


def test_a_user_can_be_renamed_to_another_case_of_the_name() -> None:
    renamed = to.rename(owned(user("anna")), None, "ANNA", "Anna", rules=RULES)
    assert "Anna" in renamed.users
    assert "anna" not in renamed.users
    assert renamed.user("anna").name == "Anna"
    freed = to.remove_user(renamed, None, "aNNa", rules=RULES)
    assert freed.is_free("anna")
    assert to.add_user(freed, None, user("annA"), rules=RULES).user("anna").name == "annA"


@pytest.mark.parametrize("order", [("anna", "Anna"), ("Anna", "anna")])
def test_a_store_with_both_spellings_keeps_both_usable(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    users = dict(zip(order, (user(order[0], "anna"), user(order[1], "mia")), strict=True))
    store = Store.open(tmp_path / "state.db")
    store.commit(owned(*users.values()))
    store.close()
    store = Store.open(tmp_path / "state.db")
    state = store.state
    store.close()
    for name, one in users.items():
        assert state.user(name) == one
        changed = to.set_user(state, None, name, role="guest", rules=RULES)
        assert changed.user(name).role == "guest"
    with pytest.raises(NotFound):  # it could be either
        state.user("ANNA")
    assert not state.is_free("ANNA")
    with pytest.raises(NameTaken):
        to.rename(state, None, "Anna", "ANNA", rules=RULES)
    left = to.remove_user(state, None, "Anna", rules=RULES)
    assert left.user("ANNA").name == "anna"


def test_an_invite_completes_the_user_in_the_stored_spelling() -> None:
    state = to.add_invite(owned(User("anna", "user")), None, invite("Anna"), now=1.0, rules=RULES)
    assert state.invite("0" * 32).name == "anna"
    state, new = to.redeem(state, "0" * 32, fingerprint=KEYS["eve"], now=1.0, rules=RULES)
    assert (new.name, state.user_of(KEYS["eve"])) == ("anna", new)


def test_policies_are_asked_about_the_stored_spelling_of_an_invited_user() -> None:
    assert names_of(owned(User("anna", "user")), invite("ANNA")) == ("anna",)
    assert names_of(owned(), invite("ANNA")) == ("ANNA",)


def test_a_pairing_repeated_in_another_case_changes_nothing() -> None:
    state = owned(user("anna"))
    again = to.pair_user(
        state,
        None,
        fingerprint=KEYS["anna"],
        name="Anna",
        role="user",
        method="code",
        now=1.0,
        rules=RULES,
    )
    assert again is state


@given(st.lists(st.tuples(st.sampled_from("aAsSßſ ıIσςΣ"), st.booleans()), max_size=12))
def test_names_stay_unlike_whatever_is_added_and_removed(steps: list[tuple[str, bool]]) -> None:
    state = owned()
    for letter, adds in steps:
        name = f"x{letter}y"
        if adds:
            is_free = state.is_free(name)
            assert is_free == all(name_key(name) != name_key(known) for known in state.users)
            try:
                state = to.add_user(state, None, User(name, "user"), rules=RULES)
                assert is_free
            except NameTaken:
                assert not is_free
        elif (found := state.find(name)) is not None:
            assert name_key(found.name) == name_key(name)
            state = to.remove_user(state, None, name, rules=RULES)
            assert state.is_free(name)
    assert state == State.of(state.users.values())
    assert len({name_key(name) for name in state.users}) == len(state.users)
