"""No key vouches for itself: no request of an unverified key verifies or names it.

An unverified key may belong to a man in the middle. Policies may use `Connection:Verified` and
`Connection:KeyName`, so both are rights, and only the console or another verified key grants them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iam.model import Key, User
from peer.identity import Identity
from peer.pairing.invite import read_untrusted
from peer.pairing.methods import Method

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit


NEW = "5a" * 32
#: A role with all administrative actions, one action for verified keys, and one for keys whose name
#: starts with "phone".
POLICY = """
[[policy]]
id = "all"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:*", "Pairing:*"]
[[policy]]
id = "by-key"
[[policy.statement]]
effect = "Allow"
actions = ["Hello:Get"]
conditions = [{ Bool = { "Connection:Verified" = ["true"] } }]
[[policy.statement]]
effect = "Allow"
actions = ["Board:Read"]
conditions = [{ StringLike = { "Connection:KeyName" = ["phone*"] } }]
[[role]]
id = "helper"
rank = 12
policies = ["all", "by-key"]
"""


def add_user(
    kit: Kit, device: Device, name: str, *keys: Key, role: str = "helper", end: float | None = None
) -> Caller:
    """Add a user with an unverified key, as pairing by the button does, and further keys."""
    caller = kit.caller(device)
    own_key = Key(caller.fingerprint, method=Method.BUTTON, verified=False, added=1.0)
    device.app.access.registry.add_user(None, User(name, role, (own_key, *keys), not_after=end))
    return caller


def key_of(device: Device, fingerprint: str) -> Key:
    user = device.users.user_of(fingerprint)
    assert user is not None
    return user.key(fingerprint)


async def redeem(caller: Caller, made: Answer) -> Answer:
    token = read_untrusted(made.body["token"])[1]
    return await caller.ask("POST", "/iam/redeem", {"token": token})


async def rights(caller: Caller) -> list[str]:
    return [(await caller.ask("GET", path)).code for path in ("/hello", "/board")]


async def test_no_request_of_an_unverified_key_verifies_or_names_it(
    kit: Kit, device: Device
) -> None:
    kit.known(device, "olga", "owner")
    kit.policy(POLICY)
    await device.app.policies.reload()
    mallory = add_user(kit, device, "mallory")
    accomplice = kit.caller(device)
    assert await rights(mallory) == ["4.03", "4.03"]
    own = f"/iam/users/mallory/keys/{mallory.fingerprint}"
    new_user = {"name": "accomplice", "role": "helper", "keys": [accomplice.fingerprint]}
    named = {**new_user, "keys": [{"fingerprint": accomplice.fingerprint, "name": "phone"}]}
    before = device.users
    for method, path, body in (
        ("PUT", own, None),
        ("PUT", own.upper().replace("/IAM/USERS/MALLORY/KEYS", "/iam/users/mallory/keys"), {}),
        ("PUT", own, {"name": "phone"}),
        ("PUT", f"/iam/users/mallory/keys/{accomplice.fingerprint}", None),
        ("PUT", f"/iam/users/mallory/keys/{accomplice.fingerprint}", {"name": "phone"}),
        ("POST", "/iam/users", new_user),
        ("POST", "/iam/users", named),
        ("POST", "/iam/invites", {"name": "accomplice", "role": "helper"}),
        ("POST", "/iam/invites", {"name": "accomplice", "key": accomplice.fingerprint}),
        ("POST", "/iam/invites", {"name": "mallory", "uses": 2, "key": mallory.fingerprint}),
    ):
        refused = await mallory.ask(method, path, body)
        assert (refused.code, refused.reason) == ("4.03", "denied"), (method, path, body)
        assert "not verified" in refused.text
        assert device.users is before
    # Requests that do not concern a key are still allowed, and change no key.
    assert (await mallory.ask("PATCH", "/iam/users/mallory", {"name": "malory"})).code == "2.04"
    assert (await mallory.ask("PATCH", "/iam/users/malory", {"display": "M"})).code == "2.04"
    assert (await mallory.ask("POST", "/iam/users", {"name": "x", "role": "guest"})).code == "2.01"
    stored = key_of(device, mallory.fingerprint)
    assert (stored.verified, stored.name) == (False, "")
    assert await rights(mallory) == ["4.03", "4.03"]


async def test_a_verified_key_vouches_for_other_keys_but_not_for_itself(
    kit: Kit, device: Device
) -> None:
    kit.known(device, "olga", "owner")
    kit.policy(POLICY)
    await device.app.policies.reload()
    second = Identity.create()
    first = add_user(
        kit, device, "uwe", Key(second.fingerprint.hex, "laptop", "compare", added=2.0)
    )
    caller = kit.caller(device, second)
    itself = f"/iam/users/uwe/keys/{caller.fingerprint}"
    refused = await caller.ask("PUT", itself, {"name": "phone"})
    assert (refused.code, "itself" in refused.text) == ("4.03", True)
    assert (await caller.ask("PUT", itself, {"name": "laptop"})).code == "2.04"  # no change
    done = await caller.ask("PUT", f"/iam/users/uwe/keys/{first.fingerprint}", {"name": "phone"})
    assert done.code == "2.04"
    stored = key_of(device, first.fingerprint)
    assert (stored.verified, stored.name, stored.method) == (True, "phone", Method.BUTTON)
    assert await rights(first) == ["2.05", "2.05"]
    assert (await first.ask("PUT", itself, {"name": "phone-two"})).code == "2.04"


@pytest.mark.usefixtures("owner")
async def test_the_console_can_verify_a_key(kit: Kit, device: Device) -> None:
    first = add_user(kit, device, "uwe", role="guest")
    device.app.access.registry.add_key(None, "uwe", Key(first.fingerprint, "phone"))
    assert key_of(device, first.fingerprint).verified


@pytest.mark.usefixtures("owner")
async def test_a_key_cannot_vouch_for_a_user_with_longer_access(kit: Kit, device: Device) -> None:
    """Policies may use the name of a key, so naming a key is limited as granting a role is."""
    end = device.app.access.clock.now() + 3600
    admin = kit.caller(device)
    key = Key(admin.fingerprint, method="compare", added=1.0)
    device.app.access.registry.add_user(None, User("edda", "admin", (key,), not_after=end))
    first = add_user(kit, device, "uwe", role="guest")
    brief = add_user(kit, device, "ulf", role="guest", end=end)
    refused = await admin.ask("PUT", f"/iam/users/uwe/keys/{first.fingerprint}", {"name": "p"})
    assert (refused.code, refused.reason) == ("4.03", "denied")
    assert (await admin.ask("PUT", f"/iam/users/ulf/keys/{brief.fingerprint}")).code == "2.04"
    assert not key_of(device, first.fingerprint).verified
    assert key_of(device, brief.fingerprint).verified


async def test_an_invite_verifies_a_key_only_if_its_creator_still_has_a_verified_one(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """The creator had a verified key at first, but only an unverified one when it is redeemed."""
    second = Identity.create()
    add_user(kit, device, "adam", Key(second.fingerprint.hex, "", "compare"), role="admin")
    made = await kit.caller(device, second).ask("POST", "/iam/invites", {"name": "nina"})
    assert made.code == "2.01"
    device.app.access.registry.remove_key(None, "adam", second.fingerprint.hex)
    nina = kit.caller(device)
    assert (await redeem(nina, made)).code == "2.04"
    assert not key_of(device, nina.fingerprint).verified
    good = await owner.ask("POST", "/iam/invites", {"name": "leo"})
    leo = kit.caller(device)
    assert (await redeem(leo, good)).code == "2.04"
    assert key_of(device, leo.fingerprint).verified


async def test_an_invite_for_the_name_of_an_unverified_key_does_not_verify_it(
    kit: Kit, device: Device, owner: Caller
) -> None:
    first = add_user(kit, device, "uwe", role="guest")
    made = await owner.ask("POST", "/iam/invites", {"name": "uwe", "uses": 2})
    assert made.code == "2.01"
    assert (await redeem(first, made)).code == "2.04"
    assert not key_of(device, first.fingerprint).verified
