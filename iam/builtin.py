"""The roles and policies every device has.

One table says, for each action, the lowest role that may do it; a role may do what those below it
may. So there is one policy per step, and each role names its own and those below. An application's
actions follow the same scheme with policies of their own (`app-guest`, `app-user` …).
"""

from __future__ import annotations

from collections.abc import Mapping

from iam.errors import PolicyError
from iam.policy import ACTION, Effect, Policy, Role, Statement, matches

OWNER, ADMIN, USER, GUEST, UNPAIRED = "owner", "admin", "user", "guest", "unpaired"
RANKS: Mapping[str, int] = {UNPAIRED: 0, GUEST: 10, USER: 20, ADMIN: 30, OWNER: 40}

LOWEST: Mapping[str, str] = {
    "Core:Discover": UNPAIRED,
    "Iam:RedeemInvite": UNPAIRED,
    "Hello:Get": GUEST,
    "Board:Read": GUEST,
    "Iam:GetMe": GUEST,
    "Iam:Check": GUEST,
    "Iam:ListRoles": USER,
    "Iam:ListPolicies": ADMIN,
    "Iam:ListUsers": ADMIN,
    "Iam:GetUser": ADMIN,
    "Iam:AddUser": ADMIN,
    "Iam:SetUser": ADMIN,
    "Iam:RemoveUser": ADMIN,
    "Iam:AddKey": ADMIN,
    "Iam:RemoveKey": ADMIN,
    "Iam:CreateInvite": ADMIN,
    "Iam:ListInvites": ADMIN,
    "Iam:RemoveInvite": ADMIN,
    "Pairing:OpenWindow": ADMIN,
    "Events:Read": ADMIN,
}
_MODULES = frozenset(action.partition(":")[0] for action in LOWEST)

# What is about somebody: a user, a role or a key that the request names.
TARGETED = frozenset(
    {
        "Iam:GetUser",
        "Iam:AddUser",
        "Iam:SetUser",
        "Iam:RemoveUser",
        "Iam:AddKey",
        "Iam:RemoveKey",
        "Iam:CreateInvite",
        "Iam:RemoveInvite",
        "Pairing:OpenWindow",
    }
)

# The most that a configuration may let a key do that nobody has: it never reaches an application,
# nor anything of /iam but the invite that makes it somebody's.
UNPAIRED_ACTIONS = frozenset({"Core:Discover", "Iam:RedeemInvite", "Hello:Get", "Board:Read"})


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


ROLES = tuple(
    Role(role, rank, _up_to("core", role) + _up_to("app", role)) for role, rank in RANKS.items()
)
POLICIES = steps("core", LOWEST)


def beyond_unpaired(policy: Policy) -> str:
    """The first pattern by which this policy would let an unpaired key do too much; or nothing.

    `Module:*` is as good as all the actions of that module that there are.
    """
    for statement in policy.statements:
        for pattern in statement.actions if statement.effect is Effect.ALLOW else ():
            meant = {action for action in LOWEST if matches(pattern, action)} or {pattern}
            if not meant <= UNPAIRED_ACTIONS:
                return pattern
    return ""


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
