"""Redeeming an invite: one string instead of two users who look, also from afar (protocol §6).

The invite names the device's fingerprint. That key is pinned before the first connection, so the
token goes to nobody else, whatever answers at the addresses that it hints at. What the device does
with it is idempotent for one key: after a lost answer it is sent once more, and the answer is that
of the first time. A device that knows us already is asked who we are there instead.

The token is a secret until it is redeemed: no error, log line or `repr` here has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import aiocoap
from aiocoap.numbers.codes import Code

from client_app.content import NUMBERS, Format
from client_app.device import text_of, whoami_untrusted
from client_app.host_port import Place
from client_app.known_devices import DeviceBook, alias_for, alias_taken, check_alias
from client_app.models import KnownDevice, Paired
from client_app.pairing.ceremony import AnswerLost
from peer import cbor
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
from peer.net.problem import error_of
from peer.terminal.durations import format_time

if TYPE_CHECKING:
    from peer.pairing.invite import InviteToken

METHOD = "invite"
_log = logging.getLogger(__name__)

Reach = Callable[[], Awaitable[CoapsConnection]]
"""A session with the device that the invite names, wherever it is."""

OnNote = Callable[[str], None]
"""Called with what the person should know and what stops nothing."""


@dataclass(frozen=True, slots=True)
class Given:
    """An invite as somebody gave it to us. Nothing but its form was checked yet."""

    token: InviteToken
    signed: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HANDFAST:I*…`. Raises `UsageError`, whose words do not repeat it."""
        from peer.pairing import invite  # noqa: PLC0415 - few clients ever redeem one

        try:
            return cls(*invite.read_untrusted(text))
        except Malformed as error:
            raise UsageError(str(error), advice=error.advice) from None

    @property
    def places(self) -> list[Place]:
        """Where the device may be, by the words of the invite; what is no place is passed over."""
        found = []
        for address in self.token.addresses:
            with contextlib.suppress(UsageError):
                found.append(Place.parse(address))
        return found

    def check_holder(self, own: Fingerprint) -> None:
        """Raise `UsageError` if it is bound to another client's key."""
        if self.token.key not in {None, own}:
            raise UsageError(
                "this invite is bound to the key of another client",
                advice=f"Ask for an invite without --key, or for this key: {own.hex}",
            )

    def note_age(self, now: float, on_note: OnNote) -> None:
        """Say if it looks expired. The device decides: our clock may be the wrong one."""
        if self.token.expires <= now:
            expired = format_time(self.token.expires)
            on_note(
                f"by this machine's clock, the invite expired at {expired}; "
                "trying it anyway, since the device's clock decides"
            )


@dataclass(frozen=True, slots=True)
class Redeemed:
    """Who the device says that we are; `name` is the device's own, if it said it."""

    user: str
    role: str
    name: str = ""
    until: int | None = None


