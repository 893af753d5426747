"""aiocoap's managers of requests and of messages, bounded per remote."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from functools import partial

import aiocoap
from aiocoap import error as coap_error
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.codes import Code
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.types import ACK, CON, NON, RST
from aiocoap.pipe import Pipe
from aiocoap.tokenmanager import TokenManager

from peer.limits import RETRY_SECONDS, Limits
from peer.net.problem import ProblemError
from peer.net.remote import CoapsRemote

_log = logging.getLogger(__name__)


class BoundedTokenManager(TokenManager):
    """Counts the running requests of each remote, and notifies every request of an error."""

    def process_request(self, request: aiocoap.Message) -> None:
        """Note the request's token with its remote until the request ends."""
        super().process_request(request)
        pipe, _ = self.incoming_requests[request.token, request.remote]
        request.remote.under_way.add(request.token)
        pipe.on_interest_end(partial(request.remote.under_way.discard, request.token))

    def dispatch_error(self, exception: Exception, remote: object) -> None:
        """End every request to and from a remote.

        aiocoap stops at the first request that cannot be notified, such as one that was cancelled
        in this turn of the loop. The others would then never end, and their retransmissions would
        continue.
        """
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
                pass  # it was cancelled: nothing waits for it
            except Exception:
                _log.exception("cannot end a request with %r", remote)


class BoundedMessageManager(MessageManager):
    """aiocoap's message layer with bounds per remote.

    Repeated requests are recognised before aiocoap sees them (`peer.net.deduplication`).
    """

    def __init__(self, token_manager: BoundedTokenManager, limits: Limits) -> None:
        super().__init__(token_manager)
        self._limits = limits
        self._tuning = TransportTuning()
        self._tuning.ACK_TIMEOUT = limits.ack_timeout_seconds
        self._tuning.MAX_RETRANSMIT = limits.max_retransmit
        self._unacknowledged: dict[tuple[object, int], asyncio.Future[None]] = {}

    async def acknowledged(self, message: aiocoap.Message) -> None:
        """Wait until a message that was sent is acknowledged.

        If it never is, or is reset, aiocoap ends the request that it answers, and thereby cancels
        the caller.
        """
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
        """End an observation that a request of this side began (RFC 7641 §3.6).

        aiocoap only resets the notification after the next, so the server would keep the
        observation until its resource has changed twice.
        """
        message = observing.copy(observe=1, mid=None, mtype=CON)
        super().send_message(message, lambda: None)

    def send_message(
        self, message: aiocoap.Message, messageerror_monitor: Callable[[], object]
    ) -> Callable[[], None] | None:
        """Send a message; the request of a rejected one fails with an error that can be raised.

        aiocoap's own monitor passes the class of the error, and logs a warning about it.
        """
        if message.code.is_request():
            pipe = self.token_manager.outgoing_requests[message.token, message.remote]
            messageerror_monitor = partial(pipe.add_exception, coap_error.MessageError("rejected"))
        return super().send_message(message, messageerror_monitor)

    def _deduplicate_message(self, _message: aiocoap.Message) -> bool:
        return False

    def _store_response_for_duplicates(self, message: aiocoap.Message) -> None:
        """Do nothing: `CoapsLayer` keeps the bytes of the answer."""

    def _add_exchange(
        self, message: aiocoap.Message, messageerror_monitor: Callable[[], object]
    ) -> None:
        message.transport_tuning = self._tuning
        super()._add_exchange(message, messageerror_monitor)

    def _remove_exchange(self, message: aiocoap.Message) -> None:
        super()._remove_exchange(message)
        waiting = self._unacknowledged.get((message.remote, message.mid))
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _process_request(self, request: aiocoap.Message) -> None:
        """Refuse a request beyond the bound of its session.

        Running requests, observations, and answers that wait for the acknowledgement of an earlier
        one count.
        """
        remote: CoapsRemote = request.remote
        busy = len(remote.under_way) + len(self._backlogs.get(remote, ()))
        if busy >= self._limits.observations_per_session and request.token not in remote.under_way:
            self._refuse(request)
        else:
            super()._process_request(request)

    def _refuse(self, request: aiocoap.Message) -> None:
        answer = ProblemError(
            "too-many",
            "too many requests and observations on this session",
            "End some of them first.",
            max_age=RETRY_SECONDS,
        ).to_message()
        answer.remote, answer.token = request.remote, request.token
        answer.mtype = ACK if request.mtype is CON else NON
        answer.mid = request.mid if request.mtype is CON else self._next_message_id()
        self._send_initially(answer)


class _Rendering(Awaitable[None]):
    """The task of answering one request, as an awaitable that may be dropped before it has begun.

    aiocoap drops it if the session of the request ends in the same turn of the loop; Python would
    warn about a coroutine that was never awaited.
    """

    def __init__(self, begin: Callable[[], Awaitable[None]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[object, None, None]:
        return self._begin().__await__()


class Context(aiocoap.Context):
    """aiocoap's context; see `_Rendering`."""

    def _render_to_pipe(self, pipe: Pipe) -> Awaitable[None]:
        return _Rendering(lambda: super(Context, self)._render_to_pipe(pipe))
