"""Paths of the resources by which a device is administered."""

from collections.abc import Mapping
from urllib.parse import quote

from peer.errors import Malformed, UsageError
from peer.identity import Fingerprint

Key = Fingerprint | str


def events_path(query: Mapping[str, int]) -> str:
    """The path of the events that a query selects."""
    return "/events?" + "&".join(f"{name}={value}" for name, value in query.items())


def users_path(after: str | None, count: int) -> str:
    """The path of the first users whose names come after a name, or after none."""
    begin = "" if after is None else f"&after={_quoted(after)}"
    return f"/iam/users?count={count}{begin}"


def user_path(name: str) -> str:
    """The path of a user. Raises `UsageError` for an empty name."""
    return f"/iam/users/{_segment(name, 'the name of the user')}"


def key_path(name: str, key: Key) -> str:
    """The path of a key of a user. Raises `UsageError` for an invalid key."""
    return f"{user_path(name)}/keys/{key_hex(key)}"


def _segment(text: str, what: str) -> str:
    """One path segment. An empty one is refused: it would name the whole collection."""
    if not text:
        raise UsageError(f"{what} is empty", advice="Give a value.")
    return _quoted(text)


def _quoted(text: str) -> str:
    return quote(text, safe="")


def key_hex(key: Key) -> str:
    """The hex digits of a fingerprint. Raises `UsageError` for an invalid one."""
    if isinstance(key, Fingerprint):
        return key.hex
    try:
        return Fingerprint.parse(key).hex
    except Malformed as error:
        raise UsageError(str(error), advice=error.advice) from error


def invite_path(invite_id: str) -> str:
    """The path of an invite. Raises `UsageError` for an empty ID."""
    return f"/iam/invites/{_segment(invite_id, 'the ID of the invite')}"


def check_path(action: str, user: str) -> str:
    """The path that decides about an action, of this client or of a user."""
    return f"/iam/check?action={_quoted(action)}" + (f"&user={_quoted(user)}" if user else "")
