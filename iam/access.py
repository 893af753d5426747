"""Decisions about requests: the subject of a key, what it may do, and the reason.

Attributes of the subject are set here and replace any that the caller passes under the same names.
The caller passes those of the connection, the target and the application (`iam.attributes`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from iam.attributes import CLOCK, IS_LOCAL, NO_ATTRIBUTES, OF_SUBJECT, OF_TARGET, Attributes, is_own
from iam.builtin import (
    LOWEST,
    OWNER,
    POLICIES,
    ROLES,
    TARGETED,
    UNPAIRED,
    app_policies,
    beyond_unpaired,
)
from iam.condition import nothing
from iam.errors import PolicyError
from iam.limits import SETTLED_DECISIONS_MAX
from iam.model import Inactive, State, Subject
from iam.policy import Decision, Explanation, Policy, Role
from iam.policy_index import Index

_T = TypeVar("_T", Role, Policy)
_SettledBy = tuple[str, str, str, bool]  # role, action, why inactive, and whether there is a user

_NO_USER = {
    Inactive.NONE: "This key is not paired with this device; pair it first.",
    Inactive.EXPIRED: "Your access has ended; ask an owner to extend it.",
    Inactive.NOT_YET: "Your access has not begun yet.",
}


def _by_id(what: str, values: Iterable[_T]) -> dict[str, _T]:
    found: dict[str, _T] = {}
    for value in values:
        if value.id in found:
            raise PolicyError(f"{what} {value.id!r} is defined twice", advice="Remove one of them.")
        found[value.id] = value
    return found


class Access:
    """A consistent set of roles and policies. Immutable: another set is another Access.

    Args:
        roles: all roles, `owner` and `unpaired` among them.
        policies: all policies that the roles name, except those of the application.
        app_actions: the actions of an application, each with the lowest role that gets it by
            default.

    Raises:
        PolicyError: the set contradicts itself.
    """

    def __init__(
        self,
        roles: Iterable[Role] = ROLES,
        policies: Iterable[Policy] = POLICIES,
        *,
        app_actions: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.policies: Mapping[str, Policy] = MappingProxyType(
            _by_id("policy", (*policies, *app_policies(app_actions)))
        )
        self.roles: Mapping[str, Role] = MappingProxyType(_by_id("role", roles))
        self.actions = frozenset(LOWEST) | frozenset(app_actions)
        self._app_actions = frozenset(app_actions)
        self._of_role: dict[str, Index] = {}
        self._settled: dict[_SettledBy, Decision] = {}
        for role in self.roles.values():
            if unknown := [name for name in role.policies if name not in self.policies]:
                raise PolicyError(f"role {role.id!r} names the unknown policy {unknown[0]!r}")
            self._of_role[role.id] = Index(self.policies[name] for name in role.policies)
        if missing := {OWNER, UNPAIRED} - self.roles.keys():
            raise PolicyError(f"the role {min(missing)!r} is not defined", advice="Define it.")
        for name in self.roles[UNPAIRED].policies:
            if pattern := beyond_unpaired(self.policies[name]):
                raise PolicyError(
                    f"policy {name!r} would let a key that is not paired do {pattern}",
                    advice=f"Take it from the role {UNPAIRED!r}.",
                )

    def parts(self) -> list[object]:
        """Return the objects of this set, the innermost first.

        A caller that keeps this list, drops the set, and then shortens the list from its end frees
        the set a little at a time.
        """
        policies = self.policies.values()
        statements = [one for policy in policies for one in policy.statements]
        conditions = (one for statement in statements for one in statement.conditions)
        placed = (part for index in self._of_role.values() for part in index.parts())
        return [*conditions, *statements, *policies, *placed]

    def subject(self, state: State, fingerprint: str, now: float) -> Subject:
        """Return the subject of this key at this time (seconds since 1970).

        A user whose access has not begun or has ended is an unpaired subject.
        """
        user = state.user_of(fingerprint)
        if user is None:
            return Subject(fingerprint, None, UNPAIRED)
        if user.start <= now < user.end:
            return Subject(fingerprint, user, user.role)
        inactive = Inactive.EXPIRED if now >= user.end else Inactive.NOT_YET
        return Subject(fingerprint, None, UNPAIRED, inactive)

    def decide(
        self, subject: Subject, action: str, attributes: Attributes = NO_ATTRIBUTES
    ) -> Decision:
        """Decide whether the subject may perform the action; an undefined role may do nothing."""
        return self._decide(subject, action, attributes, nothing)

    def settled(self, subject: Subject, action: str) -> Decision | None:
        """Return the decision if no statement about the action has a condition, else None.

        Then it is the decision for all attributes. It is remembered, since this set never changes.
        """
        by = (subject.role, action, subject.inactive._value_, subject.user is not None)
        if (known := self._settled.get(by)) is not None:
            return known
        if (index := self._of_role.get(subject.role)) is None or index.is_conditional(action):
            return None
        decision = index.evaluate(action, who=_who(subject))
        if not decision.allowed and subject.user is None:
            decision = replace(decision, missing=_NO_USER[subject.inactive])
        if len(self._settled) >= SETTLED_DECISIONS_MAX:
            self._settled.clear()
        self._settled[by] = decision
        return decision

    def conceivable(
        self,
        subject: Subject,
        action: str,
        attributes: Attributes = NO_ATTRIBUTES,
        *,
        unknown: Collection[str] = (),
    ) -> Decision:
        """Decide whether the subject may perform the action on any target at all.

        For a check before the request is parsed. Attributes of the target, and those in `unknown`,
        count as open where they are absent. A denial is final whatever their values turn out to be;
        an allowance has to be confirmed by `decide`.
        """

        def is_open(name: str) -> bool:
            return name in OF_TARGET or (name in unknown and name not in OF_SUBJECT)

        return self._decide(subject, action, attributes, is_open)

    def depends_on(
        self, subject: Subject, action: str, attributes: Attributes = NO_ATTRIBUTES
    ) -> tuple[str, ...]:
        """Return the attributes that only a request has and that decide about this action, sorted.

        They are those of its target and of the resource. If there are none, `decide` is certain.
        """
        if (index := self._of_role.get(subject.role)) is None:
            return ()
        is_open = self._open_to_requests(subject, action)
        return index.depends_on(action, _filled(subject, attributes), is_open)

    def explain(
        self, subject: Subject, action: str, attributes: Attributes = NO_ATTRIBUTES
    ) -> Explanation:
        """Return what `decide` says or depends on, and every statement that could apply."""
        decision = self.decide(subject, action, attributes)
        if (index := self._of_role.get(subject.role)) is None:
            return Explanation(decision)
        found = self.depends_on(subject, action, attributes)
        if found:
            reason = f"role {subject.role!r}: it depends on {', '.join(found)}"
            decision = Decision(False, reason, dependency_message(found))
        is_open = self._open_to_requests(subject, action)
        steps = tuple(index.steps(action, _filled(subject, attributes), is_open))
        return Explanation(decision, steps, found)

    def actions_of(
        self,
        subject: Subject,
        known: Iterable[str] | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> tuple[str, ...]:
        """Return the actions that this subject may perform whatever the request is about, sorted.

        Args:
            subject: who asks.
            known: the actions to look at; None for all that are defined.
            attributes: those of the connection.
        """
        asked = self.actions if known is None else set(known)
        return tuple(a for a in sorted(asked) if self._is_certain(subject, a, attributes))

    def conditional_of(
        self, subject: Subject, attributes: Attributes = NO_ATTRIBUTES
    ) -> tuple[str, ...]:
        """Return the actions that this subject can perform only under other circumstances, sorted.

        For example over another path, at another time, on some targets or for some resources.
        """
        return tuple(
            action
            for action in sorted(self.actions)
            if not self._is_certain(subject, action, attributes)
            and self._decide(subject, action, NO_ATTRIBUTES, _is_circumstance).allowed
        )

    def rights(self, role: str) -> Hashable:
        """Return a value that is equal for two sets in which the role has the same rights."""
        if (known := self.roles.get(role)) is None:
            return None
        statements = (self.policies[name].statements for name in known.policies)
        return known.rank, frozenset(one for some in statements for one in some)

    def _is_certain(self, subject: Subject, action: str, attributes: Attributes) -> bool:
        if (index := self._of_role.get(subject.role)) is None:
            return False
        is_open = self._open_to_requests(subject, action)
        return index.surely_allows(action, _filled(subject, attributes), is_open)

    def _open_to_requests(self, subject: Subject, action: str) -> Callable[[str], bool]:
        """Return a test for the attributes that a request for this action can still bring.

        Those of its target, and those of an application, which gets no requests of unknown keys.
        """
        has_target = action in TARGETED
        is_apps = subject.user is not None and (action in self._app_actions or action not in LOWEST)
        return lambda name: has_target if name in OF_TARGET else is_apps and not is_own(name)

    def _decide(
        self,
        subject: Subject,
        action: str,
        attributes: Attributes,
        is_open: Callable[[str], bool],
    ) -> Decision:
        if (index := self._of_role.get(subject.role)) is None:
            return Decision(
                False,
                f"role {subject.role!r} is not defined",
                "Your role is not defined on this device; ask an owner.",
            )
        if (settled := self.settled(subject, action)) is not None:
            return settled
        attributes = _filled(subject, attributes)
        decision = index.evaluate(action, attributes, is_open, _who(subject))
        if decision.allowed:
            return decision
        if subject.user is None:
            return replace(decision, missing=_NO_USER[subject.inactive])
        hint = _hint(index, action, attributes, is_open)
        return replace(decision, missing=hint) if hint else decision


def _who(subject: Subject) -> str:
    """The beginning of the reason for a decision about this subject."""
    if subject.inactive is Inactive.NONE:
        return f"role {subject.role!r}: "
    return f"role {subject.role!r} ({subject.inactive}): "


def dependency_message(names: Iterable[str]) -> str:
    """Return what the subject is told about the attributes that the decision depends on."""
    return f"It depends on {', '.join(names)}, which is known only with the request."


def _is_circumstance(name: str) -> bool:
    return name not in OF_SUBJECT


def _filled(subject: Subject, attributes: Attributes) -> Attributes:
    """The attributes with those of the subject, which replace any that were passed."""
    found = dict(attributes)
    if not OF_SUBJECT.isdisjoint(found):
        found = {name: text for name, text in found.items() if name not in OF_SUBJECT}
    found["Connection:RoleId"] = subject.role
    found["Connection:Fingerprint"] = subject.fingerprint
    if subject.user is not None:
        found["Connection:Username"] = subject.user.name
        for key in subject.user.keys:
            if key.fingerprint == subject.fingerprint:
                found["Connection:KeyName"] = key.name
                found["Connection:Method"] = key.method
                found["Connection:Verified"] = "true" if key.verified else "false"
    return found


def _hint(index: Index, action: str, attributes: Attributes, is_open: Callable[[str], bool]) -> str:
    """The hint for a subject that lacks only the path or the time; else an empty text."""

    def is_open_or_clock(name: str) -> bool:
        return name == CLOCK or is_open(name)

    if index.evaluate(action, {**attributes, IS_LOCAL: "true"}, is_open).allowed:
        return f"You have the right {action} only from the device's own network."
    timeless = {name: text for name, text in attributes.items() if name != CLOCK}
    if index.evaluate(action, timeless, is_open_or_clock).allowed:
        unknown = "" if CLOCK in attributes else ": the device does not know the time"
        return f"You have the right {action}, but not at this time{unknown}."
    return ""
