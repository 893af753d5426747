"""Nabto's roles as roles of handfast, with a rank and with the rights that can be imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from iam.builtin import UNPAIRED
from iam.condition import Condition, Operator
from iam.nabto.counterparts import COUNTERPARTS, ROLE_ID, policy_id, role_id
from iam.nabto.grants import Grant, Loss, NumberNeeded, combined, guarded, losses, simple
from iam.nabto.json_nodes import JsonNode, shown
from iam.nabto.statements import Notes
from iam.policy import Effect, Policy, Role, Statement

RANK_MAX: Final = 9  # below guest, the lowest built-in role of a user
_SHARED: Final = "nabto-everybody"
_GIVING: Final = tuple(one.action for one in COUNTERPARTS if ROLE_ID in one.target)
_DISCOVER: Final = Statement(Effect.ALLOW, ("Core:Discover",))
_REDEEM: Final = "Iam:RedeemInvite"
Grants = tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class NabtoPolicy:
    """A policy of the file: what it grants, and which attributes have to be numbers for that."""

    grants: Grants
    needed: tuple[NumberNeeded, ...]


def _lost(loss: Loss) -> str:
    how = "can be imported only under some conditions" if loss.partly else "cannot be imported"
    why = f"needs {', '.join(loss.lacking)}, too" if loss.lacking else "has no such target"
    return f"{', '.join(loss.allowed)} {how}: {loss.action} {why}"


def _all(names: Iterable[str], policies: Mapping[str, NabtoPolicy]) -> Grants:
    return tuple(grant for name in names for grant in policies[name].grants)


def _guarded(names: Iterable[str], policies: Mapping[str, NabtoPolicy]) -> Grants:
    """The grants of a role by these policies, with what the errors of each require of all."""
    needed = {need for name in names for need in policies[name].needed}
    return guarded(_all(names, policies), needed)


def shared_policy(roles: Iterable[str]) -> Policy:
    """The policy of every imported role: it grants no role but those of the file."""
    statements = [Statement(Effect.ALLOW, ("Core:Discover", "Iam:GetMe"))]
    if names := tuple(roles):
        other = Condition(Operator.STRING_NOT_EQUALS, ROLE_ID, names)
        statements.append(Statement(Effect.DENY, _GIVING, (other,)))
    return Policy(_SHARED, tuple(statements))


def our_roles(
    node: JsonNode,
    named: Mapping[str, tuple[str, ...]],
    policies: Mapping[str, NabtoPolicy],
    kept: set[str],
    notes: Notes,
) -> tuple[list[Role], list[Policy]]:
    """The roles, and a policy for each role whose policies together differ from each alone.

    They may allow more together, or less because of the errors of one.
    """
    ranks = _ranks({role: _all(names, policies) for role, names in named.items()})
    roles, extra = [], []
    for (name, names), role_node in zip(named.items(), node.items(), strict=True):
        grants = _guarded(names, policies)
        own = [policy_id(one) for one in names if policy_id(one) in kept]
        statements = combined(grants)
        if grants != _all(names, policies):
            own, statements = [], (*simple(grants), *statements)
            notes.add(
                role_node,
                "an attribute that some policy of this role compares as a number has to be a "
                "number, whichever policy allows the action",
            )
        if statements:
            extra.append(Policy(f"nabto-role-{name}", statements))
            own.append(extra[-1].id)
        roles.append(Role(role_id(name), ranks[name], (_SHARED, *own)))
        if role_id(name) != name:
            notes.add(role_node, f"handfast has a role {name}; the imported one is {role_id(name)}")
        for loss in losses(grants):
            notes.add(role_node, _lost(loss))
    _note_ranks(node, roles, notes)
    return roles, extra


def _ranks(roles: Mapping[str, Grants]) -> dict[str, int]:
    """A role that may do more of /iam ranks higher.

    Then one that may do it under fewer conditions, then one that may do more of the applications.
    """

    def rights(grants: Grants) -> tuple[int, int, int]:
        allowed = [one for one in grants if one.effect is Effect.ALLOW]
        iam = {one.action for one in allowed if one.is_iam and "Pairing" not in one.action}
        always = {one.action for one in allowed if one.action in iam and not one.conditions}
        return len(always), len(iam), len({one.action for one in allowed} - iam)

    counted = {role: rights(grants) for role, grants in roles.items()}
    order = sorted(set(counted.values()), reverse=True)
    return {role: max(1, RANK_MAX - order.index(found)) for role, found in counted.items()}


def unpaired_role(
    config: JsonNode,
    roles: Mapping[str, tuple[str, ...]],
    policies: Mapping[str, NabtoPolicy],
    notes: Notes,
) -> tuple[Policy, Role]:
    """The rights of Nabto's unpaired role that an unpaired key can have here at all."""
    notes.unknown(config, "UnpairedRole")
    node = config.get("UnpairedRole")
    grants: Grants = ()
    if node is None:
        notes.add(
            config, "no role for unpaired keys is named; they may only discover the resources"
        )
    else:
        if node.text() not in roles:
            raise node.error(f"there is no role {shown(node.text())}", "Define it.")
        grants = _guarded(roles[node.text()], policies)
        lost = {
            one.action
            for one in grants
            if one.effect is Effect.ALLOW and one.action != "IAM:PairingPasswordInvite"
        }
        if lost:
            notes.add(
                node,
                "an unpaired key may only discover the resources and redeem an invite; only users "
                f"with this role get {', '.join(sorted(lost))}",
            )
    carried = (
        Statement(one.effect, (_REDEEM,), one.conditions)
        for one in simple(grants)
        if _REDEEM in one.actions
    )
    policy = Policy("nabto-unpaired", (_DISCOVER, *carried))
    return policy, Role(UNPAIRED, 0, (policy.id,))


def _note_ranks(node: JsonNode, roles: list[Role], notes: Notes) -> None:
    ranks = ", ".join(f"{one.id} {one.rank}" for one in sorted(roles, key=lambda one: -one.rank))
    if ranks:
        notes.add(
            node,
            "roles have a rank in handfast, and no user changes or grants one above their own: "
            f"{ranks}. All rank below the built-in roles, and none is owner: a person at the "
            "device makes a user an owner",
        )
