"""Redeeming an invite: pairing by one text, at any address of the device (protocol §6).

The invite contains the device's fingerprint. That key is pinned before the first connection, so the
token is sent to no other device, whatever answers at the addresses that the invite names. Redeeming
is idempotent for one key: after a lost response the token is sent once more, and the device repeats
its response. If the device knows this client already, it is asked who the client is instead.

The token is a secret until it is redeemed: no error, log line or `repr` contains it.
"""

from __future__ import annotations  # invites are slow to import, and few clients redeem one

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Self

from aiocoap.numbers.codes import Code

from client_app.aliases import (
    alias_for,
    alias_taken,
    check_alias,
    check_new_alias,
    unmistakable_alias,
)
from client_app.decode import body_untrusted
from client_app.decode_fields import Fields
from client_app.exchange import ask, ask_me
from client_app.host_port import HostPort
from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice, Paired
from client_app.pairing.ceremony import AnswerLost, OnNote
from peer.errors import (
    Denied,
    Malformed,
    NotPaired,
    PinMismatch,
    RequestFailed,
    TimedOut,
    Unreachable,
    UsageError,
    WrongCode,
)
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.connection import CoapsConnection
from peer.terminal.durations import format_time

if TYPE_CHECKING:
    from peer.pairing.invite import InviteToken

METHOD: Final = "invite"
_NO_PATH: Final = (
    "An invite leads to the addresses of the device, not to a path over its broker. On another "
    "network, join that of the device, or ask for an invite with an address that is reachable here."
)
_log = logging.getLogger(__name__)

ConnectInvited = Callable[[], Awaitable[CoapsConnection]]
"""Opens a session with the device that the invite names."""


@dataclass(frozen=True, slots=True)
class ReceivedInvite:
    """An invite whose format was checked, and nothing else."""

    token: InviteToken
    signed: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `HANDFAST:I:…`. Raises `UsageError`, whose text does not contain the invite."""
        from peer.pairing import invite  # noqa: PLC0415 - see above

        try:
            return cls(*invite.read_untrusted(text))
        except Malformed as error:
            raise UsageError(str(error), advice=error.advice) from None

    @property
    def host_ports(self) -> list[HostPort]:
        """The addresses that the invite names; invalid ones are left out."""
        found = []
        for address in self.token.addresses:
            with contextlib.suppress(UsageError):
                found.append(HostPort.parse(address))
        return found

    def check_holder(self, own: Fingerprint) -> None:
        """Raise `UsageError` if the invite is bound to another client's key."""
        if self.token.key not in {None, own}:
            raise UsageError(
                "this invite is bound to the key of another client",
                advice="Ask for an invite without --key, or for the key that "
                f"`handfast fingerprint` prints: {own.grouped}",
            )

    def note_age(self, now: float, on_note: OnNote) -> None:
        """Note that the invite looks expired. The device decides, since this clock may be wrong."""
        if self.token.expires <= now:
            expired = format_time(self.token.expires)
            on_note(
                f"by this machine's clock, the invite expired at {expired}; "
                "trying it anyway, since the device's clock decides"
            )


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The user and role of this client on the device; `name` is the device's, if it states one."""

    user: str
    role: str
    name: str = ""
    until: int | None = None


