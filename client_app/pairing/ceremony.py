"""The client's side of a ceremony, over one connection to the pairing port (protocol §5).

    GET /pair               the device's name and the methods it offers
    POST /pair              starts; if the device knows the key and the name, the pairing ends here
    POST /pair/{id}         the method's exchange, if it has one
    GET /pair/{id}          while both users compare, if the method asks for it; then observed
    POST /pair/{id}         the client's confirmation; the device stores the client and confirms
    DELETE /pair/{id}       the client's user declined

`peer.pairing.methods` defines what each method adds to these messages; `method_choice` picks one.

Invariant: the client stores a device only after the device's tag was verified *and* its key was
authenticated: by this side's user (comparing, or with a code or a label), or by an expected
fingerprint. If only the last response is lost, `finish` raises `AnswerLost`; the caller then asks
on the regular port, and verifies the receipt of that tag if the method requires it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiocoap.numbers.codes import Code

from client_app.deadline import waiting_for
from client_app.decode import body_untrusted
from client_app.errors import Declined
from client_app.exchange import ask, message_of, payload_of
from client_app.limits import PAIRING_POLL_SECONDS
from client_app.pairing.messages import (
    Offer,
    Registration,
    Started,
    is_accepted_untrusted,
    method_fields_untrusted,
    offer_untrusted,
    registration_untrusted,
    start_untrusted,
)
from peer.errors import (
    HandshakeFailed,
    PeerError,
    RefusedByUser,
    TimedOut,
    Unreachable,
    WrongCode,
)
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.connection import CoapsConnection
from peer.net.notifications import NotificationStream
from peer.net.tasks import cancel_all
from peer.pairing.binding import Channel
from peer.pairing.errors import OPEN_THE_WINDOW, Mismatch
from peer.pairing.sides import ClientSide, Session, Terms


class AnswerLost(Unreachable):
    """The last response was lost: whether the device has stored this client is unknown."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison that this side's user is asked for.

    Attributes:
        device, own: the fingerprints of both sides, to be compared completely if `number` is empty.
        name: the name that the device gives itself; escape it before you show it.
        address: the address of the device.
        seconds: how long the user has to answer.
        number: six digits to be compared, or empty.
    """

    device: Fingerprint
    own: Fingerprint
    name: str
    address: str
    seconds: float
    number: str = ""


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """The device that was found, before anything is asked about it.

    `name` is what it calls itself; escape it before you show it.
    """

    name: str
    fingerprint: Fingerprint
    address: str


Futures = set[asyncio.Future[None]]

OnDevice = Callable[[FoundDevice], None]
"""Called when the device has been found and has made its offer."""

Confirm = Callable[[Comparison], Awaitable[bool]]
"""Asks this side's user."""

OnWait = Callable[[float], None]
"""Called with the seconds left while only the user at the device is waited for."""

OnNote = Callable[[str], None]
"""Called with a warning for this side's user."""


