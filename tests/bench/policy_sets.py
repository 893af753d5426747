"""Roles with many policies, and the attributes that their conditions read."""

from __future__ import annotations

from typing import Final

from iam import Access, Condition, Effect, Operator, Policy, Role, Statement
from iam.builtin import POLICIES, ROLES

ATTRIBUTES: Final = {
    "Connection:IsLocal": "true",
    "Connection:Address": "192.0.2.7",
    "Connection:Interface": "eth0",
    "Clock:Now": "1896091200",
}


def policies(count: int) -> tuple[Policy, ...]:
    """Policies for one module each; the last statement has every kind of condition."""
    local = Condition(Operator.BOOL, "Connection:IsLocal", ("true",))
    named = Condition(Operator.STRING_LIKE, "Connection:Username", ("bert", "a*"))
    near = Condition(Operator.IP_ADDRESS, "Connection:Address", ("10.0.0.0/8", "192.0.2.0/24"))
    early = Condition(Operator.DATE_LESS_THAN, "Clock:Now", ("2031-01-01T00:00:00Z",))
    return tuple(
        Policy(
            f"p{number}",
            (
                Statement(Effect.ALLOW, (f"M{number}:*",)),
                Statement(Effect.ALLOW, (f"N{number}:Get",), (local,)),
                Statement(Effect.ALLOW, (f"O{number}:Get",), (local, named, near, early)),
                Statement(Effect.DENY, (f"M{number}:Burn", f"N{number}:Burn")),
            ),
        )
        for number in range(count)
    )


def access(count: int) -> Access:
    """The built-in roles, and a role `tester` with that many policies."""
    mine = policies(count)
    role = Role("tester", 5, ("core-guest", *(policy.id for policy in mine)))
    return Access((*ROLES, role), (*POLICIES, *mine))