class Redemption:
    """From an invite to a stored device. One-shot."""

    def __init__(
        self,
        given: Given,
        *,
        book: DeviceBook,
        limits: Limits,
        reach: Reach,
        on_note: OnNote | None = None,
    ) -> None:
        self._given = given
        self._key = given.token.device
        self._book = book
        self._limits = limits
        self._reach = reach
        self._on_note = on_note or _log.warning
        self._open: CoapsConnection | None = None

    async def run(self, *, alias: str) -> Paired:
        """Redeem it, and store the device; a device that knows us already is not sent it."""
        known = self._book.by_fingerprint(self._key)
        self._check_alias(alias)
        try:
            await self._connect()
            who = await self._who() if known else None
            is_new = who is None
            who = self._unused(who) if who else await self._become()
            place = Place.of(self._connection.peer.address)
        finally:
            await self._leave()
        device = self._device(who, place, alias, known)
        if is_new:
            device = replace(device, method=METHOD)
        await asyncio.to_thread(self._book.put, device)
        return Paired(device, is_new=is_new, until=who.until)

    # -- at the device ----------------------------------------------------------------------------

    async def _become(self) -> Redeemed:
        """Who the invite makes us, or who we are at a device that does not take it."""
        try:
            return await self._send_again()
        except (RequestFailed, Malformed, WrongCode, Denied):
            # This key may have a user all the same, of which this side has lost its record.
            who = await self._who()
            if who is None:
                raise
            return self._unused(who)

    async def _send_again(self) -> Redeemed:
        """Send the token, and once more if the answer is lost."""
        try:
            return await self._send()
        except (Unreachable, TimedOut) as error:
            lost = AnswerLost(
                f"the device's response was lost: {error}",
                advice="Start again. Redeeming the same invite twice has no further effect.",
            )
        try:
            await self._connect()
            return await self._send()  # the same key and invite: nothing happens twice
        except (Unreachable, TimedOut) as error:
            raise lost from error

    async def _send(self) -> Redeemed:
        """POST `/iam/redeem`, to whoever has proved the key that the invite names."""
        proved = self._connection.peer.fingerprint
        if proved != self._key:
            raise PinMismatch(self._key.hex, proved.hex)
        body = cbor.encode({"token": self._given.signed})
        return redeemed_untrusted(await self._ask(Code.POST, ("iam", "redeem"), body))

    async def _who(self) -> Redeemed | None:
        """Who we are there, without names if that is not for us to know; None if nobody."""
        try:
            me = whoami_untrusted(await self._ask(Code.GET, ("iam", "me")))
        except NotPaired:
            return None
        except Denied:  # a user, whose role does not include this question
            return Redeemed("", "")
        return Redeemed(me.user, me.role, until=me.until)

    def _unused(self, who: Redeemed) -> Redeemed:
        self._on_note("this client is already a user of the device; the invite was not used")
        return who

    async def _ask(self, code: Code, path: tuple[str, ...], body: bytes = b"") -> bytes:
        message = aiocoap.Message(code=code, payload=body)
        message.opt.uri_path = path
        if body:
            message.opt.content_format = NUMBERS[Format.CBOR]
        answer = await self._connection.request(message, timeout=self._limits.step_seconds)
        error = error_of(answer)
        if error is not None:
            raise error
        return bytes(answer.payload)

    async def _connect(self) -> None:
        await self._leave()
        self._open = await self._reach()

    async def _leave(self) -> None:
        gone, self._open = self._open, None
        if gone is not None:
            await gone.close()

    @property
    def _connection(self) -> CoapsConnection:
        assert self._open is not None
        return self._open

    # -- on this side -----------------------------------------------------------------------------

    def _check_alias(self, alias: str) -> None:
        """A word that means another device is told before the invite is spent."""
        if alias and self._holder(check_alias(alias)) not in {None, self._key}:
            raise alias_taken(alias)

    def _holder(self, alias: str) -> Fingerprint | None:
        return next((one.fingerprint for one in self._book.all() if one.alias == alias), None)

    def _device(
        self, who: Redeemed, place: Place, alias: str, known: KnownDevice | None
    ) -> KnownDevice:
        held = known or KnownDevice("", self._key, method=METHOD)
        hints = map(str, self._given.places)
        return replace(
            held,
            alias=check_alias(alias) if alias else held.alias or self._free_alias(who.name),
            name=who.name or held.name,
            user=who.user or held.user,
            role=who.role or held.role,
            port=place.port,
            last_seen=str(place),
            addresses=tuple(dict.fromkeys((*held.addresses, *hints))),
        )

    def _free_alias(self, name: str) -> str:
        """A word made from the device's own name; it is known only now, too late to refuse it."""
        alias = alias_for(name, self._key.device_id)
        if self._holder(alias) in {None, self._key}:
            return alias
        longer = f"{alias[:48]}-{self._key.device_id.lower()}"
        return longer if self._holder(longer) in {None, self._key} else self._key.hex


def redeemed_untrusted(payload: bytes) -> Redeemed:
    """The answer of POST `/iam/redeem`. Raises `Malformed`, and nothing else."""
    body = cbor.decode_untrusted(payload)
    if not isinstance(body, dict):
        raise Malformed("the device's response is not a map")
    user, until = text_of(body, "user"), body.get("until")
    if not user:
        raise Malformed("the device's response: user is missing")
    if isinstance(until, bool) or not isinstance(until, int | None):
        raise Malformed("the device's response: until is not a time")
    return Redeemed(user, text_of(body, "role"), text_of(body, "name"), until)
