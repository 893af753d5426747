"""The client's side of a ceremony, over one connection to the pairing port (protocol §5).

    GET /pair               what the device offers, and what it calls itself
    POST /pair              starts; or the device knows key and name already, and nothing is asked
    POST /pair/{id}         the method's exchange, if it has one
    GET /pair/{id}          observed, while both users look, where the method asks them
    POST /pair/{id}         our confirmation; the device stores us, then gives its tag
    DELETE /pair/{id}       our user said no

`peer.pairing.methods` defines what each method adds to these messages; `method_choice` picks one.

Invariant: nothing is stored here before the device's tag was right *and* this side's user (by a
look, a code or a label), or an expected fingerprint, vouched for the key. If only the last answer
is lost, `finish` raises `AnswerLost`; the caller then asks on the regular port, and verifies the
receipt of that tag where the method needs it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import aiocoap
from aiocoap.numbers.codes import Code

from client_app.content import NUMBERS, Format
from client_app.device import text_of
from client_app.errors import Declined
from peer import cbor
from peer.errors import (
    HandshakeFailed,
    Malformed,
    PeerError,
    PinMismatch,
    RefusedByUser,
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
from peer.pairing.binding import WINDOW_ID_BYTES, Channel
from peer.pairing.ceremony import Fields, State
from peer.pairing.errors import Mismatch
from peer.pairing.sides import ClientSide, Session, Terms

VERSION: Final = 1
POLL_SECONDS: Final = 1.0
"""Between two looks at a ceremony whose device does not notify."""


class AnswerLost(Unreachable):
    """We confirmed, and do not know whether the device has stored us."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What this side's user is asked to compare with what the device shows.

    `number` are six digits, and then nothing else has to be compared; empty: both fingerprints
    have to be, all of them. `name` is what the device calls itself: its own words, to be escaped
    before they are shown.
    """

    device: Fingerprint
    own: Fingerprint
    name: str
    address: str
    seconds: float
    number: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What GET `/pair` said. `port` is the regular port, 0 if it did not say."""

    name: str
    methods: tuple[str, ...]
    port: int


@dataclass(frozen=True, slots=True)
class Registration:
    """Who the device has stored us as."""

    user: str
    role: str


@dataclass(frozen=True, slots=True)
class Started:
    """A ceremony that goes on. `fields` are the method's part of the answer."""

    id: str
    window_id: bytes
    role: str
    fields: Fields = field(default_factory=dict, repr=False)


Confirm = Callable[[Comparison], Awaitable[bool]]
OnWait = Callable[[float], None]
"""Called with the seconds left when the device's user is what we wait for."""


class Ceremony:
    """One pairing attempt over one connection. One-shot."""

    def __init__(self, connection: CoapsConnection, *, own: Fingerprint, limits: Limits) -> None:
        self._connection = connection
        self._own = own
        self._limits = limits

    @property
    def device(self) -> Fingerprint:
        """The key that the device has proved."""
        return self._connection.peer.fingerprint

    @property
    def session(self) -> Session:
        """What methods bind to."""
        return Session(self._connection.peer.exporter, self._own, self.device)

    @property
    def is_open(self) -> bool:
        """Whether the session still stands, as far as this side has heard."""
        return self._connection.is_open

    async def offer(self, *, timeout: float | None = None) -> Offer:
        """What the device offers now. Raises `PeerError` if that is nothing for us.

        `timeout` is in seconds; None for `Limits.step_seconds`.
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
        """Start, and do the method's exchange; or learn that this key and name are registered.

        Raises `WrongCode` if the device does not keep to the method.
        """
        wish = {**side.begin(), "method": side.method, "name": name}
        answer = await self._ask(Code.POST, ("pair",), wish | ({"role": role} if role else {}))
        started = start_untrusted(answer)
        if isinstance(started, Registration):
            return started
        channel = Channel(self._connection.peer.exporter, self._own, self.device, started.window_id)
        terms = Terms(channel, started.role, name, started.id)
        try:
            message = side.started_untrusted(terms, started.fields)
            if message is not None:
                answer = await self._ask(Code.POST, ("pair", started.id), message)
                side.exchanged_untrusted(_fields(answer))
        except Mismatch as error:
            await self.abort(started)
            raise WrongCode(str(error), advice=error.advice) from error
        return started

    async def both_agree(
        self, started: Started, question: Comparison, *, confirm: Confirm, on_wait: OnWait
    ) -> None:
        """Return when both users have said yes; they look at the same time.

        Raises `Declined` (our user), `RefusedByUser` (theirs), `TimedOut`.
        """
        ours = asyncio.ensure_future(_our_user(confirm, question))
        theirs = asyncio.ensure_future(self._their_user(started))
        waiting: set[asyncio.Future[None]] = {ours, theirs}
        loop = asyncio.get_running_loop()
        until = loop.time() + question.seconds
        try:
            async with asyncio.timeout_at(until):
                while waiting:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
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
        except Declined:
            await self.abort(started)
            raise
        finally:
            for one in (ours, theirs):
                one.cancel()
            await asyncio.gather(ours, theirs, return_exceptions=True)

    async def finish(self, side: ClientSide, started: Started) -> Registration:
        """Confirm, and check the device's confirmation.

        Raises `AnswerLost` if the outcome is unknown, `WrongCode` if the device's tag is wrong.
        """
        try:
            body = await self._ask(Code.POST, ("pair", started.id), side.confirm())
        except (Unreachable, TimedOut) as error:
            raise AnswerLost(f"the last response of the device was lost: {error}") from error
        try:
            side.verify_untrusted(_fields(body))
        except Mismatch as error:
            raise WrongCode(str(error), advice=error.advice) from error
        return _registration(_map(body))

    async def abort(self, started: Started) -> None:
        """Tell the device that this side gives up; the end of the session says it as well."""
        with contextlib.suppress(PeerError):
            await self._ask(Code.DELETE, ("pair", started.id))

    # -- the two users ----------------------------------------------------------------------------

    async def _their_user(self, started: Started) -> None:
        """Return when the device's user has accepted; looks again where nobody notifies."""
        while not await self._watched(started):  # noqa: ASYNC110 - the event is on another machine
            await asyncio.sleep(POLL_SECONDS)

    async def _watched(self, started: Started) -> bool:
        message = _message(Code.GET, ("pair", started.id))
        stream = self._connection.observe(message)
        async with contextlib.aclosing(stream):  # type: ignore[type-var]  # it is a generator
            async for answer in stream:
                if is_accepted_untrusted(_body(answer)):
                    return True
        return False

    async def close(self) -> None:
        """End the session. Safe to repeat."""
        await self._connection.close()

    async def _ask(
        self,
        code: Code,
        path: tuple[str, ...],
        body: Mapping[str, object] | None = None,
        *,
        timeout: float | None = None,
    ) -> object:
        answer = await self._connection.request(
            _message(code, path, body), timeout=timeout or self._limits.step_seconds
        )
        return _body(answer)


