"""The roles and policies that every device has.

One table names the lowest role for each action; a higher role may do what lower ones may. So there
is one policy for each rank, and each role names its own and those below. The actions of an
application get policies of their own in the same way (`app-guest`, `app-user` …).
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
    "Remote:Connect": GUEST,
    "Remote:GetSettings": GUEST,
    "Iam:ListRoles": USER,
    "Tunnel:List": USER,
    "Tunnel:Connect": USER,
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

# Actions with a target: a user, a role, a key or a service that the request names.
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
        "Tunnel:Connect",
    }
)

# The most that a configuration may allow an unpaired key: it never reaches an application,
# nor anything of /iam except the invite that makes it paired.
UNPAIRED_ACTIONS = frozenset({"Core:Discover", "Iam:RedeemInvite", "Hello:Get", "Board:Read"})


def steps(prefix: str, lowest: Mapping[str, str]) -> tuple[Policy, ...]:
    """Return one policy for each built-in role, with the actions for which it is the lowest."""
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
    """Return the first pattern that allows an unpaired key too much, or an empty text.

    `Module:*` counts as all actions of that module.
    """
    for statement in policy.statements:
        for pattern in statement.actions if statement.effect is Effect.ALLOW else ():
            meant = {action for action in LOWEST if matches(pattern, action)} or {pattern}
            if not meant <= UNPAIRED_ACTIONS:
                return pattern
    return ""


def app_policies(actions: Mapping[str, str]) -> tuple[Policy, ...]:
    """Return the policies for an application's actions, {action: lowest role}.

    Raises PolicyError for an action in a reserved module, which could widen a built-in right, and
    for `unpaired` as the lowest role: requests of unknown keys never reach an application.
    """
    ours = {action for action, role in actions.items() if LOWEST.get(action) == role}
    for action, role in actions.items():
        if action in ours:
            continue
        if not ACTION.fullmatch(action):
            raise PolicyError(f"{action!r} is not an action", advice="Write Module:Verb.")
        if action.partition(":")[0] in _MODULES:
            raise PolicyError(
                f"{action} is in a reserved module", advice="Choose another module name."
            )
        if role not in RANKS or role == UNPAIRED:
            raise PolicyError(
                f"{action} cannot be given to role {role!r}",
                advice="The lowest role is one of guest, user, admin, owner.",
            )
    return steps("app", {a: role for a, role in actions.items() if a not in ours})
