"""Nabto's IAM configuration (version 1) as a rulebook of handfast.

    {"Version": 1, "Config": {"UnpairedRole": role},
     "Roles": [{"Id", "Policies": [policy …]} …],
     "Policies": [{"Id", "Statements": [{"Effect", "Actions": [action …],
                                         "Conditions": [{operator: {attribute: [value …]}} …]}]}]}

Both languages are similar: deny overrides, default is deny, conditions are AND-ed, values OR-ed, an
absent attribute never matches. Where they differ, the import keeps Nabto's result:

- An action with a `*` is a name like any other in Nabto and matches nothing; in handfast it would
  match
  a whole module. It is left out.
- A negative operator with several values holds in Nabto as soon as *one* differs. Such a statement
  is
  written once for each value.
- A value that is not of the operator's kind makes Nabto deny everything, even where the statement
  itself
  is left out. For Bool a deny is written for that. For numbers, every statement that allows the
      action
  to that role requires a number there, of 15 characters at most: Nabto compares doubles.
- A role can get another name (`nabto-owner`), so a comparison of roles with anything but names of
  roles
  cannot be imported. The name of a role that the file does not define stands for no role, and no
      one
  grants a role that the file does not define.
- Nabto's roles have no rank. All imported roles rank below handfast's own, so that no one can grant
  a
  right that the configuration does not have; among themselves, a role that may do more of the user
  administration ranks higher.
- Unpaired keys may do little in handfast (`iam.builtin`); pairing uses windows and invites, not
  rights.

A part that cannot be expressed is left out of an allow, and a condition that cannot be expressed
is left out of a deny: both only take rights away. Each time a note says so. Errors in the file are
rejected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from iam.builtin import UNPAIRED
from iam.condition import Condition, Operator
from iam.config import ID, ID_ADVICE, load, to_toml
from iam.errors import PolicyFileError
from iam.limits import NABTO_GRANTS_MAX, NABTO_NAME_CHARACTERS_MAX, NABTO_ROLES_MAX
from iam.nabto.counterparts import COUNTERPARTS, ROLE_ID, is_carried, policy_id, role_id
from iam.nabto.grants import (
    Grant,
    Loss,
    NumberNeeded,
    combined,
    guarded,
    losses,
    simple,
)
from iam.nabto.json_nodes import JsonNode, read, shown
from iam.nabto.statements import Notes, read_statement
from iam.policy import Effect, Policy, Role, Statement

RANK_MAX: Final = 9  # below guest, the lowest built-in role of a user

_SHARED: Final = "nabto-everybody"
_GIVING: Final = tuple(one.action for one in COUNTERPARTS if ROLE_ID in one.target)
_DISCOVER: Final = Statement(Effect.ALLOW, ("Core:Discover",))
_REDEEM: Final = "Iam:RedeemInvite"

_Grants = tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class _Theirs:
    """One of their policies: what it grants, and which numbers that needs."""

    grants: _Grants
    needed: tuple[NumberNeeded, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """A configuration of handfast.

    Attributes:
        rulebook_toml: the same as a file for `policy.d`.
        roles: `unpaired` and those of the file.
        policies: what the roles name and is not built in.
        notes: what could not be imported.
        role_ids: the name here of each role of the file.
    """

    rulebook_toml: str
    roles: tuple[Role, ...]
    policies: tuple[Policy, ...]
    notes: tuple[str, ...]
    role_ids: Mapping[str, str]


def read_config(text: str, *, file: str) -> Imported:
    """Read a configuration. Raises PolicyFileError with file, line and path."""
    root = read(text, file=file)
    notes = Notes()
    check_version(root, 1)
    notes.unknown(root, "Version", "Config", "Policies", "Roles")
    role_ids = _role_ids(root.required("Roles"))
    theirs = _policies(root.required("Policies"), role_ids, notes)
    named = _roles(root.required("Roles"), theirs, notes)
    kept = [Policy(policy_id(name), simple(one.grants)) for name, one in theirs.items()]
    kept = [policy for policy in kept if policy.statements]
    roles, extra = _our_roles(
        root.required("Roles"), named, theirs, {one.id for one in kept}, notes
    )
    unpaired, stranger = _unpaired(root.required("Config"), named, theirs, notes)
    in_use = {policy for role in roles for policy in role.policies}
    kept = [policy for policy in kept if policy.id in in_use]
    policies = (unpaired, _shared(role_ids.values()), *kept, *extra)
    toml = to_toml((stranger, *roles), policies)
    try:
        load([(file, toml)])
    except PolicyFileError as error:
        raise root.error(f"the rules do not fit into one policy file: {error}") from error
    return Imported(toml, (stranger, *roles), policies, tuple(notes.found), role_ids)


def check_version(root: JsonNode, *versions: int) -> int:
    """Return the version of the file, which has to be one of these."""
    node = root.required("Version")
    if type(node.value) is not int:
        raise node.error(f"{node.kind} where a whole number is expected")
    if node.value not in versions:
        known = " and ".join(map(str, versions))
        raise node.error(
            f"the version is {node.value}, and known is {known}",
            "Update handfast, or save the file with a release of Nabto Edge that writes this form.",
        )
    return node.value


def read_name(node: JsonNode) -> str:
    """Return the name of a role or policy, which has to be valid here, too."""
    name = node.text()
    if len(name) > NABTO_NAME_CHARACTERS_MAX or not ID.fullmatch(name):
        raise node.error(
            "this cannot be a name here", f"{ID_ADVICE} Here at most {NABTO_NAME_CHARACTERS_MAX}."
        )
    return name


# ------------------------------------------------------------------------------ reading


def _role_ids(node: JsonNode) -> dict[str, str]:
    """Each role of theirs with its name here."""
    found: dict[str, str] = {}
    for role in node.items():
        name = _new_name(role.required("Id"), found)
        found[name] = role_id(name)
    if len(found) > NABTO_ROLES_MAX:
        raise node.error(f"there are more than {NABTO_ROLES_MAX} roles", "Remove some.")
    if len({*found.values()}) < len(found):
        raise node.error("two roles would have one name here", "Rename the one called nabto-….")
    return found


def _policies(node: JsonNode, role_ids: Mapping[str, str], notes: Notes) -> dict[str, _Theirs]:
    found: dict[str, _Theirs] = {}
    for policy in node.items():
        notes.unknown(policy, "Id", "Statements")
        name = _new_name(policy.required("Id"), found)
        statements = policy.required("Statements").items()
        said = [said for one in statements for said in read_statement(one, role_ids, notes)]
        grants = tuple(one for one in said if isinstance(one, Grant))
        found[name] = _Theirs(grants, tuple(one for one in said if isinstance(one, NumberNeeded)))
        if not any(not one.is_iam or is_carried(one.action) for one in grants):
            notes.add(policy, "nothing of this policy can be carried; it is left out")
        elif policy_id(name) != name:
            notes.add(policy, f"this policy is called {policy_id(name)} here")
    if sum(one.is_iam for policy in found.values() for one in policy.grants) > NABTO_GRANTS_MAX:
        raise node.error(f"there are more than {NABTO_GRANTS_MAX} rules about IAM", "Join some.")
    return found


def _roles(node: JsonNode, policies: Collection[str], notes: Notes) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for role in node.items():
        notes.unknown(role, "Id", "Policies")
        listed = role.required("Policies").items()
        for one in listed:
            if one.text() not in policies:
                raise one.error(f"there is no policy {shown(one.text())}", "Define it.")
        found[role.required("Id").text()] = tuple(dict.fromkeys(one.text() for one in listed))
    return found


def _new_name(node: JsonNode, known: Iterable[str]) -> str:
    name = read_name(node)
    if name in known:
        raise node.error(f"{shown(name)} is defined twice", "Remove one of them.")
    return name


# ------------------------------------------------------------------------------------- our roles


def _lost(loss: Loss) -> str:
    becomes = "becomes only here and there" if loss.partly else "does not become"
    why = f"needs {', '.join(loss.lacking)} too" if loss.lacking else "names no such target"
    return f"{', '.join(loss.allowed)} {becomes} {loss.action}, which does more and {why}"


def _all(names: Iterable[str], policies: Mapping[str, _Theirs]) -> _Grants:
    return tuple(grant for name in names for grant in policies[name].grants)


def _guarded(names: Iterable[str], policies: Mapping[str, _Theirs]) -> _Grants:
    """The grants of a role by these policies, with what the errors of each require of all."""
    needed = {need for name in names for need in policies[name].needed}
    return guarded(_all(names, policies), needed)


def _shared(roles: Iterable[str]) -> Policy:
    """The policy of every imported role: it grants no role but those of the file."""
    statements = [Statement(Effect.ALLOW, ("Core:Discover", "Iam:GetMe"))]
    if names := tuple(roles):
        other = Condition(Operator.STRING_NOT_EQUALS, ROLE_ID, names)
        statements.append(Statement(Effect.DENY, _GIVING, (other,)))
    return Policy(_SHARED, tuple(statements))


def _our_roles(
    node: JsonNode,
    named: Mapping[str, tuple[str, ...]],
    policies: Mapping[str, _Theirs],
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
                "whatever some policy of this role compares as a number has to be one, whichever "
                "policy allows the action",
            )
        if statements:
            extra.append(Policy(f"nabto-role-{name}", statements))
            own.append(extra[-1].id)
        roles.append(Role(role_id(name), ranks[name], (_SHARED, *own)))
        if role_id(name) != name:
            notes.add(
                role_node, f"handfast has a role {name}; this one is called {role_id(name)} here"
            )
        for loss in losses(grants):
            notes.add(role_node, _lost(loss))
    _note_ranks(node, roles, notes)
    return roles, extra


def _ranks(roles: Mapping[str, _Grants]) -> dict[str, int]:
    """A role that may do more of /iam ranks higher.

    Then one that may do it under fewer conditions, then one that may do more of the applications.
    """

    def power(grants: _Grants) -> tuple[int, int, int]:
        allowed = [one for one in grants if one.effect is Effect.ALLOW]
        iam = {one.action for one in allowed if one.is_iam and "Pairing" not in one.action}
        always = {one.action for one in allowed if one.action in iam and not one.conditions}
        return len(always), len(iam), len({one.action for one in allowed} - iam)

    powers = {role: power(grants) for role, grants in roles.items()}
    order = sorted(set(powers.values()), reverse=True)
    return {role: max(1, RANK_MAX - order.index(found)) for role, found in powers.items()}


def _unpaired(
    config: JsonNode,
    roles: Mapping[str, tuple[str, ...]],
    policies: Mapping[str, _Theirs],
    notes: Notes,
) -> tuple[Policy, Role]:
    """The rights of Nabto's unpaired role that an unpaired key can have here at all."""
    notes.unknown(config, "UnpairedRole")
    node = config.get("UnpairedRole")
    grants: _Grants = ()
    if node is None:
        notes.add(config, "no role for unpaired keys is named; they may do nothing but look")
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
                f"an unpaired key may do nothing here but look and redeem an invite, so not "
                f"{', '.join(sorted(lost))}; only users with this role may",
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
            "roles have a rank here, and no one changes or grants one that is higher than their "
            f"own: {ranks}. All are below handfast's own roles, and none is owner; a person "
            "at the device makes a user an owner",
        )
