"""Nabto's IAM configuration (version 1) as roles and policies of handfast.

    {"Version": 1, "Config": {"UnpairedRole": role},
     "Roles": [{"Id", "Policies": [policy …]} …],
     "Policies": [{"Id", "Statements": [{"Effect", "Actions": [action …],
                                         "Conditions": [{operator: {attribute: [value …]}} …]}]}]}

Both languages are similar: deny overrides, default is deny, conditions are AND-ed, values OR-ed, an
absent attribute never matches. Where they differ, the import keeps Nabto's result:

- An action with a `*` is a name like any other in Nabto and matches nothing; in handfast it would
  match a whole module. It is left out.
- A negative operator with several values holds in Nabto as soon as *one* differs. Such a statement
  is written once for each value.
- A value that is not of the operator's kind makes Nabto deny everything, even if the statement
  itself is left out. For Bool, a deny is written for that. For numbers, every statement that allows
  the action to that role requires a number there, of 15 characters at most: Nabto compares doubles.
- A role can get another name (`nabto-owner`), so a comparison of roles with anything but names of
  roles cannot be imported. The name of a role that the file does not define matches no role, and no
  imported role can grant it.
- Nabto's roles have no rank. All imported roles rank below handfast's own, so that no user can
  grant a right that the configuration does not have; among themselves, a role that may do more of
  the user administration ranks higher.
- Unpaired keys may do little in handfast (`iam.builtin`); pairing uses windows and invites, not
  rights.

A part that cannot be expressed is left out of an allow, and a condition that cannot be expressed
is left out of a deny: both only take rights away. Each time a note says so. Errors in the file are
rejected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from iam.config import ID, ID_ADVICE, load
from iam.errors import PolicyFileError
from iam.limits import NABTO_GRANTS_MAX, NABTO_NAME_CHARACTERS_MAX, NABTO_ROLES_MAX
from iam.nabto.counterparts import is_carried, policy_id, role_id
from iam.nabto.grants import Grant, NumberNeeded, simple
from iam.nabto.json_nodes import JsonNode, read, shown
from iam.nabto.roles import NabtoPolicy, our_roles, shared_policy, unpaired_role
from iam.nabto.statements import Notes, read_statement
from iam.policy import Policy, Role
from iam.policy_toml import to_toml


@dataclass(frozen=True, slots=True)
class Imported:
    """A configuration of handfast.

    Attributes:
        policy_toml: the same as a file for `policy.d`.
        roles: `unpaired` and those of the file.
        policies: what the roles name and is not built in.
        notes: what could not be imported.
        role_ids: the name in handfast of each role of the file.
    """

    policy_toml: str
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
    roles, extra = our_roles(root.required("Roles"), named, theirs, {one.id for one in kept}, notes)
    unpaired, stranger = unpaired_role(root.required("Config"), named, theirs, notes)
    in_use = {policy for role in roles for policy in role.policies}
    kept = [policy for policy in kept if policy.id in in_use]
    policies = (unpaired, shared_policy(role_ids.values()), *kept, *extra)
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
            f"the version is {node.value}, and this import reads {known}",
            "Update handfast, or save the file with a release of Nabto Edge that writes this form.",
        )
    return node.value


def read_name(node: JsonNode) -> str:
    """Return the name of a role or policy, which has to be valid here, too."""
    name = node.text()
    if len(name) > NABTO_NAME_CHARACTERS_MAX or not ID.fullmatch(name):
        raise node.error(
            "this cannot be a name in handfast",
            f"{ID_ADVICE} For an import, {NABTO_NAME_CHARACTERS_MAX} at most.",
        )
    return name


def _role_ids(node: JsonNode) -> dict[str, str]:
    """The name in handfast of each role of the file."""
    found: dict[str, str] = {}
    for role in node.items():
        name = _new_name(role.required("Id"), found)
        found[name] = role_id(name)
    if len(found) > NABTO_ROLES_MAX:
        raise node.error(f"there are more than {NABTO_ROLES_MAX} roles", "Remove some.")
    if len({*found.values()}) < len(found):
        raise node.error("two roles would get the same name", "Rename the one called nabto-….")
    return found


def _policies(node: JsonNode, role_ids: Mapping[str, str], notes: Notes) -> dict[str, NabtoPolicy]:
    found: dict[str, NabtoPolicy] = {}
    for policy in node.items():
        notes.unknown(policy, "Id", "Statements")
        name = _new_name(policy.required("Id"), found)
        statements = policy.required("Statements").items()
        said = [said for one in statements for said in read_statement(one, role_ids, notes)]
        grants = tuple(one for one in said if isinstance(one, Grant))
        found[name] = NabtoPolicy(
            grants, tuple(one for one in said if isinstance(one, NumberNeeded))
        )
        if not any(not one.is_iam or is_carried(one.action) for one in grants):
            notes.add(policy, "nothing of this policy can be imported; it is left out")
        elif policy_id(name) != name:
            notes.add(policy, f"the imported policy is {policy_id(name)}")
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