class Redemption:
    """One redemption, from an invite to a stored device. One-shot."""

    def __init__(
        self,
        invite: ReceivedInvite,
        *,
        book: DeviceBook,
        limits: Limits,
        connect: ConnectInvited,
        on_note: OnNote | None,
    ) -> None:
        self._invite = invite
        self._key = invite.token.device
        self._book = book
        self._limits = limits
        self._connect_invited = connect
        self._on_note = on_note or _log.warning
        self._open: CoapsConnection | None = None

    async def run(self, *, alias: str) -> Paired:
        """Redeem the invite and store the device.

        If the device knows this client already, the invite is not sent.
        """
        known = self._book.by_fingerprint(self._key)
        self._check_alias(alias)
        try:
            await self._connect()
            registered = await self._registered() if known else None
            is_new = registered is None
            registered = self._unused(registered) if registered else await self._redeem()
            address = HostPort.from_address(self._connection.peer.address)
        finally:
            await self._disconnect()
        device = self._device(registered, address, alias, known)
        if is_new:
            device = replace(device, method=METHOD)
        await asyncio.to_thread(self._book.put, device)
        return Paired(device, is_new=is_new, until=registered.until)

    # -- at the device ----------------------------------------------------------------------------

    async def _redeem(self) -> Redeemed:
        """Redeem the invite, or ask who this client is if the device rejects it."""
        try:
            return await self._send_repeatedly()
        except (RequestFailed, Malformed, WrongCode, Denied):
            # This key may belong to a user already, although this client has no record of it.
            registered = await self._registered()
            if registered is None:
                raise
            return self._unused(registered)

    async def _send_repeatedly(self) -> Redeemed:
        """Send the token, and once more if the response is lost."""
        try:
            return await self._send()
        except (Unreachable, TimedOut) as error:
            lost = AnswerLost(
                f"the device's response was lost: {error}",
                advice="Start again. Redeeming the same invite twice has no further effect.",
            )
        try:
            await self._connect()
            return await self._send()  # has no further effect for the same key
        except (Unreachable, TimedOut) as error:
            raise lost from error

    async def _send(self) -> Redeemed:
        """POST `/iam/redeem`, if the session has the key that the invite names."""
        proved = self._connection.peer.fingerprint
        if proved != self._key:
            raise PinMismatch(self._key.hex, proved.hex)
        timeout = self._limits.step_seconds
        body = {"token": self._invite.signed}
        path = ("iam", "redeem")
        return redeemed_untrusted(
            await ask(self._connection, Code.POST, path, body, timeout=timeout)
        )

    async def _registered(self) -> Redeemed | None:
        """Ask who this client is; None if it is no user. Names are empty if the role hides them."""
        try:
            me = (await ask_me(self._connection, timeout=self._limits.step_seconds)).whoami
        except NotPaired:
            return None
        except Denied:
            return Redeemed("", "")
        return Redeemed(me.user, me.role, until=me.until)

    def _unused(self, registered: Redeemed) -> Redeemed:
        self._on_note("this client is already a user of the device; the invite was not used")
        return registered

    async def _connect(self) -> None:
        await self._disconnect()
        try:
            self._open = await self._connect_invited()
        except (Unreachable, TimedOut) as error:
            error.advice = f"{error.advice} {_NO_PATH}"
            raise

    async def _disconnect(self) -> None:
        gone, self._open = self._open, None
        if gone is not None:
            await gone.close()

    @property
    def _connection(self) -> CoapsConnection:
        assert self._open is not None
        return self._open

    # -- on this side -----------------------------------------------------------------------------

    def _check_alias(self, alias: str) -> None:
        """Raise `UsageError` for the alias of another device, before the invite is used."""
        if not alias:
            return
        if self._holder(check_alias(alias)) not in {None, self._key}:
            raise alias_taken(alias)
        check_new_alias(alias, self._key, self._book.all())

    def _holder(self, alias: str) -> Fingerprint | None:
        return next(
            (
                one.fingerprint
                for one in self._book.all()
                if one.alias.casefold() == alias.casefold()
            ),
            None,
        )

    def _device(
        self, registered: Redeemed, address: HostPort, alias: str, known: KnownDevice | None
    ) -> KnownDevice:
        held = known or KnownDevice("", self._key, method=METHOD)
        hints = map(str, self._invite.host_ports)
        return replace(
            held,
            alias=check_alias(alias) if alias else held.alias or self._free_alias(registered.name),
            name=registered.name or held.name,
            user=registered.user or held.user,
            role=registered.role or held.role,
            port=address.port,
            last_seen=str(address),
            addresses=tuple(dict.fromkeys((*held.addresses, *hints))),
        )

    def _free_alias(self, name: str) -> str:
        """Derive an unused alias from the device's name, which only the response states."""
        alias = alias_for(name, self._key.device_id)
        alias = unmistakable_alias(alias, self._key, self._book.all())
        if self._holder(alias) in {None, self._key}:
            return alias
        longer = f"{alias[:48]}-{self._key.device_id.lower()}"
        return longer if self._holder(longer) in {None, self._key} else self._key.hex


def redeemed_untrusted(payload: bytes) -> Redeemed:
    """Decode the response of POST `/iam/redeem`. Raises only `Malformed`."""
    fields = Fields(body_untrusted(payload), "the response")
    user = fields.text("user", "")
    if not user:
        raise Malformed("the device's response: user is missing")
    return Redeemed(
        user=user,
        role=fields.text("role", ""),
        name=fields.text("name", ""),
        until=fields.optional_time("until"),
    )
