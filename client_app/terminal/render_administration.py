"""Output of users, roles, invites, windows and events as text and as JSON.

The JSON has the same form as that of `handfast-device`. Importing this module registers these types
with `render`; only the verbs that need them import it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from client_app.models import Event, Invitation, Invite, Permission, Role, User, UserKey, Window
from client_app.terminal.render import NEXT_STEPS, as_json, as_text, json_line, parts, plain
from peer.digit_groups import in_groups
from peer.identity import Fingerprint
from peer.terminal.durations import format_duration, format_time
from peer.terminal.event_lines import event_lines
from peer.terminal.layout import PagedTable, counted, table
from peer.terminal.text import json_text, on_one_line

_ID_DIGITS = 8  # of an invite; enough to name it


@dataclass(frozen=True, slots=True)
class UsersPage:
    """A part of the result of `users DEVICE`, which begins before all users are known.

    `number` counts the parts from 0, and the last part has no users. All share the table.
    """

    number: int
    users: tuple[User, ...]
    table: PagedTable

    @staticmethod
    def new_table() -> PagedTable:
        """Return the table for the parts of one result."""
        return PagedTable(("USER", "ROLE", "KEYS", "LAST SEEN", "ACCESS"))


@dataclass(frozen=True, slots=True)
class Roles:
    """The result of `roles DEVICE`."""

    roles: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class Invites:
    """The result of `invites DEVICE`."""

    invites: tuple[Invite, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """Something that was removed.

    `what` is the name of its field in JSON, `shown` its name for people if that is another one.
    """

    what: str
    name: str
    shown: str = ""


NEXT_STEPS |= {
    UsersPage: "The device has no users that you may see.",
    Roles: "The device has no roles that you may see.",
    Invites: "No invite can be used now. `handfast invite DEVICE NAME` creates one.",
}


# -- JSON -----------------------------------------------------------------------------------------


@as_json.register
def _(value: User) -> dict[str, object]:
    return {"user": plain(asdict(value))}


@as_json.register
def _(value: Invite) -> dict[str, object]:
    return {"invite": plain(asdict(value))}


@as_json.register
def _(value: Invitation) -> dict[str, object]:
    return {"invite": {**asdict(value.invite), "token": value.token}}


@as_json.register
def _(value: Window) -> dict[str, object]:
    return {"window": plain(asdict(value))}


@as_json.register
def _(value: Removed) -> dict[str, object]:
    return {value.what: value.name}


@as_json.register
def _(value: Event) -> dict[str, object]:
    chain = {"seq": value.seq, "kind": value.kind, "wall": value.wall}
    links = {"digest": value.digest, "previous": value.previous, "lost": value.lost}
    return {**chain, **{name: plain(item) for name, item in value.fields.items()}, **links}


# -- for people -----------------------------------------------------------------------------------


@as_text.register
def _(_value: UsersPage) -> str:
    return ""  # printed as a part; without users there is nothing to print


def _users_part(value: UsersPage, is_json: bool) -> str:
    if is_json:
        begin = json_line({"users": []}).removesuffix("]}") if value.number == 0 else ""
        if not value.users:
            return f"{begin}]}}\n"
        rows = (json_text(plain(asdict(user)), ascii_only=True) for user in value.users)
        return begin + (", " if value.number else "") + ", ".join(rows)
    return "".join(f"{line}\n" for line in value.table.lines(map(_user_cells, value.users)))


parts[UsersPage] = _users_part


def _user_cells(user: User) -> tuple[str, ...]:
    return (
        user.name,
        user.role,
        _keys(user),
        format_time(user.last_seen) if user.last_seen is not None else "-",
        ", ".join(_limits(user)) or "-",
    )


@as_text.register
def _(value: User) -> str:
    called = f" ({value.display})" if value.display else ""
    lines = [f"{value.name}{called}: {value.role}", *(f"  {one}" for one in _limits(value))]
    lines += [line for key in value.keys for line in _key_lines(key)]
    if not value.keys:
        lines.append("  no key yet; an invite for this name, or pairing under it, adds one")
    return "\n".join(map(on_one_line, lines))


def _keys(user: User) -> str:
    """The number of keys, and whether one of them is unverified."""
    count = counted(len(user.keys), "key") if user.keys else "no key yet"
    return count if all(key.verified for key in user.keys) else f"{count}, *unverified*"


def _key_lines(key: UserKey) -> list[str]:
    name = f"{key.name}: " if key.name else ""
    seen = f", last seen {format_time(key.last_seen)}" if key.last_seen is not None else ""
    sure = "" if key.verified else ", *unverified*"
    # With one leading space, a fingerprint just fits into 80 columns.
    return [f" {in_groups(key.fingerprint)}", f"   {name}{key.method or 'unknown'}{sure}{seen}"]


def _limits(user: User) -> list[str]:
    ends = (("from", user.not_before), ("until", user.not_after))
    return [f"{word} {format_time(moment)}" for word, moment in ends if moment is not None]


@as_text.register
def _(value: Roles) -> str:
    rows = ((role.id, str(role.rank), ", ".join(role.policies)) for role in value.roles)
    return "\n".join(table(rows, headers=("ROLE", "RANK", "POLICIES")))


@as_text.register
def _(value: Invites) -> str:
    headers = ("ID", "USER", "ROLE", "USES", "VALID UNTIL", "FROM", "LIMITS")
    return "\n".join(table(map(_invite_cells, value.invites), headers=headers))


@as_text.register
def _(value: Invite) -> str:
    return on_one_line("  ".join(_invite_cells(value)))


def _invite_cells(value: Invite) -> tuple[str, ...]:
    limits = []
    if value.key:
        limits.append(f"only for key {Fingerprint.parse(value.key).device_id}")
    if value.not_after is not None:
        limits.append(f"access until {format_time(value.not_after)}")
    return (
        value.id[:_ID_DIGITS],
        value.name,
        value.role,
        str(value.uses),
        format_time(value.expires),
        value.inviter or "the device's console",
        ", ".join(limits) or "-",
    )


@as_text.register
def _(value: Invitation) -> str:
    return on_one_line(value.token)


@as_text.register
def _(value: Window) -> str:
    if not value.open:
        return "closed"
    methods = ", ".join(value.methods)
    return on_one_line(
        f"open for {format_duration(value.seconds_left)} on port {value.port}, role {value.role}, "
        f"methods {methods}"
    )


@as_text.register
def _(value: Permission) -> str:
    why = value.missing or value.reason
    verdict = "yes" if value.allowed else "depends" if value.depends else "no"
    line = f"{verdict}: {value.action}"
    return on_one_line(f"{line}. {why}" if why else line)


@as_text.register
def _(value: Removed) -> str:
    return on_one_line(f"{value.what} {value.shown or value.name}")


@as_text.register
def _(value: Event) -> str:
    lines = event_lines(value.seq, value.kind, value.wall, value.fields)
    if value.lost:
        lines.insert(0, f"({value.lost} earlier events are no longer stored on the device)")
    return "\n".join(lines)
