"""Attributes of a policy decision: those of the connection, the target and the resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from device_app.access.explaining import policy_explanation
from device_app.errors import ModuleError
from device_app.modules import spec_checks
from device_app.resource_spec import ResourceSpec
from device_app.terminal.render_policy import explain_lines
from iam.model import Key
from tests.kit.lamps import HALL, Lamp, policy, start_lamp_device

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

NEW = "5a" * 32


pytestmark = pytest.mark.usefixtures("clean_imports")


# ------------------------------------------------------------------------------ the connection


@pytest.mark.parametrize(
    ("condition", "loopback", "allowed"),
    [
        ("Bool Connection:IsLocal true", True, True),
        ("Bool Connection:IsLocal true", False, False),
        ("Bool Connection:IsLocal false", False, True),
        ("IpAddress Connection:Address 127.0.0.0/8", True, True),
        ("IpAddress Connection:Address 192.0.2.0/24", True, False),
        ("NotIpAddress Connection:Address 192.0.2.0/24", True, True),
        ("StringEquals Connection:Interface lo", True, True),
        ("StringEquals Connection:Interface eth7", True, False),
        ("StringEquals Connection:Username vera", True, True),
        ("StringEquals Connection:RoleId visitor", True, True),
        ("StringEquals Connection:Method given", True, True),
        ("Bool Connection:Verified false", True, False),
        ("DateGreaterThan Clock:Now 2026-01-01T00:00:00Z", True, True),
        ("StringEquals IAM:Username vera", True, False),
    ],
)
async def test_a_condition_on_the_connection_decides_the_request(
    kit: Kit, condition: str, *, loopback: bool, allowed: bool
) -> None:
    kit.policy(policy("visitor", f"Allow Hello:Get if {condition}"))
    device = await kit.device(allow_loopback=loopback)
    caller = kit.known(device, "vera", "visitor")
    assert ((await caller.ask("GET", "/hello")).code == "2.05") is allowed


async def test_a_deny_for_local_clients_can_be_evaded_and_causes_a_warning(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client on the same link evades the condition with an ordinary hop limit."""
    kit.policy(
        policy("visitor", "Allow Hello:Get", "Deny Hello:Get if Bool Connection:IsLocal true")
    )
    device = await kit.device()
    near = kit.known(device, "vera", "visitor")
    assert (await near.ask("GET", "/hello")).reason == "denied"
    monkeypatch.setattr("peer.net.linux_socket.HOP_LIMIT", 64)
    evader = kit.caller(device, near.identity)
    assert (await evader.ask("GET", "/hello")).code == "2.05"
    [warning] = device.app.policies.current.warnings
    assert "Bool Connection:IsLocal: a neighbour evades this by sending another hop" in warning
    assert warning in caplog.messages


async def test_me_and_check_report_conditional_actions(kit: Kit) -> None:
    kit.policy(
        policy(
            "visitor",
            "Allow Iam:GetMe, Iam:Check",
            "Allow Hello:Get if Bool Connection:IsLocal true",
            "Allow Iam:GetUser if StringEquals IAM:RoleId guest",
        )
    )
    device = await kit.device(allow_loopback=False)
    kit.known(device, "olga", "owner")
    kit.known(device, "gustav", "guest")
    caller = kit.known(device, "vera", "visitor")
    me = (await caller.ask("GET", "/iam/me")).body
    assert (me["path"], me["actions"]) == ("remote", ["Iam:Check", "Iam:GetMe"])
    assert me["conditional"] == ["Hello:Get", "Iam:GetUser"]
    check = (await caller.ask("GET", "/iam/check?action=Hello:Get")).body
    assert (check["action"], check["allowed"]) == ("Hello:Get", False)
    assert "network" in check["missing"]
    lacking = (await caller.ask("GET", "/iam/check?action=Iam:AddUser")).body
    assert lacking["missing"] == "You lack the right Iam:AddUser."
    assert (await caller.ask("GET", "/iam/check?action=Iam:GetMe")).body == {
        "action": "Iam:GetMe",
        "allowed": True,
    }
    other = await caller.ask("GET", "/iam/check?action=Hello:Get&user=gustav")
    assert other.body["allowed"] is True
    assert "core-guest" in other.body["reason"]
    hidden = await caller.ask("GET", "/iam/check?action=Hello:Get&user=olga")
    absent = await caller.ask("GET", "/iam/check?action=Hello:Get&user=nobody")
    assert (hidden.code, hidden.body) == (absent.code, absent.body)
    assert hidden.reason == "denied"
    owner = kit.caller(device)
    device.app.access.registry.add_key(None, "olga", Key(owner.fingerprint, added=1.0))
    unknown = await owner.ask("GET", "/iam/check?action=Hello:Get&user=nobody")
    assert unknown.code == "4.04"
    for wrong in ("", "?action=x", "?action=Hello:*", "?user=olga", "?action=A:B&colour=red"):
        assert (await owner.ask("GET", f"/iam/check{wrong}")).code == "4.00", wrong
    assert (await kit.caller(device).ask("GET", "/iam/check?action=A:B")).reason == "not-paired"


