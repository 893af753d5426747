"""Names of users over CoAP, the console and a restart: valid names are kept, cases are one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_app.access.bodies import KeyRequest, UserPatch, UserRequest
from device_app.console.console import Console
from device_app.console.offline import OfflineConsole, init
from device_app.settings.paths import Paths
from iam.errors import NameTaken
from iam.model import Key, State, User
from iam.restored_rows import state_of
from iam.rights import rows_of
from iam.store import Store
from peer.errors import Malformed
from peer.pairing.names import check_name
from tests.kit.invites import invited, redeemed
from tests.kit.lamps import policy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Caller, Device, Kit

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


# -- one name, whatever its case ------------------------------------------------------------------


async def test_a_request_finds_a_user_by_another_case_of_the_name(
    owner: Caller, device: Device
) -> None:
    made = await owner.ask("POST", "/iam/users", {"name": "Jürgen", "role": "user"})
    assert made.code == "2.01"
    taken = await owner.ask("POST", "/iam/users", {"name": "JÜRGEN", "role": "user"})
    assert (taken.code, taken.reason) == ("4.09", "taken")
    found = await owner.ask("GET", "/iam/users/jürgen")
    assert (found.code, found.body["name"]) == ("2.05", "Jürgen")
    changed = await owner.ask("iPATCH", "/iam/users/JÜRGEN", {"role": "admin"})
    assert (changed.code, changed.body["name"]) == ("2.04", "Jürgen")
    key = await owner.ask("PUT", f"/iam/users/jürgen/keys/{'ab' * 32}", {"name": "laptop"})
    assert (key.code, key.body["name"]) == ("2.04", "Jürgen")
    assert (await owner.ask("DELETE", f"/iam/users/jüRGEN/keys/{'ab' * 32}")).code == "2.02"
    assert (await owner.ask("DELETE", "/iam/users/jürgen")).code == "2.02"
    named = [one.event.user for one in device.app.access.store.audit.iterate()]
    assert {name for name in named if name.casefold() == "jürgen"} == {"Jürgen"}


async def test_a_rule_about_a_user_holds_for_every_case_of_the_name(kit: Kit) -> None:
    rule = policy(
        "helper",
        "Allow Iam:GetUser, Iam:SetUser, Iam:RemoveUser, Iam:Check, Iam:CreateInvite, Iam:AddKey",
        "Deny Iam:GetUser, Iam:SetUser, Iam:RemoveUser, Iam:CreateInvite, Iam:AddKey"
        " if StringEquals IAM:Username vera",
    )
    kit.policy(rule)
    device = await kit.device()
    await kit.paired(device, "olga", role="owner")
    device.app.access.registry.add_user(None, User("vera", "guest"))
    helper = kit.known(device, "hans", "helper")
    for name in ("vera", "VERA", "Vera"):
        for answer in (
            await helper.ask("GET", f"/iam/users/{name}"),
            await helper.ask("iPATCH", f"/iam/users/{name}", {"display": "x"}),
            await helper.ask("PUT", f"/iam/users/{name}/keys/{'cd' * 32}", {}),
            await helper.ask("DELETE", f"/iam/users/{name}"),
            await helper.ask("GET", f"/iam/check?action=Hello:Get&user={name}"),
            await helper.ask("POST", "/iam/invites", {"name": name, "role": "guest"}),
        ):
            assert (answer.code, answer.reason) == ("4.03", "denied")
    assert device.users.user("vera") == User("vera", "guest")


async def test_no_one_pairs_as_another_case_of_a_users_name(kit: Kit, device: Device) -> None:
    await kit.paired(device, "anna", role="owner")
    await device.open(role="guest")
    imitator = kit.caller(device)
    for name in ("Anna", "ANNA", "aNNa"):
        refused = await imitator.start(name)
        assert (refused.code, refused.reason) == ("4.09", "taken")
    assert set(device.users.users) == {"anna"}


async def test_a_key_that_pairs_again_in_another_case_is_known(kit: Kit, device: Device) -> None:
    anna = await kit.paired(device, "anna", role="owner")
    await device.open(role="guest")
    known = await anna.start("Anna")
    assert (known.code, known.body["user"]) == ("2.04", "anna")


async def test_pairing_completes_a_user_in_the_stored_spelling(kit: Kit, device: Device) -> None:
    device.app.access.registry.add_user(None, User("mia", "guest"))
    await device.open(role="guest")
    caller = kit.caller(device)
    done = await device.pair(caller, "Mia", role="guest")
    assert (await caller.ask("GET", "/iam/me")).body["user"] == "mia"
    assert done.body["user"] == "mia"


async def test_an_invite_gives_no_name_like_another_users(
    owner: Caller, kit: Kit, device: Device
) -> None:
    made = await owner.ask("POST", "/iam/users", {"name": "anna", "role": "guest", "keys": []})
    assert made.code == "2.01"
    invite = await invited(owner, "Anna", role="guest")
    assert invite["name"] == "anna"
    caller = kit.caller(device)
    answer = await redeemed(caller, invite["token"])
    assert (answer.code, answer.body["user"]) == ("2.04", "anna")
    again = await owner.ask("POST", "/iam/invites", {"name": "ANNA", "role": "guest"})
    assert (again.code, again.reason) == ("4.09", "taken")


def test_the_console_takes_every_case_and_shows_the_stored_spelling(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path, tmp_path)
    init(paths, name="box", force=False)
    console = OfflineConsole(paths, warn=print).run
    request = UserRequest(name="Anna", role="owner", keys=(KeyRequest(fingerprint="ab" * 32),))
    console(Console.users_add, body=request)
    with pytest.raises(NameTaken, match="'anna' differs only in case from that of the user 'Anna'"):
        console(Console.users_add, body=UserRequest(name="anna", role="guest"))
    console(Console.users_add, body=UserRequest(name="bert", role="guest"))
    with pytest.raises(NameTaken, match="Anna"):
        console(Console.users_set, name="bert", body=UserPatch(name="ANNA"))
    assert console(Console.users_show, name="ANNA")["user"]["name"] == "Anna"
    assert console(Console.policy_explain, user="anna", action="Hello:Get")["user"] == "Anna"
    changed = console(Console.users_set, name="BERT", body=UserPatch(role="user"))
    assert (changed["user"]["name"], changed["user"]["role"]) == ("bert", "user")
    console(Console.users_add_key, name="BERT", fingerprint="cd" * 32)
    left = console(Console.users_remove_key, name="Bert", fingerprint="cd" * 32)
    assert (left["user"]["name"], left["user"]["keys"]) == ("bert", [])
    assert console(Console.users_remove, name="Bert") == {"removed": "bert"}
