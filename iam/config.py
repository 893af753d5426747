"""Roles and policies as files: strict TOML in, an AccessConfig out.

    [[policy]]
    id = "lan-only"

    [[policy.statement]]
    effect = "Allow"
    actions = ["Hello:*"]
    conditions = [{ Bool = { "Connection:IsLocal" = ["true"] } }]

    [[role]]
    id = "installer"
    rank = 15
    policies = ["core-unpaired", "lan-only"]

Anything else is an error with file, line and reason, so that no rule is ignored silently. Several
files form one set. The policies `core-…` and `app-…` are built in and always exist. A built-in role
can be given another list of policies, which replaces the built-in one; its rank is fixed. Other
roles rank from 1 up to just below the owner.

No file is opened here: the caller reads them and passes names and texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, ParamSpec, TypeVar

from iam import policy_budget
from iam.access import Access
from iam.builtin import OWNER, POLICIES, RANKS, ROLES, UNPAIRED, beyond_unpaired
from iam.condition import Condition, Operator, check_attribute
from iam.errors import PolicyError
from iam.limits import (
    CONDITION_VALUES_MAX,
    LIST_ENTRIES_MAX,
    STATEMENT_ACTIONS_MAX,
    STATEMENT_CONDITIONS_MAX,
)
from iam.policy import Effect, Policy, Role, Statement, matches
from iam.policy_warnings import warnings_of
from iam.toml_nodes import TomlNode, read

ID: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
ID_ADVICE: Final = "Start with a letter; then letters, digits, '.', '_' and '-', 64 at most."
_BUILT_IN_PREFIXES: Final = ("core-", "app-")


_Options = ParamSpec("_Options")
_Made = TypeVar("_Made")
_Member = TypeVar("_Member", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """All roles and policies, the built-in ones included.

    `warnings` lists ("FILE:LINE: …") what is valid but probably not meant.
    """

    roles: tuple[Role, ...] = ROLES
    policies: tuple[Policy, ...] = POLICIES
    warnings: tuple[str, ...] = ()
    _patterns: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)

    def access(self, app_actions: Mapping[str, str] = MappingProxyType({})) -> Access:
        """Return these rules with an application's actions. Raises PolicyError."""
        return Access(self.roles, self.policies, app_actions=app_actions)

    def unknown_actions(self, known: Collection[str]) -> tuple[str, ...]:
        """Return a message "FILE:LINE: …" for each action that matches none of `known`."""
        return tuple(
            f"{node}: no resource asks for the action {pattern}"
            for node, pattern in self._patterns
            if not any(matches(pattern, action) for action in known)
        )


def load(files: Iterable[tuple[str, str]]) -> AccessConfig:
    """Read these files, (name, text). Raises PolicyFileError for the first error."""
    reading = _Reading()
    for file, text in files:
        reading.take(read(text, file=file))
    return reading.access_config()


def _identifier(node: TomlNode, what: str) -> str:
    if not ID.fullmatch(found := node.text(what)):
        raise node.error(f"{found[:80]!r} cannot be {what}", ID_ADVICE)
    return found


def _explained(
    node: TomlNode,
    make: Callable[_Options, _Made],
    *values: _Options.args,
    **options: _Options.kwargs,
) -> _Made:
    """Make a value; an error in it is an error at this node."""
    try:
        return make(*values, **options)
    except PolicyError as error:
        raise node.error(str(error), error.advice) from error


# ------------------------------------------------------------------------------------- all files


