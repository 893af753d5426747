"""Every bound of iam: what users, keys, policies and files may cost a device.

`IamLimits` are the bounds that an operator may set. The others are fixed. A number that a file
format prescribes, such as the length of a digest, is not a bound and stays where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class IamLimits:
    """The bounds of the resources of a device that its users and others can consume."""

    users: int = 256
    keys_per_user: int = 8
    invites: int = 32  # invites with uses left
    invite_uses: int = 32  # users that one invite can make
    invite_seconds: float = 172_800.0  # validity of an invite, unless its creator says otherwise
    invite_max_seconds: float = 2_592_000.0  # and at most
    policy_bytes: int = 4_194_304  # text of all policy files together
    change_burst: int = 600  # events by changes of one user, at once
    changes_per_hour: float = 60.0  # and per hour after that
    all_change_burst: int = 1_200  # events by changes of all owners, and of all others, at once
    all_changes_per_hour: float = 240.0  # and per hour after that
    events_kept: int = 10_000  # records of the audit trail; older ones are removed


DEFAULT_IAM_LIMITS: Final = IamLimits()

# Users and invites.
NAME_CHARACTERS_MAX: Final = 64  # of a name, a role, a method
INVITE_USES_MAX: Final = 32  # of one invite, whatever the setting
STATE_STEPS_KEPT: Final = 64  # changes that a state remembers, for a comparison with an earlier one

USERS_READ_AT_ONCE: Final = 1_000  # rows of a store, whose columns are then checked together
USERS_MADE_KEPT: Final = 4_096  # users of a store that was read, once they were asked for

# The audit trail and the times of last use.
EVENT_FIELD_CHARACTERS_MAX: Final = 256  # a longer text is cut: anyone may have sent it
AUDIT_PAGE_RECORDS: Final = 500  # read at once
LAST_SEEN_WRITE_SECONDS: Final = 3600.0  # at most one write an hour for times of last use alone
LAST_SEEN_ROWS_PER_COMMIT: Final = 32  # written along with another change; the rest waits

# Files.
MARK_CHANGE_BYTES: Final = 65_536  # of changes in a mark, beyond its rows; then it is rewritten
MARK_READ_BYTES: Final = 65_536  # of a line of a mark at once; a line has the rows of all users
STORE_BUSY_MILLISECONDS: Final = 1000  # how long a checkpoint waits for readers
BACKUP_NOTE_CHARACTERS_MAX: Final = 8000  # what a backup says about itself, with a sealed key
LOCK_FILE_BYTES_MAX: Final = 4200  # a process ID and a path (PATH_MAX, limits.h)
STORE_COPY_TRIES: Final = 5  # of a copy of a store that another process may be writing

# One decision.
ATTRIBUTE_CHARACTERS_MAX: Final = 1024  # of one attribute; a matcher's work grows with them
ATTRIBUTES_MAX: Final = 64  # of one request
DECISION_STEPS_MAX: Final = 5_000  # about one action, by all policies of one role
TEXTS_REMEMBERED: Final = 64  # addresses, and times, that were parsed last
TESTS_REMEMBERED: Final = 256  # of values of conditions, which many policies repeat
SETTLED_DECISIONS_MAX: Final = 4_096  # that do not depend on attributes; remembered by a set
ROLE_STEPS_MAX: Final = 100_000  # about all actions, which `/iam/me` asks for
EXPLAINED_VALUES_MAX: Final = 8  # values of one condition that an explanation shows

# Policy files.
STATEMENT_ACTIONS_MAX: Final = 256
STATEMENT_CONDITIONS_MAX: Final = 32
CONDITION_VALUES_MAX: Final = 256
VALUE_CHARACTERS_MAX: Final = 256  # of one value of a condition
LIST_ENTRIES_MAX: Final = 100_000  # of one list; the totals of all files are below
POLICY_TOTALS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "roles": 128,
        "policies": 4096,
        "statements": 10_000,
        "actions": 40_000,
        "values": 40_000,
        "policies of roles": 40_000,
        "actions of roles": 200_000,  # of their policies' statements, for each role that has them
    }
)
"""The most that all policy files together may hold of each."""

# TOML files, so that neither the parser nor the search for lines runs for minutes.
TOML_CHARACTERS_MAX: Final = 8 * 1024 * 1024
TOML_LINE_CHARACTERS_MAX: Final = 4000  # also keeps numbers below what Python refuses to read
TOML_DEPTH_MAX: Final = 32  # of brackets, and of the parts of a key
TOML_ENTRIES_MAX: Final = 200_000  # of tables and lists; each is kept with its line

# Files of Nabto's IAM module.
NABTO_FILE_CHARACTERS_MAX: Final = 1 << 20
NABTO_DEPTH_MAX: Final = 32
NABTO_NUMBER_CHARACTERS_MAX: Final = 32  # of a JSON number
NABTO_SHOWN_CHARACTERS_MAX: Final = 80  # of a key that an error or a note shows
NABTO_ROLES_MAX: Final = 32
NABTO_GRANTS_MAX: Final = 1024  # actions of IAM in all statements; all conditions are compared
NABTO_NAME_CHARACTERS_MAX: Final = 48  # of a role or policy; the imported name may have a prefix
NABTO_ACTION_CHARACTERS_MAX: Final = 128
NABTO_VARIANTS_MAX: Final = 64  # statements into which one of Nabto's may be split
