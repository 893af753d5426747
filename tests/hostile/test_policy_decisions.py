"""Long lists and policy decisions of a running device.

The policy language itself is tested in tests/iam. Here the policies are files of a running device,
which answers over DTLS. The conditions compare the name of the key that sends the request.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from iam.model import Key, User

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

ALLOW = '[[policy.statement]]\neffect = "Allow"\nactions = ["Hello:Get"]\n'
DENY = '[[policy.statement]]\neffect = "Deny"\nactions = ["Hello:*"]\n'
NUMBERS = {"42": True, "42.3": True, "-42": True}
NO_NUMBERS = {"foo": False, " 1": False, "nan": False, "inf": False, "0x10": False, "1_0": False}
#: Operator, values, and for each name of a key whether the condition holds.
CONDITIONS: tuple[tuple[str, list[str], dict[str, bool]], ...] = (
    ("NumericLessThan", ["43"], {**NUMBERS, **NO_NUMBERS, "44": False}),
    ("NumericNotEquals", ["43"], {**NUMBERS, **NO_NUMBERS, "43.0": False}),
    ("StringEquals", ["tester", "phone"], {"phone": True, "tester": True, "Phone": False}),
    ("StringNotEquals", ["tablet", "phone"], {"phone": False, "tablet": False, "watch": True}),
    ("StringLike", ["phone*", "t?blet"], {"phone-2": True, "tablet": True, "blet": False}),
    ("StringNotLike", ["phone*", "t?blet"], {"phone-2": False, "tablet": False, "watch": True}),
    ("Bool", ["true"], {"true": True, "True": False, "1": False, "yes": False}),
    ("StringEquals", ["${Connection:Username}"], {"tina": True, "phone": False}),
    ("StringEquals", ["${Lamp:Room}", "phone"], {"phone": True, "${Lamp:Room}": False}),
    ("StringNotEquals", ["${Lamp:Room}"], {"phone": False}),
)


def role(*policies: str) -> str:
    """A policy file with these policies and the role `tester`, which has all of them."""
    names = [f"p{number}" for number in range(len(policies))]
    texts = [f'[[policy]]\nid = "{n}"\n{text}' for n, text in zip(names, policies, strict=True)]
    return "\n".join(texts) + f'\n[[role]]\nid = "tester"\nrank = 5\npolicies = {names}\n'


async def is_allowed(tester: Caller) -> bool:
    answer = await tester.ask("GET", "/hello")
    assert answer.code in {"2.05", "4.03"}
    return answer.code == "2.05"


async def caller_with_policy(kit: Kit, device: Device, text: str) -> Caller:
    """Load this policy file; returns a caller with the role `tester`."""
    kit.policy(text)
    await device.app.policies.reload()
    tester = kit.caller(device)
    key = Key(tester.fingerprint, "phone", "given", added=1.0)
    if "tina" in device.users.users:
        device.app.access.registry.remove_user(None, "tina")
    device.app.access.registry.add_user(None, User("tina", "tester", (key,)))
    return tester


@pytest.mark.parametrize(("path", "wanted"), [("roles", 85), ("policies", 80)])
async def test_a_long_list_of_roles_or_policies_is_sent_in_blocks(
    kit: Kit, path: str, wanted: int
) -> None:
    numbers = range(80)
    kit.policy(
        "".join(f'[[policy]]\nid = "policy-{n}"\n{ALLOW}' for n in numbers)
        + "".join(
            f'[[role]]\nid = "role-{n}"\nrank = 7\npolicies = ["policy-{n}"]\n' for n in numbers
        )
    )
    device = await kit.device()
    owner = kit.known(device, "olga", "owner")
    answer = await owner.ask("GET", f"/iam/{path}")
    assert len(answer.payload) > 2 * 1024
    found = [one["id"] for one in answer.body]
    assert len(found) == len(set(found)) >= wanted
    assert {f"{path.replace('ies', 'y').removesuffix('s')}-{n}" for n in numbers} <= set(found)


async def test_a_request_is_denied_unless_a_policy_allows_it(kit: Kit, device: Device) -> None:
    tester = await caller_with_policy(
        kit, device, '[[role]]\nid = "tester"\nrank = 5\npolicies = []\n'
    )
    assert not await is_allowed(tester)
    assert await is_allowed(await caller_with_policy(kit, device, role(ALLOW)))


async def test_a_deny_overrides_an_allow_in_any_order(kit: Kit, device: Device) -> None:
    for statements in itertools.permutations((ALLOW, ALLOW, DENY)):
        assert not await is_allowed(
            await caller_with_policy(kit, device, role("".join(statements)))
        )
        assert not await is_allowed(await caller_with_policy(kit, device, role(*statements)))
    tester = await caller_with_policy(kit, device, role(DENY.replace("Hello:*", "Board:*"), ALLOW))
    assert await is_allowed(tester)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda one: f"{one[0]} {one[1][0]}")
async def test_a_condition_allows_exactly_the_matching_key_names(
    kit: Kit, device: Device, condition: tuple[str, list[str], dict[str, bool]]
) -> None:
    operator, values, names = condition
    line = f'conditions = [{{ {operator} = {{ "Connection:KeyName" = {values} }} }}]\n'
    tester = await caller_with_policy(kit, device, role(ALLOW + line))
    for name, due in names.items():
        user = device.users.user("tina")
        key = replace(user.keys[0], name=name)
        device.app.access.registry.add_key(None, "tina", key)
        assert await is_allowed(tester) is due, name


async def test_a_missing_attribute_satisfies_no_condition(kit: Kit, device: Device) -> None:
    for operator in ("StringEquals", "StringNotEquals", "NumericNotEquals", "Bool"):
        value = {"Bool": "true"}.get(operator, "1")
        line = f'conditions = [{{ {operator} = {{ "Lamp:Room" = ["{value}"] }} }}]\n'
        assert not await is_allowed(await caller_with_policy(kit, device, role(ALLOW + line))), (
            operator
        )
