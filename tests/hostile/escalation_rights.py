"""The expected rights of `test_privilege_escalation.py`, and the users and bodies of its calls."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from math import inf
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from iam.limits import IamLimits
from iam.model import User
from peer.identity import Identity
from tests.kit.device import HASTY
from tests.kit.documents import DOCS, Cddl

if TYPE_CHECKING:
    from collections.abc import Mapping


# ----------------------------------------------------------------------------------- policies

HOUSE_POLICY = """
[[policy]]
id = "install"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:GetMe", "Pairing:OpenWindow"]
[[policy]]
id = "guests-only"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:AddUser", "Iam:GetUser", "Iam:SetUser", "Iam:RemoveUser", "Iam:CreateInvite",
    "Iam:RemoveInvite", "Pairing:OpenWindow"]
conditions = [{ StringEquals = { "IAM:RoleId" = ["guest"] } }]
[[policy]]
id = "own-keys"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:GetUser", "Iam:AddKey", "Iam:RemoveKey"]
conditions = [{ StringEquals = { "IAM:Username" = ["${Connection:Username}"] } }]
[[policy]]
id = "audit"
[[policy.statement]]
effect = "Allow"
actions = ["Events:Read", "Iam:GetMe"]
[[role]]
id = "installer"
rank = 15
policies = ["core-unpaired", "install"]
[[role]]
id = "helper"
rank = 18
policies = ["core-unpaired", "core-guest", "guests-only"]
[[role]]
id = "auditor"
rank = 2
policies = ["core-unpaired", "audit"]
[[role]]
id = "user"
policies = ["core-unpaired", "core-guest", "core-user", "own-keys"]
"""
#: Middle ranks have every action, so that only their rank limits them; admins may not open windows.
WIDE_POLICY = """
[[policy]]
id = "all"
[[policy.statement]]
effect = "Allow"
actions = ["Iam:*", "Pairing:*"]
[[policy]]
id = "no-window"
[[policy.statement]]
effect = "Deny"
actions = ["Pairing:*"]
[[role]]
id = "installer"
rank = 25
policies = ["all"]
[[role]]
id = "helper"
rank = 18
policies = ["all"]
[[role]]
id = "admin"
policies = ["core-unpaired", "core-guest", "core-user", "core-admin", "no-window"]
"""
INVALID_POLICY = HOUSE_POLICY + '[[role]]\nid = "king"\nrank = 40\npolicies = []\n'

GUESTS_ONLY = frozenset(
    {
        "Iam:AddUser",
        "Iam:GetUser",
        "Iam:SetUser",
        "Iam:RemoveUser",
        "Iam:CreateInvite",
        "Iam:RemoveInvite",
        "Pairing:OpenWindow",
    }
)
EVERYTHING = GUESTS_ONLY | {"Iam:ListUsers", "Iam:AddKey", "Iam:RemoveKey", "Iam:ListInvites"}
ADMINISTRATION = EVERYTHING | {"Events:Read"}
OWN_KEYS = frozenset({"Iam:GetUser", "Iam:AddKey", "Iam:RemoveKey"})
BUILT_IN = {"unpaired": 0, "guest": 10, "user": 20, "admin": 30, "owner": 40}
Target = tuple[str, str]  # the name of a user and a role


@dataclass(frozen=True)
class RightsModel:
    """The expected meaning of a policy file: ranks, and the actions of each role."""

    text: str
    ranks: Mapping[str, int]
    always: Mapping[str, frozenset[str]]
    to_guests: Mapping[str, frozenset[str]] = field(default_factory=dict)
    to_self: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def may(self, user: User | None, action: str, *targets: Target) -> bool:
        """Whether the requester, whose access is active, may do this to all targets."""
        if user is None or user.role not in self.ranks:
            return False
        if action in self.always.get(user.role, ()):
            return True
        guests = action in self.to_guests.get(user.role, ())
        self_service = action in self.to_self.get(user.role, ())
        return bool(targets) and all(
            (guests and role == "guest") or (self_service and name == user.name)
            for name, role in targets
        )


ADMINISTRATORS = {"admin": ADMINISTRATION, "owner": ADMINISTRATION}
BUILT_IN_RIGHTS = RightsModel("", BUILT_IN, ADMINISTRATORS)
HOUSE_RIGHTS = RightsModel(
    HOUSE_POLICY,
    {**BUILT_IN, "installer": 15, "helper": 18, "auditor": 2},
    {
        **ADMINISTRATORS,
        "installer": frozenset({"Pairing:OpenWindow"}),
        "auditor": frozenset({"Events:Read"}),
    },
    to_guests={"helper": GUESTS_ONLY},
    to_self={"user": OWN_KEYS},
)
WIDE_RIGHTS = RightsModel(
    WIDE_POLICY,
    {**BUILT_IN, "installer": 25, "helper": 18},
    {
        "owner": ADMINISTRATION,
        "admin": ADMINISTRATION - {"Pairing:OpenWindow"},
        "installer": EVERYTHING,
        "helper": EVERYTHING,
    },
)

Reach = tuple[float, float]  # rank and end
CONSOLE: Reach = (inf, inf)
NO_REACH: Reach = (-inf, -inf)


def least(*reaches: Reach) -> Reach:
    return min(rank for rank, _ in reaches), min(end for _, end in reaches)


# -------------------------------------------------------------------------------------- users

BASE = 2_000_000_000.0
KEYS = tuple(Identity.create() for _ in range(18))
FINGERPRINTS = tuple(one.fingerprint.hex for one in KEYS)
#: Name, role and end of access. The key of each has the same index in KEYS; the other keys are
#: unknown to the device.
USERS: tuple[tuple[str, str, float | None], ...] = (
    ("olga", "owner", None),
    ("adam", "admin", None),
    ("edda", "admin", BASE + 200),
    ("hanna", "helper", BASE + 400),
    ("ines", "installer", None),
    ("uwe", "user", None),
    ("greta", "guest", BASE + 300),
    ("rita", "auditor", None),
    ("xaver", "admin", BASE - 1),
    ("otto", "owner", BASE + 250),
)
#: Users whose key is unverified, so that it cannot vouch for any key.
UNVERIFIED = frozenset({"uwe", "otto"})
NAMES = (*(name for name, _, _ in USERS), "nina", "leo")
WEIGHTED_CALLERS = (1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 10, 11, 12)

callers = st.sampled_from(WEIGHTED_CALLERS)
creators = st.sampled_from((1, 2, 3, 4, 9, 2, 3, 4, 1, 5, 0, 8, 6))
unknown_keys = st.sampled_from((*range(10, 18), 6, 8))
names = st.sampled_from(NAMES)
new_names = st.sampled_from(("nina", "leo", "leo-2", "adam", "zoe"))
roles = st.sampled_from(
    ("guest", "user", "admin", "owner", "installer", "helper", "admin", "owner", "auditor", "king")
)
ends = st.sampled_from((None, BASE + 150, BASE + 220, BASE + 350, BASE + 1000))
starts = st.sampled_from((None, None, BASE - 10, BASE + 100))
fingerprints = st.sampled_from((*FINGERPRINTS[10:], *FINGERPRINTS[:3], "ab" * 32))
methods = st.sampled_from(("PATCH", "iPATCH", "POST"))
rarely = st.sampled_from((False,) * 5 + (True,))
user_bodies = st.fixed_dictionaries({}, optional={"not_before": starts, "not_after": ends})
change_bodies = st.one_of(
    st.fixed_dictionaries({"role": roles}, optional={"not_after": ends}),
    st.fixed_dictionaries({"not_after": ends}, optional={"not_before": starts}),
    st.fixed_dictionaries({"name": new_names}, optional={"role": roles}),
    st.just({"display": "Display name"}),
)
invite_bodies = st.fixed_dictionaries(
    {"name": new_names},
    optional={
        "role": roles,
        "seconds": st.sampled_from((50, 1000)),
        "uses": st.sampled_from((1, 2)),
        "key": st.sampled_from(FINGERPRINTS[10:]),
        "not_after": ends,
    },
)

SUCCESS = {"2.01", "2.02", "2.04", "2.05"}
REFUSALS = {"4.00", "4.03", "4.04", "4.09", "4.29"}
LIMITS = replace(HASTY, window_failures=50, backoff_after=500)
IAM_LIMITS = IamLimits(users=16, keys_per_user=3, invites=5)


@cache
def cddl() -> Cddl:
    return Cddl((DOCS / "handfast.cddl").read_text())
