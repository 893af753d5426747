"""The users, keys, roles and policies of a device."""

from collections.abc import AsyncGenerator, Iterable

from aiocoap.numbers.codes import Code

from client_app import decode
from client_app.administration_paths import (
    Key,
    check_path,
    key_hex,
    key_path,
    user_path,
    users_path,
)
from client_app.administration_requests import UNCHANGED, AdministrationRequests, Change, When
from client_app.deadline import Deadline
from client_app.limits import LIST_SECONDS, REQUEST_SECONDS, USERS_PAGE
from client_app.models import Permission, Policy, Role, User


class UserAdministration(AdministrationRequests):
    """The part of `Administration` for users and their rights."""

    # -- users ------------------------------------------------------------------------------------

    async def users(self, *, timeout: float | None = LIST_SECONDS) -> tuple[User, ...]:
        """List all users, by name. For thousands of users, `each_user` keeps less in memory."""
        async with Deadline(timeout):
            return tuple([user async for user in self.each_user()])

    async def each_user(
        self, *, timeout: float | None = LIST_SECONDS
    ) -> AsyncGenerator[User, None]:
        """Iterate over all users, by name, read page by page; `timeout` is for each page.

        Users that are added or renamed meanwhile may be missing.
        """
        after: str | None = None
        while True:
            path = users_path(after, USERS_PAGE)
            page = decode.users_untrusted(await self._list(path, timeout))
            # A device of an earlier version ignores the query, and returns all users.
            fresh = [user for user in page if after is None or user.name > after]
            for user in fresh:
                yield user
            if len(page) != USERS_PAGE or not fresh:
                return
            after = fresh[-1].name

    async def user(self, name: str, *, timeout: float | None = REQUEST_SECONDS) -> User:
        """Return one user. Raises `RequestFailed` (4.04) if there is none of that name."""
        return decode.user_untrusted(await self._ask(Code.GET, user_path(name), timeout=timeout))

    async def add_user(
        self,
        name: str,
        *,
        role: str = "guest",
        display: str = "",
        keys: Iterable[Key] = (),
        not_before: When = None,
        not_after: When = None,
        timeout: float | None = REQUEST_SECONDS,
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
            timeout: seconds for the whole call.
        """
        async with Deadline(timeout):
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
        timeout: float | None = REQUEST_SECONDS,
    ) -> User:
        """Change the given properties of a user and return it; None removes a time limit."""
        body: dict[str, object] = {}
        if new_name:
            body["name"] = new_name
        if role:
            body["role"] = role
        if display is not None:
            body["display"] = display
        async with Deadline(timeout):
            for field, when in (("not_before", not_before), ("not_after", not_after)):
                if when is not UNCHANGED:
                    body[field] = await self._seconds(when)
            return decode.user_untrusted(await self._ask(Code.PATCH, user_path(name), body))

    async def remove_user(self, name: str, *, timeout: float | None = REQUEST_SECONDS) -> None:
        """Remove a user; ends the user's sessions, observations and invites at once."""
        await self._ask(Code.DELETE, user_path(name), timeout=timeout)

    async def add_key(
        self, name: str, key: Key, *, key_name: str = "", timeout: float | None = REQUEST_SECONDS
    ) -> User:
        """Add a key to a user and return the user."""
        body = {"name": key_name} if key_name else {}
        path = key_path(name, key)
        return decode.user_untrusted(await self._ask(Code.PUT, path, body, timeout=timeout))

    async def remove_key(
        self, name: str, key: Key, *, timeout: float | None = REQUEST_SECONDS
    ) -> None:
        """Remove a key from a user; ends its sessions at once, but not those of other keys."""
        await self._ask(Code.DELETE, key_path(name, key), timeout=timeout)

    # -- rules ------------------------------------------------------------------------------------

    async def roles(self, *, timeout: float | None = LIST_SECONDS) -> tuple[Role, ...]:
        """List all roles, lowest rank first."""
        return decode.roles_untrusted(await self._list("/iam/roles", timeout))

    async def policies(self, *, timeout: float | None = LIST_SECONDS) -> tuple[Policy, ...]:
        """List all policies, sorted by ID."""
        return decode.policies_untrusted(await self._list("/iam/policies", timeout))

    async def check(
        self, action: str, *, user: str = "", timeout: float | None = REQUEST_SECONDS
    ) -> Permission:
        """Check whether an action is allowed now: to this client from here, or to `user`."""
        path = check_path(action, user)
        return decode.permission_untrusted(await self._ask(Code.GET, path, timeout=timeout))
