"""Users, keys and invites, as `handfast-device` prints them."""

from collections.abc import Sequence
from typing import Final

from device_app.access.bodies import KeyView, UserView
from device_app.access.invitations import CreatedInviteView, InviteView
from peer.digit_groups import in_groups
from peer.terminal.durations import format_duration, format_time, format_time_from
from peer.terminal.layout import counted, table


def user_lines(user: UserView, now: float) -> list[str]:
    """A user with all keys."""
    display = f" ({user['display']})" if "display" in user else ""
    found = [f"{user['name']}{display}: {user['role']}"]
    if "not_before" in user:
        found.append(f"  from {format_time_from(user['not_before'], now)}")
    if "not_after" in user:
        found.append(f"  until {format_time_from(user['not_after'], now)}")
    if "last_seen" in user:
        found.append(f"  last seen {format_time_from(user['last_seen'], now)}")
    if not user["keys"]:
        found.append("  no key yet; an invite for this name, or pairing under it, adds one")
    return [*found, *(line for key in user["keys"] for line in _key(key))]


def _key(key: KeyView) -> list[str]:
    name = f"{key['name']}: " if key["name"] else ""
    unverified = "" if key["verified"] else ", *unverified*"
    seen = f", last seen {format_time(key['last_seen'])}" if "last_seen" in key else ""
    # With one leading space, a fingerprint just fits into 80 columns.
    return [
        f" {in_groups(key['fingerprint'])}",
        f"   {name}{key['method'] or 'unknown'}{unverified}{seen}",
    ]


USERS_HEADERS: Final = ("USER", "ROLE", "KEYS", "NOTES")
NO_USERS: Final = "no users yet (`handfast-device open` lets the first client pair)"


def user_row(user: UserView, now: float) -> tuple[str, str, str, str]:
    """A row of the table of users, below `USERS_HEADERS`."""
    return (
        user["name"],
        user["role"],
        counted(len(user["keys"]), "key") if user["keys"] else "no key yet",
        _notes(user, now) or "-",
    )


def _notes(user: UserView, now: float) -> str:
    """Unverified keys, the access period, and when the user was last seen."""
    notes = []
    if not all(key["verified"] for key in user["keys"]):
        notes.append("*unverified*")
    if now < user.get("not_before", now):
        notes.append(f"from {format_time(user['not_before'])}")
    if "not_after" in user:
        word = "ended" if user["not_after"] <= now else "until"
        notes.append(f"{word} {format_time(user['not_after'])}")
    if "last_seen" in user:
        notes.append(f"seen {format_duration(max(0.0, now - user['last_seen']))} ago")
    return ", ".join(notes)


def invite_lines(invite: CreatedInviteView, now: float) -> list[str]:
    """A new invite, without its token."""
    uses = "once" if invite["uses"] == 1 else f"{invite['uses']} times"
    found = [
        f"Invite {invite['id'][:8]} for user {invite['name']}, role {invite['role']}.",
        f"It can be used {uses}, until {format_time_from(invite['expires'], now)}.",
    ]
    if "not_after" in invite:
        found.append(f"The user's access ends {format_time_from(invite['not_after'], now)}.")
    if "key" in invite:
        found.append(f"Only the key {in_groups(invite['key'])} can use it.")
    return [
        *found,
        "Send it over a private channel: anyone who obtains it can use it.",
        "It cannot be shown again. To use it: handfast pair INVITE",
    ]


def invites_lines(invites: Sequence[InviteView], now: float) -> list[str]:
    """A table of invites."""
    if not invites:
        return ["no invites (`handfast-device invite NAME` creates one)"]
    return table(
        (
            (
                invite["id"][:8],
                invite["name"],
                invite["role"],
                str(invite["uses"]),
                format_time_from(invite["expires"], now)
                + (", one key only" if "key" in invite else ""),
                invite["inviter"] or "the device's console",
            )
            for invite in invites
        ),
        headers=("ID", "USER", "ROLE", "USES", "VALID UNTIL", "FROM"),
    )
