"""What an administrator does from afar: the users, rules, invites, window and events of one device.

    kitchen = await client.connect("kitchen")
    anna = await kitchen.iam.add_user("anna", role="user")
    async for event in kitchen.iam.follow_events():
        ...

Each call is one request (the events are as many as it takes), and the device's policy decides about
each. Everything raises below `PeerError`: `Denied` if policy says no, `RequestFailed` for what is
not there (4.04) or taken (4.09), `Malformed` if the answer makes no sense.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from client_app import trail, views
from client_app.moments import wall_clock
from client_app.rights import (
    Event,
    Events,
    Invitation,
    Invite,
    Permission,
    Policy,
    Role,
    User,
    Window,
)
from peer.errors import Denied, Malformed, UsageError
from peer.identity import Fingerprint

if TYPE_CHECKING:
    from client_app.device import Device

LIST_SECONDS: Final = 120.0
"""How long a list may take, which may be many blocks."""


class Unchanged(Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = 0


UNCHANGED: Final = Unchanged.UNCHANGED
"""For a time that stays as it is, where None takes the limit away."""

When = float | datetime | timedelta | None
"""Seconds since 1970, a date with a zone, a time from now by the device's clock, or None for no
limit."""

Change = When | Literal[Unchanged.UNCHANGED]
Key = Fingerprint | str


class Administration:
    """`Device.iam`."""

    def __init__(self, device: Device) -> None:
        self._device = device

    # -- users ------------------------------------------------------------------------------------

    async def users(self) -> tuple[User, ...]:
        """Everybody the device knows."""
        answer = await self._device.get("/iam/users", timeout=LIST_SECONDS)
        return views.users_untrusted(answer.payload)

    async def user(self, name: str) -> User:
        """One user."""
        return views.user_untrusted((await self._device.get(_user_path(name))).payload)

    async def add_user(
        self,
        name: str,
        *,
        role: str = "guest",
        display: str = "",
        keys: Iterable[Key] = (),
        not_before: When = None,
        not_after: When = None,
    ) -> User:
        """A new user, who may have keys already. Whoever gives a key vouches for it."""
        wish = {
            "name": name,
            "role": role,
            "display": display,
            "keys": [_hex(key) for key in keys],
            "not_before": await self._seconds(not_before),
            "not_after": await self._seconds(not_after),
        }
        kept = {field: value for field, value in wish.items() if value not in ("", [], None)}
        return views.user_untrusted((await self._device.post("/iam/users", kept)).payload)

    async def set_user(
        self,
        name: str,
        *,
        new_name: str = "",
        role: str = "",
        display: str | None = None,
        not_before: Change = UNCHANGED,
        not_after: Change = UNCHANGED,
    ) -> User:
        """Change what is given and nothing else; None takes a time limit away."""
        wish: dict[str, object] = {}
        if new_name:
            wish["name"] = new_name
        if role:
            wish["role"] = role
        if display is not None:
            wish["display"] = display
        for field, moment in (("not_before", not_before), ("not_after", not_after)):
            if moment is not UNCHANGED:
                wish[field] = await self._seconds(moment)
        return views.user_untrusted((await self._device.patch(_user_path(name), wish)).payload)

    async def remove_user(self, name: str) -> None:
        """Remove a user with all keys. Their sessions, observations and invites end at once."""
        await self._device.delete(_user_path(name))

    async def add_key(self, name: str, key: Key, *, key_name: str = "") -> User:
        """One more key for a user."""
        wish = {"name": key_name} if key_name else {}
        answer = await self._device.put(_key_path(name, key), wish)
        return views.user_untrusted(answer.payload)

    async def remove_key(self, name: str, key: Key) -> None:
        """Take a key from a user. Its sessions end at once; those of other keys go on."""
        await self._device.delete(_key_path(name, key))

    # -- rules ------------------------------------------------------------------------------------

    async def roles(self) -> tuple[Role, ...]:
        """Every role there is, lowest rank first."""
        answer = await self._device.get("/iam/roles", timeout=LIST_SECONDS)
        return views.roles_untrusted(answer.payload)

    async def policies(self) -> tuple[Policy, ...]:
        """Every policy there is, by its id."""
        answer = await self._device.get("/iam/policies", timeout=LIST_SECONDS)
        return views.policies_untrusted(answer.payload)

    async def check(self, action: str, *, user: str = "") -> Permission:
        """Whether an action is allowed now: to this client from here, or to another user."""
        path = f"/iam/check?action={_quoted(action)}"
        if user:
            path += f"&user={_quoted(user)}"
        return views.permission_untrusted((await self._device.get(path)).payload)

    # -- invites and the window -------------------------------------------------------------------

    async def invite(
        self,
        name: str,
        *,
        role: str = "",
        seconds: float | None = None,
        uses: int = 1,
        key: Key | None = None,
        not_after: When = None,
    ) -> Invitation:
        """An invite for a user who is not there yet. Its token is told this once.

        The device chooses the role (`guest`) and the life in `seconds` (two days) if they are not
        given. `key` is the only key that may redeem it; `not_after` is the end of the access.
        """
        wish = {
            "name": name,
            "role": role or None,
            "seconds": seconds,
            "uses": uses if uses != 1 else None,
            "key": None if key is None else _hex(key),
            "not_after": await self._seconds(not_after),
        }
        kept = {field: value for field, value in wish.items() if value is not None}
        answer = await self._device.post("/iam/invites", kept)
        return views.invitation_untrusted(answer.payload)

    async def invites(self) -> tuple[Invite, ...]:
        """The invites that stand open."""
        answer = await self._device.get("/iam/invites", timeout=LIST_SECONDS)
        return views.invites_untrusted(answer.payload)

    async def withdraw(self, invite_id: str) -> None:
        """End an invite; whoever has redeemed it stays."""
        await self._device.delete(f"/iam/invites/{_segment(invite_id, 'the ID of the invite')}")

    async def open_window(
        self, *, seconds: float | None = None, role: str = "", methods: Iterable[str] = ()
    ) -> Window:
        """Open the pairing window, or extend it. The device chooses what is not given."""
        wish = {"seconds": seconds, "role": role or None, "methods": list(methods) or None}
        kept = {field: value for field, value in wish.items() if value is not None}
        return views.window_untrusted((await self._device.post("/iam/window", kept)).payload)

    async def window(self) -> Window:
        """The pairing window as it is now."""
        return views.window_untrusted((await self._device.get("/iam/window")).payload)

    async def close_window(self) -> None:
        """Close the pairing window; whoever is pairing is refused."""
        await self._device.delete("/iam/window")

    # -- events -----------------------------------------------------------------------------------

    async def events(self, *, since: int | None = None, last: int | None = None) -> Events:
        """The events after number `since`, or the `last` ones (50); with the end of the trail.

        The links between them are checked. A hole, a change or an end that lies before `since` is
        `Malformed`.
        """
        return await trail.read(self._page, since=since, last=last)

    def follow_events(
        self, *, since: int | None = None, last: int | None = None
    ) -> AsyncIterator[Event]:
        """The same, and then each new one: every event once and in order, however the
        notifications come (they may be lost, or stand for several). Does not end."""
        return trail.follow(self._page, self._news, since=since, last=last)

    async def _seconds(self, moment: When) -> float | None:
        """A moment for the wire. One from now is by the device's clock, which the limits go by, or
        by this machine's where the device does not tell its time."""
        if isinstance(moment, timedelta):
            return await self._now() + moment.total_seconds()
        if isinstance(moment, datetime):
            if moment.tzinfo is None:
                raise UsageError(
                    "the date has no time zone", advice="Add one, for example with `.astimezone()`."
                )
            return moment.timestamp()
        return moment

    async def _now(self) -> float:
        try:
            now = (await self._device.whoami()).now
        except Denied:  # a role may lack Iam:GetMe
            now = None
        return wall_clock() if now is None else float(now)

    async def _page(self, query: Mapping[str, int]) -> Events:
        answer = await self._device.get(_events_path(query), timeout=LIST_SECONDS)
        return views.events_untrusted(answer.payload)

    async def _news(self, query: Mapping[str, int]) -> AsyncIterator[Events]:
        async for answer in self._device.observe(_events_path(query)):
            yield views.events_untrusted(answer.payload)


# -- words for the wire ---------------------------------------------------------------------------


def _events_path(query: Mapping[str, int]) -> str:
    return "/events?" + "&".join(f"{name}={value}" for name, value in query.items())


def _user_path(name: str) -> str:
    return f"/iam/users/{_segment(name, 'the name of the user')}"


def _key_path(name: str, key: Key) -> str:
    return f"{_user_path(name)}/keys/{_hex(key)}"


def _segment(text: str, what: str) -> str:
    """One segment of a path. An empty one would mean the whole collection."""
    if not text:
        raise UsageError(f"{what} is empty", advice="Give a value.")
    return _quoted(text)


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _hex(key: Key) -> str:
    if isinstance(key, Fingerprint):
        return key.hex
    try:
        return Fingerprint.parse(key).hex
    except Malformed as error:
        raise UsageError(str(error), advice=error.advice) from error
