"""Users, keys, roles and policies of a handfast device, and the store that keeps them.

All values are immutable and all transitions are pure functions. Only `iam.store`, its files and
`iam.audit` use the disk; nothing here reads a clock, a socket or a random source.

- A request: `Access.subject(state, fingerprint, now)`, then `Access.decide(subject, action,
  attributes)`. `iam.config.load` reads the roles and policies of a device.
- A change: a function of `iam.changes` returns a new State, and `Store.commit` makes it durable.
"""

from iam.access import Access
from iam.audit import Break, Event, Record
from iam.changes import KEEP, Rules
from iam.condition import Condition, Operator
from iam.config import AccessConfig
from iam.errors import IamError, InviteRefused, StoreError
from iam.model import Invite, Key, State, Subject, User, changed_keys
from iam.policy import Decision, Effect, Explanation, Policy, Role, Statement
from iam.store import Store

__all__ = [
    "KEEP",
    "Access",
    "AccessConfig",
    "Break",
    "Condition",
    "Decision",
    "Effect",
    "Event",
    "Explanation",
    "IamError",
    "Invite",
    "InviteRefused",
    "Key",
    "Operator",
    "Policy",
    "Record",
    "Role",
    "Rules",
    "State",
    "Statement",
    "Store",
    "StoreError",
    "Subject",
    "User",
    "changed_keys",
]
