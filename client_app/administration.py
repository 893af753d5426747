"""Administration of a device: its users, roles, invites, pairing window and events.

    kitchen = await client.connect("kitchen")
    anna = await kitchen.iam.add_user("anna", role="user")
    async for event in kitchen.iam.follow_events():
        ...

Each call is one request (events may take several), and the device's policy decides on each. All
errors are subclasses of `PeerError`: `Denied` if the policy denies the request, `RequestFailed` if
something does not exist (4.04) or already exists (4.09), `Malformed` if the response is not valid.
"""

import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Literal

from aiocoap.numbers.codes import Code

from client_app import audit, decode
from client_app.administration_paths import (
    Key,
    check_path,
    events_path,
    invite_path,
    key_hex,
    key_path,
    user_path,
)
from client_app.clock import wall_clock
from client_app.content import Body
from client_app.decode_events import events_untrusted
from client_app.limits import LIST_SECONDS
from client_app.models import (
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
from client_app.observation import Observation, OnNote
from client_app.session import DeviceSession
from peer.errors import Denied, UsageError

_log = logging.getLogger(__name__)


class Unchanged(Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = 0


UNCHANGED: Final = Unchanged.UNCHANGED
"""Keep a time as it is (None removes the limit)."""

When = float | datetime | timedelta | None
"""Seconds since 1970, a `datetime` with a zone, a time from now by the device's clock, or None for
no limit."""

Change = When | Literal[Unchanged.UNCHANGED]


class Administration:
    """Administration of one device; available as `Device.iam`."""

    def __init__(self, session: DeviceSession) -> None:
        self._session = session

    # -- users ------------------------------------------------------------------------------------

    async def users(self) -> tuple[User, ...]:
        """List all users."""
        return decode.users_untrusted(await self._list("/iam/users"))

    async def user(self, name: str) -> User:
        """Return one user. Raises `RequestFailed` (4.04) if there is none of that name."""
        return decode.user_untrusted(await self._ask(Code.GET, user_path(name)))

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
        """Add a user and return it.

        Args:
            name: the user name.
            role: the role, not above your own.
            display: a display name.
            keys: fingerprints of the user's keys. You are responsible for their correctness: the
                device does not verify them.
            not_before: start of the access; None for no limit.
            not_after: end of the access; None for no limit.
        """
        body = {
            "name": name,
            "role": role,
            "display": display,
            "keys": [key_hex(key) for key in keys],
            "not_before": await self._seconds(not_before),
            "not_after": await self._seconds(not_after),
        }
        given = {field: value for field, value in body.items() if value not in ("", [], None)}
        return decode.user_untrusted(await self._ask(Code.POST, "/iam/users", given))

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
        """Change the given properties of a user and return it; None removes a time limit."""
        body: dict[str, object] = {}
        if new_name:
            body["name"] = new_name
        if role:
            body["role"] = role
        if display is not None:
            body["display"] = display
        for field, when in (("not_before", not_before), ("not_after", not_after)):
            if when is not UNCHANGED:
                body[field] = await self._seconds(when)
        return decode.user_untrusted(await self._ask(Code.PATCH, user_path(name), body))

    async def remove_user(self, name: str) -> None:
        """Remove a user; ends the user's sessions, observations and invites at once."""
        await self._ask(Code.DELETE, user_path(name))

    async def add_key(self, name: str, key: Key, *, key_name: str = "") -> User:
        """Add a key to a user and return the user."""
        body = {"name": key_name} if key_name else {}
        return decode.user_untrusted(await self._ask(Code.PUT, key_path(name, key), body))

    async def remove_key(self, name: str, key: Key) -> None:
        """Remove a key from a user; ends its sessions at once, but not those of other keys."""
        await self._ask(Code.DELETE, key_path(name, key))

    # -- rules ------------------------------------------------------------------------------------

    async def roles(self) -> tuple[Role, ...]:
        """List all roles, lowest rank first."""
        return decode.roles_untrusted(await self._list("/iam/roles"))

    async def policies(self) -> tuple[Policy, ...]:
        """List all policies, sorted by ID."""
        return decode.policies_untrusted(await self._list("/iam/policies"))

    async def check(self, action: str, *, user: str = "") -> Permission:
        """Check whether an action is allowed now: to this client from here, or to `user`."""
        path = check_path(action, user)
        return decode.permission_untrusted(await self._ask(Code.GET, path))

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
        """Create an invite and return it with its token, which cannot be read again.

        Args:
            name: the name of the user to create.
            role: the user's role; defaults to `guest`.
            seconds: how long the invite is valid; defaults to two days.
            uses: how many clients can redeem it.
            key: the only key that can redeem it; None for any.
            not_after: end of the user's access; None for no limit.
        """
        body = {
            "name": name,
            "role": role or None,
            "seconds": seconds,
            "uses": uses if uses != 1 else None,
            "key": None if key is None else key_hex(key),
            "not_after": await self._seconds(not_after),
        }
        given = {field: value for field, value in body.items() if value is not None}
        return decode.invitation_untrusted(await self._ask(Code.POST, "/iam/invites", given))

    async def invites(self) -> tuple[Invite, ...]:
        """List the invites that can still be redeemed."""
        return decode.invites_untrusted(await self._list("/iam/invites"))

    async def withdraw(self, invite_id: str) -> None:
        """Withdraw an invite. Users who have redeemed it keep their access."""
        await self._ask(Code.DELETE, invite_path(invite_id))

    async def open_window(
        self, *, seconds: float | None = None, role: str = "", methods: Iterable[str] = ()
    ) -> Window:
        """Open the pairing window, or extend it if it is open; return its state.

        Args:
            seconds: how long it stays open.
            role: the role of the user who pairs, not above your own.
            methods: the pairing methods to offer.

        The device's settings apply to arguments that are not given.
        """
        body = {"seconds": seconds, "role": role or None, "methods": list(methods) or None}
        given = {field: value for field, value in body.items() if value is not None}
        return decode.window_untrusted(await self._ask(Code.POST, "/iam/window", given))

    async def window(self) -> Window:
        """Return the state of the pairing window."""
        return decode.window_untrusted(await self._ask(Code.GET, "/iam/window"))

    async def close_window(self) -> None:
        """Close the pairing window; a pairing in progress is refused."""
        await self._ask(Code.DELETE, "/iam/window")

    # -- events -----------------------------------------------------------------------------------

    async def events(self, *, since: int | None = None, last: int | None = None) -> Events:
        """Return the events after number `since`, or the `last` ones (default 50).

        The digests that link the events are checked. Raises `Malformed` if an event is missing or
        changed, or if the newest event is before `since`.
        """
        return await audit.read(self._page, since=since, last=last)

    def follow_events(
        self,
        *,
        since: int | None = None,
        last: int | None = None,
        on_note: OnNote = _log.warning,
    ) -> Observation[Event]:
        """Iterate over the same events as `events`, then each new one. Does not end by itself.

        Each event comes once and in order, even if notifications are lost or merged. Leaving an
        `async for` loop ends the observation. `on_note` is called with messages about lost
        sessions, as in `Device.observe`.
        """

        def observe(query: Mapping[str, int]) -> AsyncGenerator[Events, None]:
            return self._observed(query, on_note)

        return Observation(lambda: audit.follow(self._page, observe, since=since, last=last))

    async def _seconds(self, when: When) -> float | None:
        """Convert a time to seconds since 1970.

        A time from now is by the device's clock, or by this machine's if the device hides its own.
        """
        if isinstance(when, timedelta):
            return await self._now() + when.total_seconds()
        if isinstance(when, datetime):
            if when.tzinfo is None:
                raise UsageError(
                    "the date has no time zone", advice="Add one, for example with `.astimezone()`."
                )
            return when.timestamp()
        return when

    async def _now(self) -> float:
        try:
            now = (await self._session.me()).now
        except Denied:  # the role does not include Iam:GetMe
            now = None
        return wall_clock() if now is None else float(now)

    async def _page(self, query: Mapping[str, int]) -> Events:
        return events_untrusted(await self._list(events_path(query)))

    async def _observed(
        self, query: Mapping[str, int], on_note: OnNote
    ) -> AsyncGenerator[Events, None]:
        stream = self._session.observe(events_path(query), on_note=on_note)
        async with contextlib.aclosing(stream) as replies:
            async for reply in replies:
                yield events_untrusted(reply.payload)

    async def _ask(self, code: Code, path: str, body: Body = None) -> bytes:
        return (await self._session.request(code, path, body)).payload

    async def _list(self, path: str) -> bytes:
        return (await self._session.request(Code.GET, path, timeout=LIST_SECONDS)).payload
