"""Names of users in the store: every valid name is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.model import Key, State, User
from iam.restored_rows import state_of
from iam.rights import rows_of
from iam.store import Store
from peer.errors import Malformed
from peer.pairing.names import check_name

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["Anna Maria", "anna-maria_2", "Zoë", "Ἀθηνᾶ", "अनिता शर्मा", "王 芳", "a b c d"]


# -- every valid name can be stored ---------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_user_with_a_valid_name_is_there_after_a_restart(tmp_path: Path, name: str) -> None:
    user = User(check_name(name), "owner", (Key("a" * 64),))
    store = Store.open(tmp_path / "device.db")
    store.commit(State.of([user]))
    store.close()
    store = Store.open(tmp_path / "device.db")
    try:
        assert store.recovery is None
        assert store.state.user_of("a" * 64) == user
    finally:
        store.close()


@given(
    st.text(
        st.one_of(
            st.sampled_from("ab1-_ "), st.characters(categories=("L", "Nd", "Mn", "Mc", "Zs"))
        ),
        min_size=1,
        max_size=20,
    )
)
def test_a_name_is_kept_in_the_store_if_a_user_can_be_given_it(text: str) -> None:
    try:
        name = check_name(text)
    except Malformed:
        return
    state = State.of([User(name, "owner", (Key("a" * 64),))])
    assert state_of(rows_of(state, {})) == state