# -- messages -------------------------------------------------------------------------------------


async def _our_user(confirm: Confirm, question: Comparison) -> None:
    if not await confirm(question):
        raise declined()


def declined() -> Declined:
    """The error for our own user's no."""
    return Declined("you did not confirm the device; nothing was stored")


def _message(
    code: Code, path: tuple[str, ...], body: Mapping[str, object] | None = None
) -> aiocoap.Message:
    message = aiocoap.Message(code=code)
    message.opt.uri_path = path
    if body is not None:
        message.payload = cbor.encode(body)
        message.opt.content_format = NUMBERS[Format.CBOR]
    return message


def _body(answer: aiocoap.Message) -> object:
    error = error_of(answer)
    if error is not None:
        raise error
    return cbor.decode_untrusted(answer.payload) if answer.payload else {}


def _map(body: object) -> dict[object, object]:
    if not isinstance(body, dict):
        raise Malformed("the device's response is not a map")
    return body


def _fields(body: object) -> Fields:
    return {key: item for key, item in _map(body).items() if isinstance(key, str)}


def offer_untrusted(body: object, *, proved: Fingerprint) -> Offer:
    """The answer of GET `/pair`. Raises `Malformed`, `PinMismatch`, or `UsageError`."""
    fields = _map(body)
    if fields.get("version") != VERSION:
        raise UsageError(
            "the device uses another version of the pairing protocol",
            advice="Update handfast on the device or on this client, whichever is older.",
        )
    said = text_of(fields, "fingerprint")
    if said and Fingerprint.parse(said) != proved:
        raise PinMismatch(Fingerprint.parse(said).hex, proved.hex, is_known=False)
    methods, port = fields.get("methods"), fields.get("port", 0)
    if not isinstance(methods, list) or not all(isinstance(one, str) for one in methods):
        raise Malformed("the device's offer contains no list of methods")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise Malformed("the device's offer contains no valid port")
    return Offer(text_of(fields, "name"), tuple(methods), port)


def start_untrusted(body: object) -> Started | Registration:
    """The answer of POST `/pair`. Raises `Malformed`."""
    fields = _map(body)
    if fields.get("state") == State.REGISTERED:
        return _registration(fields)
    window_id, ceremony = fields.get("window"), text_of(fields, "id")
    if not isinstance(window_id, bytes) or len(window_id) != WINDOW_ID_BYTES or not ceremony:
        raise Malformed("the device's response does not start a pairing")
    return Started(ceremony, window_id, text_of(fields, "role"), _fields(body))


def _registration(fields: dict[object, object]) -> Registration:
    if fields.get("state") != State.REGISTERED:
        raise Malformed("the device did not confirm that it has stored this client")
    return Registration(text_of(fields, "user"), text_of(fields, "role"))


def is_accepted_untrusted(body: object) -> bool:
    """Whether the device's user has said yes. Raises what a final state means, or `Malformed`."""
    match _map(body).get("state"):
        case State.PENDING_USER_CONFIRMATION:
            return False
        case State.PENDING_CLIENT_COMPLETION:
            return True
        case State.REFUSED:
            raise RefusedByUser(
                "the device refused: its user declined, or a second client tried to pair",
                advice="Ask the user at the device, then start again.",
            )
        case State.EXPIRED:
            raise TimedOut(
                "the pairing was not confirmed at the device in time",
                advice="Start again, with someone at the device to confirm it.",
            )
        case State.REVOKED | State.REGISTERED:
            raise RequestFailed("the device ended this pairing", advice="Start again.")
        case _:
            raise Malformed("the device's response contains an unknown pairing state")
