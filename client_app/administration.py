"""Administration of a device: its users, roles, invites, pairing window and events.

    kitchen = await client.connect("kitchen")
    anna = await kitchen.iam.add_user("anna", role="user")
    async for event in kitchen.iam.follow_events():
        ...

Each call is one request (events may take several), and the device's policy decides on each. A
`timeout` is in seconds, for the whole call, and None means no limit. All
errors are subclasses of `PeerError`: `Denied` if the policy denies the request, `RequestFailed` if
something does not exist (4.04) or already exists (4.09), `Malformed` if the response is not valid.
"""

import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial

from aiocoap.numbers.codes import Code

from client_app import audit, decode
from client_app.administration_paths import Key, events_path, invite_path, key_hex
from client_app.administration_requests import UNCHANGED, Change, When
from client_app.administration_users import UserAdministration
from client_app.deadline import Deadline
from client_app.decode_events import events_untrusted
from client_app.limits import LIST_SECONDS, REQUEST_SECONDS
from client_app.models import Event, Events, Invitation, Invite, Window
from client_app.observation import Observation, without_gaps
from client_app.retries import OnNote

__all__ = ["UNCHANGED", "Administration", "Change", "When"]

_log = logging.getLogger(__name__)


class Administration(UserAdministration):
    """Administration of one device; available as `Device.iam`."""

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
        timeout: float | None = REQUEST_SECONDS,
    ) -> Invitation:
        """Create an invite and return it with its token, which cannot be read again.

        Args:
            name: the name of the user to create.
            role: the user's role; defaults to `guest`.
            seconds: how long the invite is valid; defaults to two days.
            uses: how many clients can redeem it.
            key: the only key that can redeem it; None for any.
            not_after: end of the user's access; None for no limit.
            timeout: seconds for the whole call.
        """
        async with Deadline(timeout):
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

    async def invites(self, *, timeout: float | None = LIST_SECONDS) -> tuple[Invite, ...]:
        """List the invites that can still be redeemed."""
        return decode.invites_untrusted(await self._list("/iam/invites", timeout))

    async def withdraw(self, invite_id: str, *, timeout: float | None = REQUEST_SECONDS) -> None:
        """Withdraw an invite. Users who have redeemed it keep their access."""
        await self._ask(Code.DELETE, invite_path(invite_id), timeout=timeout)

    async def open_window(
        self,
        *,
        seconds: float | None = None,
        role: str = "",
        methods: Iterable[str] = (),
        timeout: float | None = REQUEST_SECONDS,
    ) -> Window:
        """Open the pairing window, or extend it if it is open; return its state.

        Args:
            seconds: how long it stays open.
            role: the role of the user who pairs, not above your own.
            methods: the pairing methods to offer.
            timeout: seconds for the whole call.

        The device's settings apply to arguments that are not given.
        """
        body = {"seconds": seconds, "role": role or None, "methods": list(methods) or None}
        given = {field: value for field, value in body.items() if value is not None}
        return decode.window_untrusted(
            await self._ask(Code.POST, "/iam/window", given, timeout=timeout)
        )

    async def window(self, *, timeout: float | None = REQUEST_SECONDS) -> Window:
        """Return the state of the pairing window."""
        return decode.window_untrusted(await self._ask(Code.GET, "/iam/window", timeout=timeout))

    async def close_window(self, *, timeout: float | None = REQUEST_SECONDS) -> None:
        """Close the pairing window; a pairing in progress is refused."""
        await self._ask(Code.DELETE, "/iam/window", timeout=timeout)

    # -- events -----------------------------------------------------------------------------------

    async def events(
        self,
        *,
        since: int | None = None,
        last: int | None = None,
        timeout: float | None = LIST_SECONDS,
    ) -> Events:
        """Return the events after number `since`, or the `last` ones (default 50).

        The digests that link the events are checked. Raises `Malformed` if an event is missing or
        changed, or if the newest event is before `since`.
        """
        async with Deadline(timeout):
            return await audit.read(self._page, since=since, last=last)

    def follow_events(
        self,
        *,
        since: int | None = None,
        last: int | None = None,
        timeout: float | None = LIST_SECONDS,
        retry: bool = True,
        on_note: OnNote = _log.warning,
    ) -> Observation[Event]:
        """Iterate over the same events as `events`, then each new one. Does not end by itself.

        Each event comes once and in order, even if notifications are lost or merged. Leaving an
        `async for` loop ends the observation. `retry` and `on_note` are those of `Device.observe`;
        no event is missing after a lost session. `timeout` is for each list of stored events.
        """
        fetch = partial(self._page, timeout=timeout)
        observe = partial(self._observed, timeout=timeout, retry=retry, on_note=on_note)
        return Observation(
            lambda: audit.follow(fetch, observe, since=since, last=last),
            subject=f"the events of {self._session.alias}",
        )

    async def _page(
        self, query: Mapping[str, int], *, timeout: float | None = LIST_SECONDS
    ) -> Events:
        return events_untrusted(await self._list(events_path(query), timeout))

    async def _observed(
        self, query: Mapping[str, int], *, timeout: float | None, retry: bool, on_note: OnNote
    ) -> AsyncGenerator[Events, None]:
        stream = self._session.observe(
            events_path(query), timeout=timeout, retry=retry, on_note=on_note
        )
        async with contextlib.aclosing(without_gaps(stream)) as replies:
            async for reply in replies:
                yield events_untrusted(reply.payload)
