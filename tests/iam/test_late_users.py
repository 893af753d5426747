"""Users of a store that was read are made when they are asked for, and are those that it holds."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam import Key, State, Store, User, late_users
from iam.errors import StoreCorrupt
from iam.late_users import FoundUsers, LateUsers
from iam.rights import key_values, user_values

if TYPE_CHECKING:
    from pathlib import Path

USERS = (
    User("anna", "owner", (Key("a" * 64, "laptop", "code", added=1.5, receipt=b"r" * 32),)),
    User("Anna Maria", "guest", (Key("c" * 64, verified=False, added=2.0), Key("b" * 64))),
    User("zoë", "user", (), "Zoë “Z”", 3.0, 4.5, 2.0),
    User("ZOË", "guest", (Key("d" * 64, added=2.0),), created=2.0),
)


def found(users: list[User], keys: list[tuple[Key, str]]) -> State:
    """The state of rows in this order, a block each."""
    collected = FoundUsers()
    for user in users:
        collected.add_users([user_values(user)])
    for key, owner in keys:
        collected.add_keys([key_values(key, owner)])
    return collected.state()


def indexes(state: State) -> tuple[Any, ...]:
    """All that a state tells without its users."""
    return (
        dict(state.user_name_by_key),
        {role: state.count_in(role) for role in state.roles},
        {user.name for user in state.owners()},
        {user.name for user in state.limited_users()},
        dict(state.access_periods()),
        [(name, state.find(name)) for name in ("ANNA", "ANNA maria", "ZOË", "Zoë", "eve")],
        [state.is_free(name) for name in ("ANNA", "zoë", "eve")],
    )


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[User], list[tuple[Key, str]], bool]:
    users = draw(st.permutations(USERS))
    keys = [(key, user.name) for user in USERS for key in user.keys]
    return users, draw(st.permutations(keys)), draw(st.booleans())


@given(orders())
def test_the_order_of_the_rows_does_not_matter(
    order: tuple[list[User], list[tuple[Key, str]], bool],
) -> None:
    users, keys, keys_first = order
    collected = FoundUsers()
    if keys_first:
        collected.add_keys([key_values(*key) for key in keys])
    collected.add_users([user_values(user) for user in users])
    if not keys_first:
        collected.add_keys([key_values(*key) for key in keys])
    state, expected = collected.state(), State.of(USERS)
    assert state == expected
    assert indexes(state) == indexes(expected)


CONTRADICTIONS: dict[str, tuple[list[User], list[tuple[Key, str]]]] = {
    "a name twice": ([User("anna", "user"), User("anna", "owner")], []),
    "a key twice": (
        [User("anna", "user"), User("eve", "owner")],
        [(Key("a" * 64), "anna"), (Key("a" * 64), "eve")],
    ),
    "a key twice at one user": ([User("anna", "user")], [(Key("a" * 64), "anna")] * 2),
    "a key without a user": ([User("anna", "user")], [(Key("a" * 64), "Anna")]),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_rows_that_contradict_each_other_make_no_state(what: str) -> None:
    with pytest.raises(StoreCorrupt):
        found(*CONTRADICTIONS[what])


def test_a_start_makes_no_user_without_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    with closing(Store.open(path)) as store:
        store.commit(State.of([*USERS, *(User(f"u{n}", "guest") for n in range(10))]))
    made = counted(monkeypatch)
    with closing(Store.open(path)) as store:
        assert store.had_owner
        assert len(store.state.users) == 14
        assert made == []
        assert store.state.user_of("d" * 64) == USERS[3]
        assert store.state.user_of("d" * 64) is store.state.users["ZOË"]
        assert made == ["ZOË"]


def test_the_number_of_users_that_are_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    monkeypatch.setattr(late_users, "USERS_MADE_KEPT", 3)
    users = LateUsers({f"u{n}": user_values(User(f"u{n}", "guest")) for n in range(10)})
    for _ in range(2):
        assert [user.name for user in users.values()] == list(users)
    assert len(made) >= 20 - 3  # at most three were kept from the first time
    assert "u10" not in users
    assert users.get("u10") is None


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the users that are made of rows."""
    made: list[str] = []

    def noted(name: str, *fields: Any) -> User:
        made.append(name)
        return User(name, *fields)

    monkeypatch.setattr(late_users, "User", noted)
    return made
