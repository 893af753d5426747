"""Who may do what: users, keys, roles, policies and the store that remembers them.

Plain values and pure functions; only `iam.store`, `iam.openfile` and `iam.audit` touch the disk,
and nothing here reads a clock, a socket or a die. The way of a request:
`Access.subject(state, fingerprint, now)`, then `Access.decide(subject, action, attributes)`. Roles
and policies of a device's own come from `iam.config.load`. The way of a change: a function of
`iam.changes` gives a new State, `Store.commit` makes it durable.
"""

from iam.access import Access
from iam.audit import Break, Event, Record
from iam.changes import KEEP, Rules
from iam.condition import Condition, Operator
from iam.config import Rulebook
from iam.errors import IamError, InviteRefused, StoreError
from iam.model import Invite, Key, State, Subject, User, changed_keys
from iam.policy import Decision, Effect, Explanation, Policy, Role, Statement
from iam.store import Store

__all__ = [
    "KEEP",
    "Access",
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
    "Rulebook",
    "Rules",
    "State",
    "Statement",
    "Store",
    "StoreError",
    "Subject",
    "User",
    "changed_keys",
]
