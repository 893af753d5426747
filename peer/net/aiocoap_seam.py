"""Every place where this code replaces something private of aiocoap, with the reason.

aiocoap does the messages of CoAP: parsing, retransmission, separate responses, observation on the
client's side, blocks. It trusts its peers in some ways that a device on a hostile network cannot:
tables grow with what a peer sends, and one request that cannot be told of an error hides it from
the others. Each class here says what it changes.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

import aiocoap
from aiocoap import error as coap_error
from aiocoap.blockwise import Block1Spool, Block2Cache, IncompleteException
from aiocoap.message import Direction
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.codes import Code
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import ACK, CON, NON, RST, Type
from aiocoap.optiontypes import ContentFormatOption
from aiocoap.pipe import Pipe
from aiocoap.tokenmanager import TokenManager
from aiocoap.util import ExtensibleIntEnum

from peer.bounded_dict import BoundedDict
from peer.limits import Limits
from peer.net.outline import Outline
from peer.net.problem import ProblemError, problem
from peer.net.remote import CoapsRemote

_log = logging.getLogger(__name__)
_SZX_RESERVED = 7  # RFC 7959 §2.2; with CoAP over TCP alone it means something

# -- parsing ---------------------------------------------------------------------------------------


def decode_untrusted(
    message: bytes, outline: Outline, remote: CoapsRemote | None
) -> aiocoap.Message:
    """The message that `outline` describes, as `Message.decode` would make it, but for this:

    - Unknown numbers are not remembered. aiocoap's `ExtensibleIntEnum` stores each unknown number
      of an option, Content-Format or Accept in its class for ever. A peer chooses these numbers,
      so each of its messages could make the process grow by kilobytes.
    - Unknown elective options are left out (RFC 7252 §5.4.1), and all but the first of the unknown
      critical ones; aiocoap would look for each of their numbers in vain. What an application
      defines (`OptionNumber(65000).format = …`) is known.

    Raises `UnicodeDecodeError` if an option that has to be UTF-8 is not.
    """
    made = aiocoap.Message(
        code=outline.code, payload=message[outline.payload_at :], _mid=outline.message_id
    )
    made.mtype, made.token = Type(outline.type), outline.token
    made.remote, made.direction = remote, Direction.INCOMING
    options, refused = made.opt, False
    for value, start, end in outline.options:
        if value not in OptionNumber._value2member_map_:
            if refused or not value & 1:
                continue
            refused = True
        number = _member(OptionNumber, value)
        if number.format is ContentFormatOption:
            option = ContentFormatOption(number)
            option._value = _member(ContentFormat, int.from_bytes(message[start:end], "big"))
            options.add_option(option)
        else:
            options.add_option(number.create_option(decode=message[start:end]))
    return made


def _member(numbers: type[ExtensibleIntEnum], value: int) -> ExtensibleIntEnum:
    """`numbers(value)`, without remembering an unknown one."""
    known = numbers._value2member_map_.get(value)
    if known is None:
        known = int.__new__(numbers, value)
        known._value_ = value
    return known


# -- requests, by their tokens ---------------------------------------------------------------------


class Tokens(TokenManager):  # type: ignore[misc]  # aiocoap has no types
    """Counts what is under way per remote, and tells each request of an error."""

    def process_request(self, request: aiocoap.Message) -> None:
        """Note the request's token with its remote until it ends."""
        super().process_request(request)
        pipe, _ = self.incoming_requests[request.token, request.remote]
        request.remote.under_way.add(request.token)
        pipe.on_interest_end(partial(request.remote.under_way.discard, request.token))

    def dispatch_error(self, exception: coap_error.NetworkError, remote: CoapsRemote) -> None:
        """End every request to and from a remote. aiocoap stops at the first one that cannot be
        told, such as a request that was cancelled in this turn of the loop: the others then wait
        for ever, and the retransmissions go on."""
        if self.outgoing_requests is None:
            return
        ends: list[Callable[[], object]] = [
            partial(pipe.add_exception, exception)
            for (_, asked), pipe in self.outgoing_requests.items()
            if asked is remote
        ]
        ends += [
            stop for (_, asking), (_, stop) in self.incoming_requests.items() if asking is remote
        ]
        for end in ends:
            try:
                end()
            except asyncio.InvalidStateError:
                pass  # it was cancelled: no one waits for it any more
            except Exception:
                _log.exception("a request with %r could not be ended", remote)


# -- messages --------------------------------------------------------------------------------------