class _Reading:
    """The policies and roles that were read so far."""

    def __init__(self) -> None:
        self._policies: dict[str, tuple[TomlNode, Policy]] = {}
        self._roles: dict[str, tuple[TomlNode, Role]] = {}
        self._named: list[tuple[TomlNode, str, str]] = []  # node, role, policy
        self._patterns: dict[tuple[str, str], None] = {}
        self._warnings: list[str] = []
        self._budget = policy_budget.Budget()

    def take(self, file: TomlNode) -> None:
        """Read one file; names are resolved when all files are read.

        Its tables are taken out, so that they are freed one by one: freeing a thousand at once
        would hold up the other threads.
        """
        found = file.table("the file", ("policy", "role"))
        for key, take in (("policy", self._policy), ("role", self._role)):
            if key in found:
                nodes = found[key].list_of(f"[[{key}]]", LIST_ENTRIES_MAX)
                nodes.reverse()
                while nodes:
                    take(nodes.pop())

    def _count(self, node: TomlNode, what: str, number: int = 1) -> None:
        if why := self._budget.add(what, number):
            raise node.error(why, "Make the policies shorter, or remove some.")

    def access_config(self) -> AccessConfig:
        """Resolve all names. Raises PolicyFileError."""
        known = {one.id: one for one in POLICIES} | {n: p for n, (_, p) in self._policies.items()}
        for node, role, name in self._named:
            if name not in known and not _is_app_policy(name):
                raise node.error(
                    f"role {role!r} names the unknown policy {name[:80]!r}",
                    "Define it in a [[policy]], or correct the name.",
                )
            if role == UNPAIRED:
                _check_unpaired(node, name, known.get(name))
        costed = {name: policy_budget.costed(policy) for name, policy in known.items()}
        for node, defined in self._roles.values():
            named = [one for name in defined.policies for one, _ in costed.get(name, ())]
            self._count(node, "actions of roles", sum(len(one.actions) for one in named))
            if why := policy_budget.excess(defined, costed):
                raise node.error(why, "Give the role fewer statements, or shorter conditions.")
        mine = {name: role for name, (_, role) in self._roles.items()}
        ours = tuple(mine.pop(role.id, role) for role in ROLES)
        return AccessConfig(
            (*ours, *mine.values()),
            tuple(known.values()),
            tuple(self._warnings),
            tuple(self._patterns),
        )

    def _policy(self, node: TomlNode) -> None:
        self._count(node, "policies")
        found = node.table("a policy", ("id", "statement"))
        where = node.required(found, "id", "this policy")
        name = _identifier(where, "a policy's id")
        if name.lower().startswith(_BUILT_IN_PREFIXES):
            raise where.error(f"policy {name!r} is built in", "Choose another id.")
        if name in self._policies:
            first = self._policies[name][0]
            raise where.error(f"policy {name!r} is defined twice, first at {first}", "Rename one.")
        listed = node.required(found, "statement", "this policy").list_of(
            "[[policy.statement]]", LIST_ENTRIES_MAX
        )
        self._policies[name] = (where, Policy(name, tuple(map(self._statement, listed))))

    def _statement(self, node: TomlNode) -> Statement:
        self._count(node, "statements")
        found = node.table("a statement", ("effect", "actions", "conditions"))
        effect = _one_of(node.required(found, "effect", "this statement"), Effect, "an effect")
        actions = node.required(found, "actions", "this statement").list_of(
            "actions", STATEMENT_ACTIONS_MAX
        )
        self._count(node, "actions", len(actions))
        patterns = tuple(map(self._action, actions))
        conditions: tuple[Condition, ...] = ()
        if "conditions" in found:
            listed = found["conditions"].list_of("conditions", STATEMENT_CONDITIONS_MAX)
            conditions = tuple(self._condition(one, effect) for one in listed)
        return Statement(effect, patterns, conditions)

    def _action(self, node: TomlNode) -> str:
        pattern = node.text("an action")
        _explained(node, Statement, Effect.DENY, (pattern,))
        self._patterns.setdefault((str(node), pattern))
        return pattern

    def _condition(self, node: TomlNode, effect: Effect) -> Condition:
        name, inner = node.single_entry("a condition")
        operator = _one_of(inner, Operator, "an operator", name)
        attribute, listed = inner.single_entry(f"what {operator} compares")
        _explained(listed, check_attribute, attribute)
        values = []
        given = listed.list_of("values", CONDITION_VALUES_MAX)
        self._count(listed, "values", len(given))
        for one in given:  # one by one, for the line of each
            values.append(one.text("a value"))
            _explained(one, Condition, operator, attribute, (values[-1],))
        condition = Condition(operator, attribute, tuple(values))
        self._warn(inner, effect, condition)
        return condition

    def _warn(self, node: TomlNode, effect: Effect, condition: Condition) -> None:
        what = f"{condition.operator} {condition.attribute}"
        found = warnings_of(effect, condition)
        self._warnings += [f"{node}: {what}: {warning}" for warning in found]

    def _role(self, node: TomlNode) -> None:
        self._count(node, "roles")
        found = node.table("a role", ("id", "rank", "policies"))
        where = node.required(found, "id", "this role")
        name = _identifier(where, "a role's id")
        if name in self._roles:
            first = self._roles[name][0]
            raise where.error(f"role {name!r} is defined twice, first at {first}", "Rename one.")
        if name not in RANKS and name.lower() in RANKS:
            self._warnings.append(f"{where}: role {name!r} is not the built-in {name.lower()!r}")
        rank = _rank(node, name, found)
        policies = {}
        listed = node.required(found, "policies", "this role").list_of(
            "policies", LIST_ENTRIES_MAX, least=0
        )
        self._count(node, "policies of roles", len(listed))
        for one in listed:
            policy = one.text("a policy's id")
            if policy in policies:
                raise one.error(f"role {name!r} names policy {policy[:80]!r} twice", "Remove one.")
            policies[policy] = one
        self._named += [(one, name, policy) for policy, one in policies.items()]
        self._roles[name] = (where, Role(name, rank, tuple(policies)))


def _one_of(node: TomlNode, kind: type[_Member], what: str, name: str | None = None) -> _Member:
    text = node.text(what) if name is None else name
    known = [member.value for member in kind]
    if text not in known:
        raise node.error(f"{text[:80]!r} is not {what}", f"Choose from: {', '.join(known)}.")
    return kind(text)


def _rank(node: TomlNode, name: str, found: Mapping[str, TomlNode]) -> int:
    fixed = RANKS.get(name)
    if fixed is not None and "rank" not in found:
        return fixed
    where = node.required(found, "rank", "this role")
    rank, top = where.value, RANKS[OWNER] - 1
    if isinstance(rank, bool) or not isinstance(rank, int):
        raise where.error("rank has to be a whole number", f"Give 1 to {top}.")
    if fixed is not None and rank != fixed:
        raise where.error(f"the rank of {name!r} is fixed at {fixed}", "Leave the rank out.")
    if fixed is None and not 1 <= rank <= top:
        raise where.error(f"rank {rank} is not from 1 to {top}", "An owner ranks above all.")
    return rank


def _is_app_policy(name: str) -> bool:
    """True for a policy for an application's actions, which are known only later."""
    return name.startswith("app-") and name.removeprefix("app-") in RANKS


def _check_unpaired(node: TomlNode, name: str, policy: Policy | None) -> None:
    above = "an application" if policy is None else beyond_unpaired(policy)
    if above and name != f"app-{UNPAIRED}":
        raise node.error(
            f"policy {name!r} would let a key that is not paired reach {above}",
            f"Take it from the role {UNPAIRED!r}.",
        )
