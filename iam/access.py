"""Who is this key, and may it do that? The question every request asks, answered with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from iam.builtin import LOWEST, OWNER, POLICIES, ROLES, UNPAIRED, app_policies, app_policy_names
from iam.errors import PolicyError
from iam.model import Lapse, State, Subject
from iam.policy import Decision, Policy, Role, evaluate

_T = TypeVar("_T", Role, Policy)

_NO_USER = {
    Lapse.NONE: "This key is not paired with this device; pair it first.",
    Lapse.EXPIRED: "Your access has ended; ask an owner to extend it.",
    Lapse.NOT_YET: "Your access has not begun yet.",
}


def _by_id(what: str, values: Iterable[_T]) -> dict[str, _T]:
    found: dict[str, _T] = {}
    for value in values:
        if value.id in found:
            raise PolicyError(f"{what} {value.id!r} is defined twice", advice="Remove one of them.")
        found[value.id] = value
    return found


class Access:
    """Roles and policies that fit together. It never changes; a new set is a new Access.

    `app_actions` are an application's own actions, each with the lowest role that gets it by
    default. Raises PolicyError for a set that contradicts itself.
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
        self.roles: Mapping[str, Role] = MappingProxyType(
            _by_id(
                "role",
                (replace(r, policies=r.policies + app_policy_names(r.id)) for r in roles),
            )
        )
        self.actions = frozenset(LOWEST) | frozenset(app_actions)
        self._policies_of: dict[str, tuple[Policy, ...]] = {}
        for role in self.roles.values():
            if unknown := [name for name in role.policies if name not in self.policies]:
                raise PolicyError(f"role {role.id!r} names the unknown policy {unknown[0]!r}")
            self._policies_of[role.id] = tuple(self.policies[name] for name in role.policies)
        if missing := {OWNER, UNPAIRED} - self.roles.keys():
            raise PolicyError(f"the role {min(missing)!r} is not defined", advice="Define it.")

    def subject(self, state: State, fingerprint: str, now: float) -> Subject:
        """Who this key is at this time. A user whose time is not now is an unpaired subject."""
        user = state.user_of(fingerprint)
        if user is None:
            return Subject(fingerprint, None, UNPAIRED)
        if user.start <= now < user.end:
            return Subject(fingerprint, user, user.role)
        lapse = Lapse.EXPIRED if now >= user.end else Lapse.NOT_YET
        return Subject(fingerprint, None, UNPAIRED, lapse)

    def decide(self, subject: Subject, action: str) -> Decision:
        """May this subject do this? A role that the configuration does not know may do nothing."""
        if (policies := self._policies_of.get(subject.role)) is None:
            return Decision(
                False,
                f"role {subject.role!r} is not defined",
                "Your role is not defined on this device; ask an owner.",
            )
        decision = evaluate(policies, action)
        who = f"role {subject.role!r}" + (f" ({subject.lapse})" if subject.lapse else "")
        missing = decision.missing
        if missing and subject.user is None:
            missing = _NO_USER[subject.lapse]
        return Decision(decision.allowed, f"{who}: {decision.reason}", missing)

    def actions_of(
        self, subject: Subject, known_actions: Iterable[str] | None = None
    ) -> tuple[str, ...]:
        """What this subject may do, of the given actions or of all that are known; sorted."""
        known = self.actions if known_actions is None else set(known_actions)
        return tuple(action for action in sorted(known) if self.decide(subject, action).allowed)