# ---------------------------------------------------------------------------------- the target

GUESTS = policy(
    "helper",
    "Allow Iam:AddUser, Iam:GetUser, Iam:SetUser, Iam:RemoveUser, Iam:AddKey, Iam:RemoveKey "
    "if StringEquals IAM:RoleId guest",
)
ALL_BUT_OWNERS = policy(
    "helper",
    "Allow Iam:GetUser, Iam:SetUser, Iam:RemoveUser, Iam:AddKey, Iam:RemoveKey",
    "Deny Iam:GetUser, Iam:SetUser, Iam:RemoveUser, Iam:AddKey, Iam:RemoveKey "
    "if StringEquals IAM:RoleId owner",
)
ON_A_USER: list[tuple[str, str, object]] = [
    ("GET", "/iam/users/{}", None),
    ("iPATCH", "/iam/users/{}", {"display": "x"}),
    ("PATCH", "/iam/users/{}", {"display": "x"}),
    ("POST", "/iam/users/{}", {"display": "x"}),
    ("DELETE", "/iam/users/{}", None),
    ("PUT", f"/iam/users/{{}}/keys/{NEW}", None),
    ("DELETE", f"/iam/users/{{}}/keys/{NEW}", None),
]


@pytest.mark.parametrize("text", [GUESTS, ALL_BUT_OWNERS], ids=["allow", "deny"])
async def test_a_denial_does_not_reveal_whether_a_user_exists(kit: Kit, text: str) -> None:
    kit.policy(text)
    device = await kit.device()
    kit.known(device, "olga", "owner")
    helper = kit.known(device, "heidi", "helper")
    before = device.app.access.store.state
    for method, path, body in ON_A_USER:
        there = await helper.ask(method, path.format("olga"), body)
        absent = await helper.ask(method, path.format("olaf"), body)
        assert (there.code, there.body) == (absent.code, absent.body), (method, path)
        assert there.reason == "denied"
    assert device.app.access.store.state is before


async def test_an_owner_gets_not_found_for_a_missing_user(device: Device, owner: Caller) -> None:
    assert device.app.access.store.state.users
    for method, path, body in ON_A_USER:
        assert (await owner.ask(method, path.format("olaf"), body)).code == "4.04", (method, path)


async def test_the_target_in_a_body_is_part_of_the_decision(kit: Kit) -> None:
    kit.policy(GUESTS)
    device = await kit.device()
    kit.known(device, "olga", "owner")
    helper = kit.known(device, "heidi", "helper")
    kit.known(device, "gustav", "guest")
    peer = kit.known(device, "hans", "helper")
    before = device.app.access.store.state
    for method, path, body in (
        ("POST", "/iam/users", {"name": "eve", "role": "helper"}),
        ("POST", "/iam/users", {"name": "eve", "role": "unpaired"}),
        ("POST", "/iam/users", {"name": "eve", "role": "nonsense"}),
        ("iPATCH", "/iam/users/gustav", {"role": "helper"}),
        ("iPATCH", "/iam/users/gustav", {"role": "user"}),
        ("iPATCH", "/iam/users/hans", {"role": "guest"}),
        ("iPATCH", "/iam/users/heidi", {"role": "guest"}),
        ("PUT", f"/iam/users/hans/keys/{NEW}", None),
        ("DELETE", f"/iam/users/hans/keys/{peer.fingerprint}", None),
    ):
        refused = await helper.ask(method, path, body)
        assert (refused.code, refused.reason) == ("4.03", "denied"), (method, path, body)
    assert device.app.access.store.state is before
    made = await helper.ask("POST", "/iam/users", {"name": "eve", "role": "guest", "keys": [NEW]})
    assert made.code == "2.01"
    assert (await helper.ask("iPATCH", "/iam/users/eve", {"name": "eva"})).code == "2.04"
    assert (await helper.ask("DELETE", "/iam/users/eva")).code == "2.02"


