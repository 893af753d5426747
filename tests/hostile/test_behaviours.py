"""Asked of a running device: long lists, and what policies make of a request.

The language itself is tested in tests/iam. Here the same sentences are policy files of a device
that runs, and answers come over DTLS. What a condition looks at is the name of the asking key.
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
#: Operator and values → the names of keys that it lets in, and those that it does not.
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
    """A file with these policies, and the role `tester` that has them all."""
    names = [f"p{number}" for number in range(len(policies))]
    texts = [f'[[policy]]\nid = "{n}"\n{text}' for n, text in zip(names, policies, strict=True)]
    return "\n".join(texts) + f'\n[[role]]\nid = "tester"\nrank = 5\npolicies = {names}\n'


async def says_hello(tester: Caller) -> bool:
    answer = await tester.ask("GET", "/hello")
    assert answer.code in {"2.05", "4.03"}
    return answer.code == "2.05"


async def ruled(kit: Kit, device: Device, text: str) -> Caller:
    """A caller with the role `tester`, in a device with these rules."""
    kit.policy(text)
    await device.app.policies.reload()
    tester = kit.caller(device)
    key = Key(tester.fingerprint, "phone", "given", added=1.0)
    if "tina" in device.users.users:
        device.app.access.registry.remove_user(None, "tina")
    device.app.access.registry.add_user(None, User("tina", "tester", (key,)))
    return tester


@pytest.mark.parametrize(("path", "wanted"), [("roles", 85), ("policies", 80)])
async def test_every_role_and_policy_is_listed_in_as_many_blocks_as_it_takes(
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


async def test_nothing_is_allowed_until_something_allows_it(kit: Kit, device: Device) -> None:
    tester = await ruled(kit, device, '[[role]]\nid = "tester"\nrank = 5\npolicies = []\n')
    assert not await says_hello(tester)
    assert await says_hello(await ruled(kit, device, role(ALLOW)))


async def test_a_deny_beats_an_allow_wherever_it_stands(kit: Kit, device: Device) -> None:
    for statements in itertools.permutations((ALLOW, ALLOW, DENY)):
        assert not await says_hello(await ruled(kit, device, role("".join(statements))))
        assert not await says_hello(await ruled(kit, device, role(*statements)))
    tester = await ruled(kit, device, role(DENY.replace("Hello:*", "Board:*"), ALLOW))
    assert await says_hello(tester)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda one: f"{one[0]} {one[1][0]}")
async def test_a_condition_lets_in_whom_it_means(
    kit: Kit, device: Device, condition: tuple[str, list[str], dict[str, bool]]
) -> None:
    operator, values, names = condition
    line = f'conditions = [{{ {operator} = {{ "Connection:KeyName" = {values} }} }}]\n'
    tester = await ruled(kit, device, role(ALLOW + line))
    for name, due in names.items():
        user = device.users.user("tina")
        key = replace(user.keys[0], name=name)
        device.app.access.registry.add_key(None, "tina", key)
        assert await says_hello(tester) is due, name


async def test_a_missing_attribute_fits_no_condition(kit: Kit, device: Device) -> None:
    for operator in ("StringEquals", "StringNotEquals", "NumericNotEquals", "Bool"):
        value = {"Bool": "true"}.get(operator, "1")
        line = f'conditions = [{{ {operator} = {{ "Lamp:Room" = ["{value}"] }} }}]\n'
        assert not await says_hello(await ruled(kit, device, role(ALLOW + line))), operator
