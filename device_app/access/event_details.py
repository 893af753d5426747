"""What the trail says of a change: the old value and the new one of everything that rights go by.

Texts that people choose stand last and quoted, so that none of them can look like another part, and
a cut at the end costs nothing else.
"""

import json

from iam.model import Invite, Key, User
from peer.terminal.durations import format_time_utc


def of_user(before: User | None, after: User) -> str:
    """`role guest -> user, until never -> 2027-01-01T00:00:00Z`; of a new user what limits it."""
    if before is None:
        period = [
            f"{word} {format_time_utc(moment)}"
            for word, moment in (("from", after.not_before), ("until", after.not_after))
            if moment is not None
        ]
        return ", ".join([*period, *_labelled("display", after.display_name)])
    found = []
    if before.role != after.role:
        found.append(f"role {before.role} -> {after.role}")
    for word, none, old, new in (
        ("from", "always", before.not_before, after.not_before),
        ("until", "never", before.not_after, after.not_after),
    ):
        if old != new:
            found.append(f"{word} {_moment(old, none)} -> {_moment(new, none)}")
    if before.name != after.name:
        found.append(f"name {before.name} -> {after.name}")
    if before.display_name != after.display_name:
        found.append(f"display {_quoted(before.display_name)} -> {_quoted(after.display_name)}")
    return ", ".join(found)


def of_key(before: Key | None, after: Key) -> str:
    """`unverified -> verified, name "phone" -> "laptop"`; of a new key what it has."""
    if before is None:
        found = [] if after.verified else ["unverified"]
        return ", ".join([*found, *_labelled("name", after.name)])
    found = []
    if before.verified != after.verified:
        found.append(f"{_word(before)} -> {_word(after)}")
    if before.name != after.name:
        found.append(f"name {_quoted(before.name)} -> {_quoted(after.name)}")
    return ", ".join(found)


def of_pairing(before: User | None, after: User, fingerprint: str) -> str:
    """What a key's pairing has changed: of a new user, or of one whose key it proves."""
    held = before.key(fingerprint) if before is not None else None
    found = [of_key(held, after.key(fingerprint)), of_user(before, after)]
    return ", ".join(part for part in found if part)


def of_invite(invite: Invite) -> str:
    """Which invite: the beginning of its id, and what it gives beside name and role."""
    found = [
        named_invite(invite.id),
        f"{invite.uses} uses",
        f"good until {format_time_utc(invite.expires)}",
    ]
    if invite.not_after is not None:
        found.append(f"access until {format_time_utc(invite.not_after)}")
    return ", ".join(found)


def named_invite(invite_id: str) -> str:
    """An invite by the beginning of its id."""
    return f"invite {invite_id[:8]}"


def _moment(moment: float | None, none: str) -> str:
    return none if moment is None else format_time_utc(moment)


def _word(key: Key) -> str:
    return "verified" if key.verified else "unverified"


def _labelled(word: str, text: str) -> list[str]:
    return [f"{word} {_quoted(text)}"] if text else []


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