async def test_a_body_is_not_parsed_if_no_target_would_be_allowed(kit: Kit, device: Device) -> None:
    kit.known(device, "olga", "owner")
    guest = kit.known(device, "gustav", "guest")
    for method, path in (
        ("POST", "/iam/users"),
        ("POST", "/iam/invites"),
        ("POST", "/iam/window"),
        ("iPATCH", "/iam/users/olga"),
    ):
        broken = await guest.ask(method, path, raw=b"\xff not CBOR", ct=60)
        assert (broken.code, broken.reason) == ("4.03", "denied"), path


async def test_conditions_on_names_and_fingerprints_of_the_target_apply(kit: Kit) -> None:
    kit.policy(
        policy(
            "clerk",
            "Allow Iam:AddUser, Iam:SetUser, Iam:GetUser if StringLike IAM:Username guest-*",
            f"Deny Iam:AddUser, Iam:AddKey if StringEquals IAM:Fingerprint {NEW}",
            "Allow Iam:AddKey",
        )
    )
    device = await kit.device()
    clerk = kit.known(device, "cleo", "clerk")
    other = "6b" * 32
    new_user = {"name": "guest-1", "role": "guest"}
    assert (
        await clerk.ask("POST", "/iam/users", {**new_user, "keys": [other, NEW]})
    ).code == "4.03"
    assert (await clerk.ask("POST", "/iam/users", {**new_user, "name": "olga"})).code == "4.03"
    assert (await clerk.ask("POST", "/iam/users", {**new_user, "keys": [other]})).code == "2.01"
    assert (await clerk.ask("iPATCH", "/iam/users/guest-1", {"name": "olga"})).code == "4.03"
    assert (await clerk.ask("iPATCH", "/iam/users/guest-1", {"name": "guest-2"})).code == "2.04"
    for spelled in (NEW, NEW.upper(), ":".join([NEW[:2]] * 32)):
        refused = await clerk.ask("PUT", f"/iam/users/guest-2/keys/{spelled}")
        assert refused.reason == "denied", spelled
    assert (await clerk.ask("PUT", f"/iam/users/guest-2/keys/{'7c' * 32}")).code == "2.04"
    assert (await clerk.ask("PUT", "/iam/users/guest-2/keys/zz")).code == "4.00"


EXCEPT_THE_CELLAR = ("Allow Lamp:Read", "Deny Lamp:Read if StringEquals Lamp:Room cellar")


@pytest.mark.parametrize("statements", [(HALL,), EXCEPT_THE_CELLAR])
async def test_check_does_not_report_allowed_if_it_depends_on_the_resource(
    kit: Kit, statements: tuple[str, ...]
) -> None:
    device, lamp, caller = await start_lamp_device(
        kit,
        *statements,
        "Allow Iam:GetMe, Iam:Check, Iam:RemoveUser",
        "Deny Iam:RemoveUser if StringEquals IAM:Username olga",
    )
    owner = kit.known(device, "olga", "owner")
    for room, code in (("hall", "2.05"), ("cellar", "4.03")):
        lamp.values = {"Lamp:Room": room}
        assert (await caller.ask("GET", "/lamp")).code == code
    depends = {"action": "Lamp:Read", "allowed": False, "depends": ["Lamp:Room"]}
    check = (await caller.ask("GET", "/iam/check?action=Lamp:Read")).body
    assert check == depends | {
        "missing": "It depends on Lamp:Room, which is known only with the request."
    }
    other = (await owner.ask("GET", "/iam/check?action=Lamp:Read&user=nora")).body
    assert other == depends | {"reason": "role 'neighbour': it depends on Lamp:Room"}
    target = (await caller.ask("GET", "/iam/check?action=Iam:RemoveUser")).body
    assert (target["allowed"], target["depends"]) == (False, ["IAM:Username"])
    me = (await caller.ask("GET", "/iam/me")).body
    assert (me["actions"], me["conditional"]) == (
        ["Iam:Check", "Iam:GetMe"],
        ["Iam:RemoveUser", "Lamp:Read"],
    )
    sure = (await owner.ask("GET", "/iam/check?action=Lamp:Read")).body
    assert sure == {"action": "Lamp:Read", "allowed": True}


