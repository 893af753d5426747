"""Users and keys in /iam/users, end of access, and revocation during observations (protocol §6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from device_app.access.bodies import UserPatch
from device_app.access.clock import SystemClocks
from iam.limits import IamLimits
from peer.errors import ObservationEnded
from peer.limits import DEFAULT_LIMITS
from tests.kit.waiting import until

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

KEY = "ab" * 32


async def until_ended(caller: Caller, observing: asyncio.Event) -> None:
    """Observe until the device ends the session, or refuses a notification that was due first."""
    try:
        async for answer in caller.observe("/board"):
            if answer.code != "2.05":
                assert answer.reason == "not-paired"
                return
            observing.set()
    except ObservationEnded:
        return
    pytest.fail("the observation ended without a reason")


async def start_observing(caller: Caller) -> asyncio.Task[None]:
    observing = asyncio.Event()
    task = asyncio.create_task(until_ended(caller, observing))
    await asyncio.wait_for(observing.wait(), 60)
    return task


async def test_a_user_is_added_changed_renamed_and_removed(owner: Caller) -> None:
    body = {"name": "anna", "role": "user", "display": "Anna", "keys": [{"fingerprint": KEY}]}
    made = await owner.ask("POST", "/iam/users", body)
    assert made.code == "2.01"
    assert made.message.opt.location_path == ("iam", "users", "anna")
    assert made.body["keys"][0]["fingerprint"] == KEY

    changed = await owner.ask("iPATCH", "/iam/users/anna", {"role": "admin", "name": "annie"})
    assert (changed.code, changed.body["role"]) == ("2.04", "admin")
    assert (await owner.ask("GET", "/iam/users/anna")).code == "4.04"
    by_post = await owner.ask("POST", "/iam/users/annie", {"display": "A."})
    assert (by_post.code, by_post.body["display"]) == ("2.04", "A.")

    assert (await owner.ask("DELETE", "/iam/users/annie")).code == "2.02"
    assert (await owner.ask("DELETE", "/iam/users/annie")).code == "4.04"


@pytest.mark.parametrize("spelling", [KEY.upper(), " ".join([KEY[:4]] * 16), ":".join(["AB"] * 32)])
async def test_each_notation_of_a_fingerprint_names_the_same_key(
    owner: Caller, spelling: str
) -> None:
    await owner.ask("POST", "/iam/users", {"name": "anna", "role": "user"})
    put = await owner.ask("PUT", f"/iam/users/anna/keys/{spelling}", {"name": "laptop"})
    assert (put.code, put.body["keys"][0]["fingerprint"]) == ("2.04", KEY)
    again = await owner.ask("PUT", f"/iam/users/anna/keys/{KEY}", {"name": "phone"})
    assert [key["name"] for key in again.body["keys"]] == ["phone"]
    gone = await owner.ask("DELETE", f"/iam/users/anna/keys/{spelling}")
    assert gone.code == "2.02"
    assert (await owner.ask("DELETE", f"/iam/users/anna/keys/{KEY}")).code == "4.04"


async def test_invalid_keys_and_keys_of_other_users_are_refused(owner: Caller) -> None:
    await owner.ask("POST", "/iam/users", {"name": "anna", "role": "user"})
    for wrong in (KEY[:-1], KEY + "ab", "zz" * 32):
        assert (await owner.ask("PUT", f"/iam/users/anna/keys/{wrong}")).code == "4.00"
    taken = await owner.ask("PUT", f"/iam/users/anna/keys/{owner.fingerprint}")
    assert (taken.code, taken.reason) == ("4.09", "taken")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "anna"}, "4.00"),
        ({"role": "user"}, "4.00"),
        ({"name": "a  b", "role": "user"}, "4.00"),
        ({"name": "anna", "role": "king"}, "4.04"),
        ({"name": "anna", "role": "unpaired"}, "4.04"),
        ({"name": "anna", "role": 7}, "4.00"),
        ({"name": "anna", "role": "user", "keys": {}}, "4.00"),
        ({"name": "anna", "role": "user", "keys": [7]}, "4.00"),
        ({"name": "anna", "role": "user", "keys": [KEY, KEY]}, "4.09"),
        ({"name": "anna", "role": "user", "crown": True}, "4.00"),
        ({"name": "anna", "role": "user", "not_after": "soon"}, "4.00"),
        ({"name": "anna", "role": "user", "not_before": 5, "not_after": 4}, "4.00"),
        ({"name": "anna", "role": "user", "display": "a\u202eb"}, "4.00"),
        ({"name": "olga", "role": "user"}, "4.09"),
        ([], "4.00"),
    ],
)
async def test_an_invalid_request_adds_no_user(
    owner: Caller, device: Device, body: object, code: str
) -> None:
    before = device.app.access.store.state
    assert (await owner.ask("POST", "/iam/users", body)).code == code
    assert device.app.access.store.state is before


async def test_null_removes_a_display_name_or_key_name(owner: Caller) -> None:
    """Null removes a display name or key name, as it removes a limit of time."""
    body = {"name": "anna", "role": "user", "display": None, "not_after": None}
    keys = [{"fingerprint": KEY, "name": None}]
    made = await owner.ask("POST", "/iam/users", {**body, "keys": keys})
    assert (made.code, made.body["keys"][0]["name"]) == ("2.01", "")
    assert "display" not in made.body
    for method in ("PATCH", "iPATCH", "POST"):
        named = await owner.ask(method, "/iam/users/anna", {"display": "Anna"})
        assert named.body["display"] == "Anna"
        cleared = await owner.ask(method, "/iam/users/anna", {"display": None})
        assert (cleared.code, "display" in cleared.body) == ("2.04", False)
    path = f"/iam/users/anna/keys/{KEY}"
    for name, kept in (("phone", "phone"), (None, "")):
        changed = await owner.ask("PUT", path, {"name": name})
        assert changed.body["keys"][0]["name"] == kept


async def test_an_error_in_a_display_name_or_key_name_names_the_field(owner: Caller) -> None:
    refused = await owner.ask("PATCH", "/iam/users/olga", {"display": 7})
    assert (refused.code, refused.text.startswith("display is")) == ("4.00", True)
    refused = await owner.ask("PUT", f"/iam/users/olga/keys/{KEY}", {"name": 7})
    assert (refused.code, refused.text.startswith("name is")) == ("4.00", True)


async def test_two_keys_of_a_user_have_the_same_rights_and_end_separately(
    kit: Kit, device: Device
) -> None:
    first = await kit.paired(device, "olga")
    second = kit.caller(device)
    await first.ask("PUT", f"/iam/users/olga/keys/{second.fingerprint}", {"name": "phone"})
    assert (await second.ask("GET", "/iam/users")).code == "2.05"
    stays = await start_observing(first)
    ends = await start_observing(second)
    device.app.access.registry.remove_key(None, "olga", second.fingerprint)
    await asyncio.sleep(0)  # protocol §6: within a second; here in the next turn of the loop
    left = {session["fingerprint"] for session in device.sessions("regular")}
    assert left == {first.fingerprint}
    await asyncio.wait_for(ends, 60)
    assert (await first.ask("GET", "/hello")).code == "2.05"
    assert not stays.done()
    assert (await second.ask("GET", "/hello")).reason == "not-paired"
    stays.cancel()


async def test_removing_a_user_over_the_network_ends_the_observation(
    kit: Kit, device: Device
) -> None:
    owner = await kit.paired(device, "olga")
    guest = await kit.paired(device, "gustav")
    ends = await start_observing(guest)
    assert (await owner.ask("DELETE", "/iam/users/gustav")).code == "2.02"
    await asyncio.wait_for(ends, 60)
    assert (await guest.ask("GET", "/hello")).reason == "not-paired"
    assert (await owner.ask("GET", "/hello")).code == "2.05"


async def test_a_new_role_ends_sessions_and_applies_immediately(kit: Kit, device: Device) -> None:
    owner = await kit.paired(device, "olga")
    admin = await kit.paired(device, "adam", role="admin")
    assert (await admin.ask("GET", "/iam/users")).code == "2.05"
    ends = await start_observing(admin)
    await owner.ask("iPATCH", "/iam/users/adam", {"role": "guest"})
    await asyncio.wait_for(ends, 60)
    assert (await admin.ask("GET", "/iam/users")).reason == "denied"


async def test_a_user_who_removes_their_own_rights_gets_the_answer(
    kit: Kit, device: Device
) -> None:
    """The session ends after the answer to the request that changed its rights."""
    await kit.paired(device, "olga")
    admin = await kit.paired(device, "adam", role="admin")
    changed = await admin.ask("iPATCH", "/iam/users/adam", {"role": "guest"})
    assert changed.code == "2.04"
    await until(lambda: not admin.connections[False].is_open)  # the answer arrives first
    assert (await admin.ask("GET", "/iam/users")).reason == "denied"
    leaving = await kit.paired(device, "anna", role="admin")
    assert (await leaving.ask("DELETE", "/iam/users/anna")).code == "2.02"
    await until(lambda: not leaving.connections[False].is_open)
    assert (await leaving.ask("GET", "/iam/me")).reason == "not-paired"


async def test_the_last_owner_cannot_be_removed_or_limited(owner: Caller, device: Device) -> None:
    before = device.app.access.store.state
    for method, path, body in (
        ("DELETE", "/iam/users/olga", None),
        ("DELETE", f"/iam/users/olga/keys/{owner.fingerprint}", None),
        ("iPATCH", "/iam/users/olga", {"role": "user"}),
        ("iPATCH", "/iam/users/olga", {"not_after": 4e9}),
    ):
        refused = await owner.ask(method, path, body)
        assert (refused.code, refused.reason) == ("4.09", "last-owner")
    assert device.app.access.store.state is before


async def test_an_admin_can_neither_become_nor_change_an_owner(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga")
    admin = await kit.paired(device, "adam", role="admin")
    before = device.app.access.store.state
    for method, path, body in (
        ("POST", "/iam/users", {"name": "eve", "role": "owner", "keys": [KEY]}),
        ("iPATCH", "/iam/users/adam", {"role": "owner"}),
        ("iPATCH", "/iam/users/olga", {"name": "eve"}),
        ("PUT", f"/iam/users/olga/keys/{KEY}", None),
        ("DELETE", "/iam/users/olga", None),
    ):
        refused = await admin.ask(method, path, body)
        assert (refused.code, refused.reason) == ("4.03", "denied")
    assert device.app.access.store.state is before


async def test_a_long_list_of_users_is_sent_in_several_blocks(owner: Caller) -> None:
    names = [f"user-{number:03}" for number in range(120)]
    for name in names:
        made = await owner.ask("POST", "/iam/users", {"name": name, "role": "guest"})
        assert made.code == "2.01"
    users = await owner.ask("GET", "/iam/users")
    assert len(users.message.payload) > 4000
    assert [user["name"] for user in users.body] == ["olga", *names]


async def test_a_full_device_refuses_new_users_before_it_stores_anything(kit: Kit) -> None:
    device = await kit.device(
        limits=replace(DEFAULT_LIMITS, window_linger_seconds=0.3), iam_limits=IamLimits(users=2)
    )
    owner = await kit.paired(device, "olga")
    await kit.paired(device, "gustav")
    refused = await owner.ask("POST", "/iam/users", {"name": "eve", "role": "guest"})
    assert (refused.code, refused.reason) == ("4.09", "limit")
    await device.open()
    late = kit.caller(device)
    for answer in (await late.start("eve"), await late.pair_ask("POST", "/pair")):
        assert (answer.code, answer.reason) == ("4.09", "limit")
    assert device.app.pairing.budget.failures == 0


async def test_the_end_of_access_ends_the_session_and_all_rights(kit: Kit) -> None:
    wall = [2_000_000_000.0]
    device = await kit.device(clocks=SystemClocks(wall=lambda: wall[0]))
    owner = await kit.paired(device, "olga")
    guest = await kit.paired(device, "gustav")
    stays = await start_observing(owner)
    end = wall[0] + 1000
    device.app.access.registry.set_user(None, "gustav", UserPatch(not_after=end))
    ends = await start_observing(guest)
    wall[0] = end - 0.1
    # Any change makes the device check its users' times again.
    device.app.access.registry.set_user(None, "olga", UserPatch(display_name="Olga"))
    await asyncio.wait_for(ends, 60)
    assert device.app.access.clock.now() >= end
    refused = await guest.ask("GET", "/hello")
    assert (refused.code, refused.reason) == ("4.03", "not-paired")
    assert "ended" in refused.text
    assert device.app.guard.session_priority(guest.identity.fingerprint) == 0
    assert not stays.done()
    stays.cancel()


async def test_a_user_before_the_start_of_access_is_not_paired(
    kit: Kit, device: Device, owner: Caller
) -> None:
    early = kit.caller(device)
    body = {
        "name": "early",
        "role": "user",
        "keys": [early.fingerprint],
        "not_before": device.app.access.clock.now() + 3600,
    }
    assert (await owner.ask("POST", "/iam/users", body)).code == "2.01"
    assert (await early.ask("GET", "/hello")).reason == "not-paired"
