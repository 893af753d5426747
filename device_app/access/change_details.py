"""The details of a change in the audit trail: old and new values of everything that affects rights.

Texts that users choose come last and quoted: they cannot look like another part, and if a long
detail is cut, nothing else is lost.
"""

import json
from collections.abc import Iterator

from iam.model import Invite, Key, User
from peer.terminal.durations import format_time_utc


def user_details(before: User | None, after: User) -> str:
    """`role guest -> user, until never -> 2027-01-01T00:00:00Z`; the limits of a new user."""
    return ", ".join(_new_user(after) if before is None else _changed_user(before, after))


def _new_user(user: User) -> Iterator[str]:
    if user.not_before is not None:
        yield f"from {format_time_utc(user.not_before)}"
    if user.not_after is not None:
        yield f"until {format_time_utc(user.not_after)}"
    if user.display_name:
        yield f"display {_quoted(user.display_name)}"


def _changed_user(before: User, after: User) -> Iterator[str]:
    if before.role != after.role:
        yield f"role {before.role} -> {after.role}"
    if before.not_before != after.not_before:
        yield f"from {_time(before.not_before, 'always')} -> {_time(after.not_before, 'always')}"
    if before.not_after != after.not_after:
        yield f"until {_time(before.not_after, 'never')} -> {_time(after.not_after, 'never')}"
    if before.name != after.name:
        yield f"name {before.name} -> {after.name}"
    if before.display_name != after.display_name:
        yield f"display {_quoted(before.display_name)} -> {_quoted(after.display_name)}"


def key_details(before: Key | None, after: Key) -> str:
    """`unverified -> verified, name "phone" -> "laptop"`; what distinguishes a new key."""
    return ", ".join(_new_key(after) if before is None else _changed_key(before, after))


def _new_key(key: Key) -> Iterator[str]:
    if not key.verified:
        yield "unverified"
    if key.name:
        yield f"name {_quoted(key.name)}"


def _changed_key(before: Key, after: Key) -> Iterator[str]:
    if before.verified != after.verified:
        yield f"{_verification(before)} -> {_verification(after)}"
    if before.name != after.name:
        yield f"name {_quoted(before.name)} -> {_quoted(after.name)}"


def pairing_details(before: User | None, after: User, fingerprint: str) -> str:
    """The details of a new user, or of one whose key a pairing has verified."""
    known = before.key(fingerprint) if before is not None else None
    return _joined(key_details(known, after.key(fingerprint)), user_details(before, after))


def invite_details(invite: Invite) -> str:
    """An invite's ID, and what it gives beside name and role."""
    uses, end = f"{invite.uses} uses", f"good until {format_time_utc(invite.expires)}"
    access = "" if invite.not_after is None else f"access until {format_time_utc(invite.not_after)}"
    return _joined(invite_label(invite.id), uses, end, access)


def redemption_details(invite_id: str, user: User) -> str:
    """The invite that a user has redeemed, and the limits of that user."""
    return _joined(invite_label(invite_id), user_details(None, user))


def invite_label(invite_id: str) -> str:
    """An invite by the beginning of its ID."""
    return f"invite {invite_id[:8]}"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _time(seconds: float | None, none: str) -> str:
    return none if seconds is None else format_time_utc(seconds)


def _verification(key: Key) -> str:
    return "verified" if key.verified else "unverified"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
