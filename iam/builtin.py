"""The roles and policies every device has.

One table says, for each action, the lowest role that may do it; a role may do what those below it
may. So there is one policy per step, and each role names its own and those below. An application's
actions follow the same scheme with policies of their own (`app-guest`, `app-user` …).
"""

from __future__ import annotations

from collections.abc import Mapping

from iam.errors import PolicyError
from iam.policy import ACTION, Effect, Policy, Role, Statement

OWNER, ADMIN, USER, GUEST, UNPAIRED = "owner", "admin", "user", "guest", "unpaired"
RANKS: Mapping[str, int] = {UNPAIRED: 0, GUEST: 10, USER: 20, ADMIN: 30, OWNER: 40}

LOWEST: Mapping[str, str] = {
    "Core:Discover": UNPAIRED,
    "Hello:Get": GUEST,
    "Board:Read": GUEST,
    "Iam:GetMe": GUEST,
    "Iam:ListRoles": USER,
    "Iam:ListPolicies": ADMIN,
    "Iam:ListUsers": ADMIN,
    "Iam:GetUser": ADMIN,
    "Iam:AddUser": ADMIN,
    "Iam:SetUser": ADMIN,
    "Iam:RemoveUser": ADMIN,
    "Iam:AddKey": ADMIN,
    "Iam:RemoveKey": ADMIN,
    "Pairing:OpenWindow": ADMIN,
    "Events:Read": ADMIN,
}
_MODULES = frozenset(action.partition(":")[0] for action in LOWEST)


def steps(prefix: str, lowest: Mapping[str, str]) -> tuple[Policy, ...]:
    """One policy per role of ours, allowing the actions for which that role is the lowest."""
    found = []
    for step in RANKS:
        actions = tuple(sorted(action for action, role in lowest.items() if role == step))
        statements = (Statement(Effect.ALLOW, actions),) if actions else ()
        found.append(Policy(f"{prefix}-{step}", statements))
    return tuple(found)


def _up_to(prefix: str, role: str) -> tuple[str, ...]:
    return tuple(f"{prefix}-{lower}" for lower, rank in RANKS.items() if rank <= RANKS[role])


ROLES = tuple(Role(role, rank, _up_to("core", role)) for role, rank in RANKS.items())
POLICIES = steps("core", LOWEST)


def app_policies(actions: Mapping[str, str]) -> tuple[Policy, ...]:
    """Policies for an application's own actions, {action: lowest role that gets it by default}.

    Raises PolicyError for an action in one of our modules (it could widen a right of ours), and for
    `unpaired` as the lowest role: a key that nobody has never reaches an application.
    """
    ours = {action for action, role in actions.items() if LOWEST.get(action) == role}
    for action, role in actions.items():
        if action in ours:
            continue
        if not ACTION.fullmatch(action):
            raise PolicyError(f"{action!r} is not an action", advice="Write Module:Verb.")
        if action.partition(":")[0] in _MODULES:
            raise PolicyError(
                f"{action} is in a module of handfast's own", advice="Choose another module name."
            )
        if role not in RANKS or role == UNPAIRED:
            raise PolicyError(
                f"{action} cannot be given to role {role!r}",
                advice="The lowest role is one of guest, user, admin, owner.",
            )
    return steps("app", {a: role for a, role in actions.items() if a not in ours})


def app_policy_names(role: str) -> tuple[str, ...]:
    """The application policies a role of ours has; none for roles made by a configuration."""
    return _up_to("app", role) if role in RANKS else ()
