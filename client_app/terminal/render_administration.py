"""Output of users, roles, invites, windows and events as text and as JSON.

The JSON has the same form as that of `handfast-device`. Importing this module registers these types
with `render`; only the verbs that need them import it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from client_app.models import Event, Invitation, Invite, Permission, Role, User, UserKey, Window
from client_app.terminal.render import as_json, as_text, plain
from peer.digit_groups import in_groups
from peer.identity import Fingerprint
from peer.terminal.durations import format_duration, format_time
from peer.terminal.layout import counted, table
from peer.terminal.reasons import reason_in_words
from peer.terminal.text import on_one_line

_ABOUT = ("actor", "user", "role", "action", "method", "result", "detail")
_WHENCE = ("address", "interface")


@dataclass(frozen=True, slots=True)
class Users:
    """The result of `users DEVICE`."""

    users: tuple[User, ...]


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
def _(value: Users) -> str:
    return "\n".join(
        table(
            (
                user.name,
                user.role,
                _keys(user),
                f"last seen {format_time(user.last_seen)}" if user.last_seen is not None else "",
                *_limits(user),
            )
            for user in value.users
        )
    )


@as_text.register
def _(value: User) -> str:
    called = f" ({value.display})" if value.display else ""
    lines = [f"{value.name}{called}: {value.role}", *_limits(value)]
    return "\n  ".join(map(on_one_line, [*lines, *map(_key_line, value.keys)]))


def _keys(user: User) -> str:
    """The number of keys, and whether one of them is unverified."""
    count = counted(len(user.keys), "key")
    return count if all(key.verified for key in user.keys) else f"{count}, *unverified*"


def _key_line(key: UserKey) -> str:
    name = f" {key.name}" if key.name else ""
    seen = f", last seen {format_time(key.last_seen)}" if key.last_seen is not None else ""
    sure = "" if key.verified else ", *unverified*"
    return f"{in_groups(key.fingerprint)}{name} ({key.method or 'unknown'}{sure}{seen})"


def _limits(user: User) -> list[str]:
    ends = (("from", user.not_before), ("until", user.not_after))
    return [f"{word} {format_time(moment)}" for word, moment in ends if moment is not None]


@as_text.register
def _(value: Roles) -> str:
    return "\n".join(
        table((role.id, str(role.rank), ", ".join(role.policies)) for role in value.roles)
    )


@as_text.register
def _(value: Invites) -> str:
    return "\n".join(map(as_text, value.invites))


@as_text.register
def _(value: Invite) -> str:
    words = [
        value.id,
        value.name,
        value.role,
        counted(value.uses, "use"),
        f"valid until {format_time(value.expires)}",
        f"from {value.inviter}" if value.inviter else "from the device's console",
    ]
    if value.key:
        words.append(f"only for key {Fingerprint.parse(value.key).device_id}")
    if value.not_after is not None:
        words.append(f"access until {format_time(value.not_after)}")
    return on_one_line("  ".join(words))


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


def _worded(name: str, value: object) -> str:
    return reason_in_words(str(value)) if name == "result" else str(value)


@as_text.register
def _(value: Removed) -> str:
    return on_one_line(f"{value.what} {value.shown or value.name}")


@as_text.register
def _(value: Event) -> str:
    about = [
        f"{name}={_worded(name, value.fields[name])}" for name in _ABOUT if name in value.fields
    ]
    about += [f"{name}={value.fields[name]}" for name in _WHENCE if name in value.fields]
    key = value.fields.get("fingerprint")
    if isinstance(key, str):
        about.append(f"key={in_groups(key[:16])}")
    line = on_one_line("  ".join([str(value.seq), format_time(value.wall), value.kind, *about]))
    if not value.lost:
        return line
    return f"({value.lost} earlier events are no longer stored on the device)\n{line}"
