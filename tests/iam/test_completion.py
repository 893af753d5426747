"""A user without a key gets one by pairing or by an invite of the same name and role."""

from math import inf

import pytest

from iam import Access
from iam import changes as to
from iam.errors import Denied, NameTaken
from iam.model import Invite, Key, State, Subject, User
from iam.rules import Rules

NOW = 1000.0
RULES = Rules(Access().roles)
ANNA_KEY, MIA_KEY, EVE_KEY = "aa" * 32, "bb" * 32, "ee" * 32


def subject(state: State, key: str) -> Subject:
    return Access().subject(state, key, NOW)


def house(*more: User) -> State:
    return State.of([User("anna", "owner", (Key(ANNA_KEY, verified=True),)), *more])


def paired(state: State, actor: Subject | None = None, **how: object) -> State:
    given = {"name": "mia", "role": "user", "fingerprint": MIA_KEY, "method": "code", **how}
    return to.pair_user(state, actor, now=NOW, rules=RULES, **given)  # type: ignore[arg-type]


def invite(**fields: object) -> Invite:
    given = {"id": "0" * 32, "name": "mia", "role": "user", "uses": 1, "expires": NOW + 60}
    return Invite(**{**given, **fields})  # type: ignore[arg-type]


def test_pairing_completes_a_user_and_keeps_what_was_decided() -> None:
    before = User("mia", "user", (), display_name="Mia", not_before=NOW - 1, not_after=NOW + 9)
    mia = paired(house(before)).user("mia")
    assert [key.fingerprint for key in mia.keys] == [MIA_KEY]
    assert (mia.display_name, mia.not_before, mia.not_after) == ("Mia", NOW - 1, NOW + 9)
    assert mia.role == "user"


def test_the_access_ends_at_the_earlier_of_both_ends() -> None:
    early = paired(house(User("mia", "user", (), not_after=NOW + 9)), not_after=NOW + 5)
    late = paired(house(User("mia", "user", (), not_after=NOW + 9)), not_after=NOW + 50)
    unlimited = paired(house(User("mia", "user")))
    assert early.user("mia").not_after == NOW + 5
    assert late.user("mia").not_after == NOW + 9
    assert unlimited.user("mia").end == inf


@pytest.mark.parametrize("role", ["guest", "admin", "owner"])
def test_pairing_with_another_role_is_refused(role: str) -> None:
    """A client in a guest's window cannot take the role of an owner without a key."""
    with pytest.raises(NameTaken, match="has no key yet"):
        paired(house(User("mia", role)))


def test_a_user_with_a_key_is_never_completed() -> None:
    state = house(User("mia", "user", (Key(EVE_KEY),)))
    with pytest.raises(NameTaken):
        paired(state)
    with pytest.raises(NameTaken):
        to.add_invite(state, subject(state, ANNA_KEY), invite(), now=NOW, rules=RULES)


def test_an_opener_completes_no_user_beyond_its_own_rights() -> None:
    state = house(User("leo", "user", (Key(EVE_KEY, verified=True),)), User("mia", "admin"))
    leo = subject(state, EVE_KEY)
    with pytest.raises(Denied):
        paired(state, leo, role="admin")


def test_an_invite_completes_a_user() -> None:
    state = house(User("mia", "user"))
    state = to.add_invite(state, subject(state, ANNA_KEY), invite(), now=NOW, rules=RULES)
    after, mia = to.redeem(state, "0" * 32, fingerprint=MIA_KEY, now=NOW, rules=RULES)
    assert mia == after.user("mia")
    assert [key.fingerprint for key in mia.keys] == [MIA_KEY]
    assert not after.invites
    again, same = to.redeem(after, "0" * 32, fingerprint=MIA_KEY, now=NOW, rules=RULES)
    assert (again, same) == (after, mia)


def test_an_invite_with_another_role_is_refused_when_it_is_created() -> None:
    with pytest.raises(NameTaken, match="has no key yet"):
        to.add_invite(house(User("mia", "owner")), None, invite(), now=NOW, rules=RULES)


def test_a_user_whose_role_changed_since_is_not_completed_by_an_old_invite() -> None:
    state = house(User("mia", "user"))
    state = to.add_invite(state, subject(state, ANNA_KEY), invite(), now=NOW, rules=RULES)
    raised = to.set_user(state, subject(state, ANNA_KEY), "mia", role="owner", rules=RULES)
    with pytest.raises(NameTaken):
        to.redeem(raised, "0" * 32, fingerprint=MIA_KEY, now=NOW, rules=RULES)


def test_a_shared_invite_takes_free_names_only() -> None:
    state = house(User("mia", "user"))
    state = to.add_invite(state, subject(state, ANNA_KEY), invite(uses=2), now=NOW, rules=RULES)
    _, second = to.redeem(state, "0" * 32, fingerprint=MIA_KEY, now=NOW, rules=RULES)
    assert second.name == "mia-2"