class Messages(MessageManager):  # type: ignore[misc]
    """aiocoap's message layer with bounds per remote. Repeated requests are recognised before
    aiocoap sees them (`peer.net.deduplication`)."""

    def __init__(self, token_manager: Tokens, limits: Limits) -> None:
        super().__init__(token_manager)
        self._limits = limits
        self._tuning = TransportTuning()
        self._tuning.ACK_TIMEOUT = limits.ack_timeout_seconds
        self._tuning.MAX_RETRANSMIT = limits.max_retransmit
        self._unacknowledged: dict[tuple[CoapsRemote, int], asyncio.Future[None]] = {}

    async def acknowledged(self, message: aiocoap.Message) -> None:
        """Wait until a message that was sent is acknowledged. If it never is, or is reset, aiocoap
        ends the request that it answers, and so cancels who waits here."""
        if message.mtype is not CON:
            return
        key = (message.remote, message.mid)
        future = self._unacknowledged[key] = self.loop.create_future()
        try:
            await future
        finally:
            del self._unacknowledged[key]

    def reset(self, remote: CoapsRemote, message_id: int) -> None:
        """Reject a message of a peer (RFC 7252 §4.2)."""
        message = aiocoap.Message(_mtype=RST, _mid=message_id, code=Code.EMPTY)
        message.remote = remote
        self._send_via_transport(message)

    def deregister(self, observing: aiocoap.Message) -> None:
        """End an observation that a request of ours began (RFC 7641 §3.6). aiocoap only resets the
        notification after the next, so the server would keep it until its resource has changed
        twice."""
        message = observing.copy(observe=1, mid=None, mtype=CON)
        super().send_message(message, lambda: None)

    def send_message(self, message: aiocoap.Message, messageerror_monitor: Any) -> Any:
        """Give a request that is rejected an error to raise: aiocoap's monitor gives the class,
        and logs a warning about it."""
        if message.code.is_request():
            pipe = self.token_manager.outgoing_requests[message.token, message.remote]
            messageerror_monitor = partial(pipe.add_exception, coap_error.MessageError("rejected"))
        return super().send_message(message, messageerror_monitor)

    def _deduplicate_message(self, message: aiocoap.Message) -> bool:
        return False

    def _store_response_for_duplicates(self, message: aiocoap.Message) -> None:
        """Nothing: the layer below keeps the bytes of the answer."""

    def _add_exchange(self, message: aiocoap.Message, monitor: Callable[[], None]) -> None:
        message.transport_tuning = self._tuning
        super()._add_exchange(message, monitor)

    def _remove_exchange(self, message: aiocoap.Message) -> None:
        super()._remove_exchange(message)
        waiting = self._unacknowledged.get((message.remote, message.mid))
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _process_request(self, request: aiocoap.Message) -> None:
        """Refuse what would be too much at once: requests, observations, and answers that wait for
        the acknowledgement of an earlier one."""
        remote: CoapsRemote = request.remote
        busy = len(remote.under_way) + len(self._backlogs.get(remote, ()))
        if busy >= self._limits.observations_per_session and request.token not in remote.under_way:
            self._refuse(request)
        else:
            super()._process_request(request)

    def _refuse(self, request: aiocoap.Message) -> None:
        answer = problem(
            Code.TOO_MANY_REQUESTS,
            "too-many",
            "too many requests and observations on this session",
            "End some of them first.",
            max_age=5,
        )
        answer.remote, answer.token = request.remote, request.token
        answer.mtype = ACK if request.mtype is CON else NON
        answer.mid = request.mid if request.mtype is CON else self._next_message_id()
        self._send_initially(answer)


class _Rendering:
    """The answering of one request. Unlike a coroutine it may be dropped before it has begun,
    which aiocoap does with a request whose session ends in the same turn of the loop."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, None]:
        return self._begin().__await__()


class Context(aiocoap.Context):  # type: ignore[misc]
    """aiocoap's context; see `_Rendering`."""

    def _render_to_pipe(self, pipe: Pipe) -> _Rendering:
        return _Rendering(lambda: super(Context, self)._render_to_pipe(pipe))


# -- blocks ----------------------------------------------------------------------------------------


_Kept = BoundedDict[Any, aiocoap.Message]


def _kept(limits: Limits) -> _Kept:
    """Messages by what their blocks have in common, bounded in number and bytes."""
    return BoundedDict(
        limits.block_assemblies,
        most_weight=limits.block_bytes,
        weigh=lambda message: len(message.payload),
    )


class Bodies(Block1Spool):  # type: ignore[misc]
    """Half-received bodies: each of a bounded size, and bounded in number and bytes. aiocoap keeps
    any number of any size for 93 s."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._assemblies = _kept(limits)

    def feed(self, request: aiocoap.Message, most_bytes: int) -> aiocoap.Message:
        """Add one block; the whole body when it was the last. Raises what stands for 2.31, 4.00,
        4.08 or 4.13. aiocoap lets a `ValueError` through for a block out of order."""
        block = request.opt.block1
        start = block.start if block is not None else 0
        announced = request.opt.size1 or 0
        if max(start + len(request.payload), announced) > most_bytes:
            raise ProblemError(
                Code.REQUEST_ENTITY_TOO_LARGE,
                "too-large",
                "the request's body is too large",
                f"Send at most {most_bytes} bytes.",
            )
        _require_size(block)
        try:
            whole = self.feed_and_take(request)
        except coap_error.BadRequest as error:
            raise _bad_block("a block is not of the size that it says") from error
        except ValueError as error:
            raise IncompleteException from error
        finally:
            self._assemblies.weigh_again()
        if block is not None:
            self._forget(whole)
        return whole

    def _forget(self, whole: aiocoap.Message) -> None:
        for key in [key for key, held in self._assemblies.items() if held is whole]:
            del self._assemblies[key]


class Answers(Block2Cache):  # type: ignore[misc]
    """Half-sent answers, bounded in number and bytes."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._completes = _kept(limits)

    async def block_of(
        self,
        request: aiocoap.Message,
        build: Callable[[], Coroutine[Any, Any, aiocoap.Message]],
    ) -> aiocoap.Message:
        """The block of an answer that a request asks for, or all of it if it fits. Raises what
        stands for 4.00 or 4.08."""
        block = request.opt.block2
        _require_size(block)
        try:
            return await self.extract_or_insert(request, build)
        except coap_error.BadRequest as error:
            if block is None or block.block_number == 0:
                raise  # the handler's own words
            raise _bad_block("the answer has no such block") from error


def _require_size(block: Any) -> None:
    if block is not None and block.size_exponent == _SZX_RESERVED:
        raise _bad_block("the size of the blocks is a reserved value")


def _bad_block(title: str) -> ProblemError:
    return ProblemError(
        Code.BAD_REQUEST, "malformed", title, "See RFC 7959 for how a body is sent in blocks."
    )
