"""Roles and policies decide which users may invite, and which clients may redeem an invite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from peer.identity import Identity
from tests.kit.invites import invited, redeemed

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit


NO_REDEEMING = """
[[policy]]
id = "hello"
[[policy.statement]]
effect = "Allow"
actions = ["Hello:Get"]
[[policy]]
id = "no-redeeming"
[[policy.statement]]
effect = "Deny"
actions = ["Iam:RedeemInvite", "Iam:GetMe"]
[[role]]
id = "lacking"
rank = 5
policies = ["hello"]
[[role]]
id = "denied"
rank = 6
policies = ["core-unpaired", "core-guest", "no-redeeming"]
"""
NO_INVITES = """
[[role]]
id = "unpaired"
policies = []
"""
MIA_ALONE = """
[[policy]]
id = "mia-alone"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:CreateInvite"]
conditions = [{ StringEquals = { "IAM:Username" = ["mia", "mia-2"] } }]
[[policy.statement]]
effect = "Deny"
actions = ["Iam:CreateInvite"]
conditions = [{ StringEquals = { "IAM:Fingerprint" = ["KEY"] } }]
[[role]]
id = "helper"
rank = 15
policies = ["mia-alone"]
"""


async def test_an_admin_cannot_invite_above_their_rank(kit: Kit, device: Device) -> None:
    owner = await kit.paired(device, "olga")
    admin = await kit.paired(device, "adam", role="admin")
    guest = await kit.paired(device, "gustav")
    refused = await admin.ask("POST", "/iam/invites", {"name": "eve", "role": "owner"})
    assert (refused.code, refused.reason) == ("4.03", "denied")
    crown = await invited(owner, "erna", role="owner")
    assert (await admin.ask("DELETE", f"/iam/invites/{crown['id']}")).reason == "denied"
    for method, path in (
        ("GET", "/iam/invites"),
        ("POST", "/iam/invites"),
        ("DELETE", f"/iam/invites/{crown['id']}"),
    ):
        assert (await guest.ask(method, path, {"name": "eve"})).reason == "denied"
        assert (await kit.caller(device).ask(method, path)).reason == "not-paired"
    made = await invited(admin, "eve", role="admin")
    await owner.ask("iPATCH", "/iam/users/adam", {"role": "user"})
    assert (await redeemed(kit.caller(device), made["token"])).reason == "invite"
    assert "eve" not in device.app.access.store.state.users


async def test_an_invite_is_invalid_while_its_creator_may_not_invite(
    kit: Kit, device: Device
) -> None:
    """The invite becomes invalid even for a role that still ranks below the creator's."""
    owner = await kit.paired(device, "olga")
    admin = await kit.paired(device, "adam", role="admin")
    made = await invited(admin, "gina", uses=2)
    assert (await redeemed(kit.caller(device), made["token"])).code == "2.04"
    await owner.ask("iPATCH", "/iam/users/adam", {"role": "user"})
    late = await redeemed(kit.caller(device), made["token"])
    assert (late.code, late.reason) == ("4.03", "invite")
    assert "may not invite 'gina-2' any more" in late.text
    await owner.ask("iPATCH", "/iam/users/adam", {"role": "admin"})
    assert (await redeemed(kit.caller(device), made["token"])).code == "2.04"


async def test_policies_can_depend_on_the_role_of_an_invite(kit: Kit) -> None:
    folder = kit.home / "policy.d"
    folder.mkdir(parents=True)
    (folder / "host.toml").write_text(
        """
        [[policy]]
        id = "invites-guests"
        [[policy.statement]]
        effect = "Allow"
        actions = ["Iam:CreateInvite", "Iam:RemoveInvite"]
        conditions = [{ StringEquals = { "IAM:RoleId" = ["guest"] } }]
        [[role]]
        id = "host"
        rank = 25
        policies = ["core-guest", "invites-guests"]
        """
    )
    device = await kit.device()
    owner = await kit.paired(device, "olga")
    host = await kit.paired(device, "hans", role="host")
    refused = await host.ask("POST", "/iam/invites", {"name": "eve", "role": "user"})
    assert (refused.code, refused.reason) == ("4.03", "denied")
    made = await invited(host, "eve")
    assert made["inviter"] == "hans"
    other = await invited(owner, "fred", role="user")
    assert (await host.ask("DELETE", f"/iam/invites/{other['id']}")).reason == "denied"
    assert (await host.ask("DELETE", f"/iam/invites/{made['id']}")).code == "2.02"
    assert (await host.ask("GET", "/iam/invites")).reason == "denied"
    assert (await owner.ask("DELETE", "/iam/invites")).code == "4.05"
    assert (await owner.ask("DELETE", f"/iam/invites/{other['id']}/x")).code == "4.04"


