"""Thousands of random policies are decided alike by an independent engine (Cedar).

Each statement becomes a `permit` or a `forbid` with the attributes as its context. Cedar skips a
policy whose condition meets an absent attribute or a text that is no number or address; that is our
"does not apply". Left out is what the two mean differently: `?` in patterns, IPv4 written as IPv6,
numbers without or with more than four decimals, times as seconds, `${Clock:Now}`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from json import dumps

import cedarpy
import pytest

from iam import Condition, Effect, Operator, Policy, Statement
from iam.attributes import CLOCK
from iam.policy_index import Index

SETS, REQUESTS = 1200, 20
VERBS = ("Get", "Set", "Burn")
ACTIONS = tuple(f"{module}:{verb}" for module in ("Lamp", "Door") for verb in VERBS)
ENTITIES = [
    {
        "uid": {"type": "Action", "id": action},
        "attrs": {},
        "parents": [{"type": "Action", "id": action.partition(":")[0] + ":*"}],
    }
    for action in ACTIONS
]

# Texts for an attribute of each kind, the last two of which are invalid; and literals.
STRINGS = ("a", "ab", "abc", "b", "", "A", "a*c")
NUMBERS = (
    "1.0",
    "1.00",
    "2.5",
    "-0.0",
    "0.0",
    "-3.25",
    "007.0",
    "99999999999.9999",
    "nan",
    "0x1.0",
)
ADDRESSES = ("192.0.2.1", "192.0.2.200", "10.0.0.1", "2001:db8::1", "fe80::1", "localhost", "")
TIMES = ("2030-01-01T00:00:00Z", "2030-06-01T12:00:00Z", "2031-01-01T00:00:00.500Z", "soon")
TRUTHS = ("true", "false", "True", "")
KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "String": (("Lamp:Zone", "Connection:Username", "IAM:Username"), STRINGS, STRINGS),
    "Numeric": (("Lamp:Level", "Lamp:Limit"), NUMBERS, NUMBERS[:-2]),
    "Ip": (("Connection:Address", "Camera:Address"), ADDRESSES, ADDRESSES[:-2]),
    "Date": (("Clock:Now", "Door:Until"), TIMES, TIMES[:2]),
    "Bool": (("Connection:IsLocal", "Lamp:On"), TRUTHS, TRUTHS[:2]),
}
NETWORKS = ("192.0.2.0/24", "192.0.2.128/25", "0.0.0.0/0", "::/0", "2001:db8::/32", "fe80::/10")
PATTERNS = ("*", "a*", "*c", "*b*", "a*c", "**", "a")
READERS = {"Numeric": "decimal({})", "Ip": "ip({})", "Date": "datetime({})"}
RELATIONS = {
    "NumericLessThan": "{0}.lessThan({1})",
    "NumericLessThanEquals": "{0}.lessThanOrEqual({1})",
    "NumericGreaterThan": "{0}.greaterThan({1})",
    "NumericGreaterThanEquals": "{0}.greaterThanOrEqual({1})",
    "DateLessThan": "{0} < {1}",
    "DateLessThanEquals": "{0} <= {1}",
    "DateGreaterThan": "{0} > {1}",
    "DateGreaterThanEquals": "{0} >= {1}",
    "IpAddress": "{0}.isInRange({1})",
    "NotIpAddress": "!{0}.isInRange({1})",
    "StringLike": "{0} like {1}",
    "StringNotLike": "!({0} like {1})",
}


def kind_of(operator: Operator) -> str:
    return next(kind for kind in KINDS if operator.removeprefix("Not").startswith(kind))


# --------------------------------------------------------------------------------------- by chance


def some_condition(random_source: random.Random) -> Condition:
    operator = random_source.choice(list(Operator))
    names, _, literals = KINDS[kind_of(operator)]
    if "Like" in operator:
        literals = PATTERNS
    elif "Ip" in operator:
        literals = (*literals, *NETWORKS)
    attribute = random_source.choice(names)
    values = random_source.choices(literals, k=random_source.choice((1, 1, 2, 3)))
    if random_source.random() < 0.25 and "Like" not in operator:
        # At most one, and last: at an invalid number Cedar stops, while iam continues.
        values[-1] = f"${{{random_source.choice([name for name in names if name != CLOCK])}}}"
    return Condition(operator, attribute, tuple(values))


def some_statement(random_source: random.Random) -> Statement:
    patterns = (*ACTIONS, "Lamp:*", "Door:*")
    return Statement(
        Effect.DENY if random_source.random() < 0.3 else Effect.ALLOW,
        tuple(random_source.choices(patterns, k=random_source.choice((1, 1, 2)))),
        tuple(
            some_condition(random_source) for _ in range(random_source.choice((0, 0, 1, 1, 1, 2)))
        ),
    )


def some_attributes(random_source: random.Random) -> dict[str, str]:
    return {
        name: random_source.choice(texts)
        for names, texts, _ in KINDS.values()
        for name in names
        if random_source.random() < 0.75
    }


# ---------------------------------------------------------------------------------- in their words


def cedar_condition(one: Condition, effect: Effect) -> str:
    kind = kind_of(one.operator)
    reader = READERS.get(kind, "{}")
    negative = "Not" in one.operator
    relation = RELATIONS.get(one.operator, "{0} != {1}" if negative else "{0} == {1}")
    found = reader.format(f"context[{dumps(one.attribute)}]")
    parts = []
    for value in one.values:
        if value.startswith("${"):
            other = dumps(value[2:-1])
            part = relation.format(found, reader.format(f"context[{other}]"))
            parts.append(part if negative else f"(context has {other} && {part})")
        else:
            parts.append(relation.format(found, reader.format(dumps(value))))
    compared = (" && " if negative else " || ").join(f"({part})" for part in parts)
    if kind == "Bool":
        compared = f'["true", "false"].contains({found}) && ({compared})'
    if effect is Effect.DENY and one.attribute == CLOCK:
        return f"!(context has {dumps(CLOCK)}) || ({compared})"
    return compared


def cedar_statement(one: Statement) -> str:
    word = "permit" if one.effect is Effect.ALLOW else "forbid"
    actions = ", ".join(f"Action::{dumps(pattern)}" for pattern in one.actions)
    when = "".join(f" when {{ {cedar_condition(some, one.effect)} }}" for some in one.conditions)
    return f"{word} (principal, action in [{actions}], resource){when};"


@pytest.mark.parametrize("seed", range(4))
def test_cedar_decides_alike(seed: int) -> None:
    random_source = random.Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(SETS // 4):
        policies = [
            Policy(
                f"p{number}",
                tuple(some_statement(random_source) for _ in range(random_source.randint(1, 3))),
            )
            for number in range(random_source.randint(1, 6))
        ]
        index = Index(policies)
        text = "\n".join(cedar_statement(one) for some in policies for one in some.statements)
        asked = [
            (random_source.choice(ACTIONS), some_attributes(random_source)) for _ in range(REQUESTS)
        ]
        requests = [
            {
                "principal": 'User::"u"',
                "action": f"Action::{dumps(action)}",
                "resource": 'Device::"d"',
                "context": attributes,
            }
            for action, attributes in asked
        ]
        theirs = cedarpy.is_authorized_batch(requests, cedarpy.PolicySet.from_str(text), ENTITIES)
        for (action, attributes), answer in zip(asked, theirs, strict=True):
            ours = index.evaluate(action, attributes)
            assert answer.allowed is ours.allowed, (
                f"{ours.reason}\n{action} {attributes}\n{text}\n{answer.diagnostics.errors}"
            )
            applying = {step.effect for step in index.steps(action, attributes) if step.applies}
            seen["+".join(sorted(applying))] += 1
    # The random cases cover every outcome, above all a Deny that overrides an Allow.
    assert sum(seen.values()) == SETS // 4 * REQUESTS
    assert min(seen[case] for case in ("", "Allow", "Deny", "Allow+Deny")) > 400