class Ceremony:
    """One pairing attempt over one connection. One-shot."""

    def __init__(self, connection: CoapsConnection, *, own: Fingerprint, limits: Limits) -> None:
        self._connection = connection
        self._own = own
        self._limits = limits
        self._stream: NotificationStream | None = None

    @property
    def device(self) -> Fingerprint:
        """The key of the device, proved in the handshake."""
        return self._connection.peer.fingerprint

    @property
    def session(self) -> Session:
        """The session to which a method binds its messages."""
        return Session(self._connection.peer.exporter, self._own, self.device)

    @property
    def is_open(self) -> bool:
        """Whether the session is open, as far as this side knows."""
        return self._connection.is_open

    async def offer(self, *, timeout: float | None = None) -> Offer:
        """Ask the device for its name and methods.

        `timeout` is in seconds and defaults to `Limits.step_seconds`. Raises a `PeerError` if no
        pairing is possible.
        """
        if not self._connection.peer.extended_master_secret:
            # Without it a man in the middle can give two sessions one exporter value (RFC 7627 §1).
            raise HandshakeFailed(
                "the device does not support the extended master secret (RFC 7627), "
                "so pairing with it is not secure",
                advice="Update the software of the device.",
            )
        body = await self._ask(Code.GET, ("pair",), timeout=timeout)
        return offer_untrusted(body, proved=self.device)

    async def start(self, side: ClientSide, *, name: str, role: str) -> Started | Registration:
        """Start a ceremony and complete the method's exchange.

        Returns a `Registration` if the device has already stored this key under this name. Raises
        `WrongCode` if the device violates the method.
        """
        request = {**side.begin(), "method": side.method, "name": name}
        if role:
            request["role"] = role
        started = start_untrusted(await self._ask(Code.POST, ("pair",), request))
        if isinstance(started, Registration):
            return started
        channel = Channel(self._connection.peer.exporter, self._own, self.device, started.window_id)
        terms = Terms(channel, started.role, name, started.id)
        try:
            message = side.started_untrusted(terms, started.fields)
            if message is not None:
                body = await self._ask(Code.POST, ("pair", started.id), message)
                side.exchanged_untrusted(method_fields_untrusted(body))
        except Mismatch as error:
            await self.abort(started)
            raise WrongCode(str(error), advice=error.advice) from error
        return started

    async def both_agree(
        self, started: Started, question: Comparison, *, confirm: Confirm, on_wait: OnWait
    ) -> None:
        """Return when both users have confirmed; they are asked at the same time.

        Raises `Declined` (this side's user), `RefusedByUser` (the device's user), or `TimedOut`.
        """
        ours = asyncio.ensure_future(confirmed(confirm, question))
        theirs = asyncio.ensure_future(self._accepted(started))
        waiting: Futures = {ours, theirs}
        loop = asyncio.get_running_loop()
        until = loop.time() + question.seconds
        try:
            with waiting_for("waiting for confirmation at the device"):
                async with asyncio.timeout_at(until):
                    while waiting:
                        done, waiting = await _first_of(waiting)
                        for one in done:
                            one.result()
                        if theirs in waiting:
                            on_wait(max(0.0, until - loop.time()))
        except TimeoutError as error:
            await self.abort(started)
            who = "you" if ours in waiting else "the user at the device"
            raise TimedOut(
                f"{who} did not answer in time; nothing was stored", advice="Start again."
            ) from error
        except (Declined, RefusedByUser) as error:
            if isinstance(error, Declined):
                await self.abort(started)
            if await self._is_window_gone():
                error.advice = f"The pairing window has closed. {OPEN_THE_WINDOW}"
            raise
        finally:
            await cancel_all((ours, theirs))

    async def finish(self, side: ClientSide, started: Started) -> Registration:
        """Send the confirmation and verify the device's.

        Raises `AnswerLost` if the outcome is unknown, `WrongCode` if the device's tag is wrong.
        """
        try:
            body = await self._ask(Code.POST, ("pair", started.id), side.confirm())
        except (Unreachable, TimedOut) as error:
            raise AnswerLost(f"the last response of the device was lost: {error}") from error
        try:
            side.verify_untrusted(method_fields_untrusted(body))
        except Mismatch as error:
            raise WrongCode(str(error), advice=error.advice) from error
        return registration_untrusted(body)

    async def abort(self, started: Started) -> None:
        """Tell the device that this side gives up; the end of the session has the same effect."""
        with contextlib.suppress(PeerError):
            await self._ask(Code.DELETE, ("pair", started.id))

    async def _is_window_gone(self) -> bool:
        """Return whether the device says that its window has closed: after the last attempt."""
        try:
            return not (await self.offer(timeout=self._limits.handshake_again_seconds)).methods
        except PeerError:
            return False

    async def close(self) -> None:
        """End the session, and the observation in it. Safe to repeat."""
        if self._stream is not None:
            self._stream.close()
        await self._connection.close()

    async def _accepted(self, started: Started) -> None:
        """Return when the device's user has accepted; polls a device that does not notify.

        One who accepted at once needs no observation.
        """
        path = ("pair", started.id)
        if is_accepted_untrusted(await self._ask(Code.GET, path)):
            return
        while not await self._observed(started):  # noqa: ASYNC110 - the event is on another machine
            await asyncio.sleep(PAIRING_POLL_SECONDS)

    async def _observed(self, started: Started) -> bool:
        # It ends with the session: to withdraw it now would delay the confirmation (NSTART).
        self._stream = self._connection.observe(message_of(Code.GET, ("pair", started.id)))
        async for response in self._stream:
            if is_accepted_untrusted(body_untrusted(payload_of(response))):
                return True
        return False

    async def _ask(
        self,
        code: Code,
        path: tuple[str, ...],
        body: Mapping[str, object] | None = None,
        *,
        timeout: float | None = None,
    ) -> object:
        timeout = timeout or self._limits.step_seconds
        with waiting_for("waiting for the answer of the device"):
            return body_untrusted(await ask(self._connection, code, path, body, timeout=timeout))


async def _first_of(waiting: Futures) -> tuple[Futures, Futures]:
    return await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)


async def confirmed(confirm: Confirm, question: Comparison) -> None:
    """Return if this side's user confirms. Raises `Declined`."""
    with waiting_for("waiting for your answer"):
        is_confirmed = await confirm(question)
    if not is_confirmed:
        raise Declined("you did not confirm the device; nothing was stored")