async def test_removing_a_user_ends_their_invites(kit: Kit, device: Device) -> None:
    owner = await kit.paired(device, "olga")
    admin = await kit.paired(device, "adam", role="admin")
    made = await invited(admin, "eve")
    assert (await owner.ask("DELETE", "/iam/users/adam")).code == "2.02"
    assert (await redeemed(kit.caller(device), made["token"])).reason == "invite"
    assert (await owner.ask("GET", "/iam/invites")).body == []


@pytest.mark.parametrize("role", ["lacking", "denied", "gone"])
async def test_a_repeated_redemption_is_answered_whatever_the_new_role_allows(
    kit: Kit, owner: Caller, device: Device, role: str
) -> None:
    """Otherwise a client that loses the answer would not know that it has been registered."""
    file = kit.policy(NO_REDEEMING.replace("denied", role) if role == "gone" else NO_REDEEMING)
    await device.app.policies.reload()
    made = await invited(owner, role=role)
    anna = kit.caller(device)
    first = await redeemed(anna, made["token"])
    assert (first.code, first.body["role"]) == ("2.04", role)
    if role == "gone":
        file.unlink()
        await device.app.policies.reload()
    await anna.disconnect()
    assert (await anna.ask("GET", "/hello")).code == ("4.03" if role == "gone" else "2.05")
    again = await redeemed(anna, made["token"])
    assert (again.code, again.body) == (first.code, first.body)
    # A key that has a user cannot redeem another invite, and the answer says so.
    other = await redeemed(anna, (await invited(owner, name="bert"))["token"])
    assert (other.code, other.reason) == ("4.09", "taken")
    assert (await anna.ask("GET", "/iam/redeem")).code == "4.05"


async def test_a_policy_can_disable_redeeming_for_unknown_keys_and_users(
    kit: Kit, owner: Caller, device: Device
) -> None:
    made = await invited(owner)
    kit.policy(NO_INVITES)
    await device.app.policies.reload()
    refused = await redeemed(kit.caller(device), made["token"])
    assert (refused.code, refused.reason) == ("4.03", "not-paired")
    refused = await redeemed(owner, made["token"])
    assert (refused.code, refused.reason) == ("4.03", "denied")
    assert "No user has the right Iam:RedeemInvite" in refused.text


async def test_the_policy_is_applied_to_each_user_that_an_invite_adds(
    kit: Kit, owner: Caller, device: Device
) -> None:
    """A user who may only invite mia and mia-2 adds no third one, whatever names are taken."""
    barred = Identity.create()
    kit.policy(MIA_ALONE.replace("KEY", barred.fingerprint.hex))
    await device.app.policies.reload()
    helper = kit.known(device, "hanna", "helper")
    for fields in (
        {"name": "mia", "uses": 3},
        {"name": "mia", "uses": 32},
        {"name": "mia-2", "uses": 2},
        {"name": "mia", "key": barred.fingerprint.hex},
    ):
        refused = await helper.ask("POST", "/iam/invites", fields)
        assert (refused.code, refused.reason) == ("4.03", "denied"), fields
    made = await invited(helper, name="mia", uses=2)
    # When it is redeemed, the next free name is not one that the policy allows.
    assert (await owner.ask("POST", "/iam/users", {"name": "mia", "role": "guest"})).code == "2.01"
    assert (await redeemed(kit.caller(device), made["token"])).body["user"] == "mia-2"
    before = device.app.access.store.state
    third = await redeemed(kit.caller(device), made["token"])
    assert (third.code, third.reason) == ("4.03", "invite")
    assert "'mia-3'" in third.text
    assert device.app.access.store.state is before
    # A key that the policy excludes cannot redeem an invite that is not bound to a key.
    await owner.ask("DELETE", "/iam/users/mia")
    refused = await redeemed(kit.caller(device, barred), made["token"])
    assert (refused.code, refused.reason) == ("4.03", "invite")
    assert (await redeemed(kit.caller(device), made["token"])).body["user"] == "mia"