async def test_explain_reports_the_attributes_that_the_decision_depends_on(kit: Kit) -> None:
    device, _, _ = await start_lamp_device(kit, *EXCEPT_THE_CELLAR)
    authority = device.app.access.authority
    view = policy_explanation(authority, "nora", "Lamp:Read", {})
    assert (view["allowed"], view["depends"]) == (False, ["Lamp:Room"])
    assert [step["depends"] for step in view["steps"]] == [[], ["Lamp:Room"]]
    lines = explain_lines(view)
    assert lines[0] == "depends: role 'neighbour': it depends on Lamp:Room"
    assert "statement 2: Deny may apply, depending on Lamp:Room: " in lines[2]
    for room, allowed in (("hall", True), ("cellar", False)):
        explained = policy_explanation(authority, "nora", "Lamp:Read", {"Lamp:Room": room})
        assert (explained["allowed"], explained["depends"]) == (allowed, [])


async def test_a_resource_provides_its_own_attributes(kit: Kit) -> None:
    _, lamp, caller = await start_lamp_device(kit, HALL, "Allow Core:Discover")
    assert (await caller.ask("GET", "/lamp")).code == "2.05"
    assert b"</lamp>" in (await caller.ask("GET", "/.well-known/core")).message.payload
    lamp.values = {"Lamp:Room": "cellar"}
    assert (await caller.ask("GET", "/lamp")).reason == "denied"
    assert b"</lamp>" not in (await caller.ask("GET", "/.well-known/core")).message.payload
    lamp.values = {}
    assert (await caller.ask("GET", "/lamp")).reason == "denied"


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("Connection:IsLocal", "Bool Connection:IsLocal true"),
        ("connection:IsLocal", "Bool Connection:IsLocal true"),
        ("Connection:Username", "StringEquals Connection:Username true"),
        ("IAM:RoleId", "StringEquals IAM:RoleId true"),
        ("iam:roleid", "StringEquals IAM:RoleId true"),
        ("Clock:Now", "DateLessThan Clock:Now 2026-01-01T00:00:00Z"),
    ],
)
async def test_a_resource_cannot_set_reserved_attributes(
    kit: Kit, name: str, condition: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, lamp, caller = await start_lamp_device(
        kit, f"Allow Lamp:Read if {condition}", loopback=False
    )
    value = "5" if name == "Clock:Now" else "true"
    lamp.values = {name: value, "Lamp:Room": "hall"}
    for _ in range(3):
        assert (await caller.ask("GET", "/lamp")).reason == "denied"
    warnings = [record for record in caplog.records if "only handfast can set" in record.message]
    assert len(warnings) == 1
    assert name in warnings[0].message


async def test_a_trailing_slash_is_removed_before_attributes_are_requested(kit: Kit) -> None:
    _, lamp, caller = await start_lamp_device(kit, HALL)
    for path in ("/lamp", "/lamp/"):
        assert (await caller.ask("GET", path)).code == "2.05"
    assert lamp.paths == [("lamp",), ("lamp",)]


@pytest.mark.parametrize("values", [RuntimeError("no GPIO"), {"Lamp:Room": 7}, 7, None])
async def test_a_request_is_denied_if_the_attributes_are_invalid(kit: Kit, values: object) -> None:
    _, lamp, caller = await start_lamp_device(kit, HALL, "Allow Core:Discover, Hello:Get")
    lamp.values = values
    answer = await caller.ask("GET", "/lamp")
    assert answer.code in {"5.00", "4.03"}
    assert lamp.rendered == 0
    listing = await caller.ask("GET", "/.well-known/core")
    assert b"</lamp>" not in listing.message.payload
    assert b"</hello>" in listing.message.payload


async def test_no_attributes_are_requested_for_an_unknown_client(kit: Kit) -> None:
    device, lamp, _ = await start_lamp_device(kit, HALL)
    unknown_client = kit.caller(device)
    for path in ("/lamp", "/.well-known/core", "/lamp/x"):
        await unknown_client.ask("GET", path)
    assert (lamp.asked, lamp.rendered) == (0, 0)


def test_attributes_that_are_not_a_function_prevent_the_start() -> None:
    wrong: Any = {"Lamp:Room": "hall"}
    one = ResourceSpec("/lamp", Lamp(), {"GET": "Lamp:Read"}, attributes=wrong)
    with pytest.raises(ModuleError, match="not a function"):
        spec_checks.check_spec("my_lamp", one)
