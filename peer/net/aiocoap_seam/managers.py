"""aiocoap's manager of messages, bounded per remote."""

import logging
from collections.abc import Callable
from functools import partial

import aiocoap
from aiocoap import error as coap_error
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.codes import Code
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.types import ACK, CON, NON, RST

from peer.errors import MessageNotSent
from peer.limits import (
    EMPTY_ACK_SECONDS,
    PARALLEL_EMPTY_ACK_SECONDS,
    RETRY_SECONDS,
    SESSION_RETRY_SECONDS,
    Limits,
)
from peer.net.aiocoap_seam.deliveries import Delivery, Remaining, fits, size_of
from peer.net.aiocoap_seam.exchanges import Exchanges
from peer.net.aiocoap_seam.refusals import fitting
from peer.net.aiocoap_seam.requests import (
    BoundedTokenManager,
    is_deregistration,
    is_registration,
)
from peer.net.aiocoap_seam.shared_messages import SharedMessage
from peer.net.problem import ProblemError
from peer.net.remote import CoapsRemote

_log = logging.getLogger(__name__)


class BoundedMessageManager(MessageManager):
    """aiocoap's message layer with bounds per remote.

    Repeated requests are recognised before aiocoap sees them (`peer.net.repeats`).
    """

    def __init__(self, token_manager: BoundedTokenManager, limits: Limits) -> None:
        super().__init__(token_manager)
        self._exchanges = self._active_exchanges = Exchanges()
        self._requests = token_manager
        self._limits = limits
        self._tuning = TransportTuning()
        self._tuning.ACK_TIMEOUT = limits.ack_timeout_seconds
        self._tuning.MAX_RETRANSMIT = limits.max_retransmit
        self._alone, self._in_parallel = TransportTuning(), TransportTuning()
        self._alone.EMPTY_ACK_DELAY = EMPTY_ACK_SECONDS
        self._in_parallel.EMPTY_ACK_DELAY = PARALLEL_EMPTY_ACK_SECONDS
        self._deliveries: dict[tuple[object, int], Delivery] = {}

    async def delivered(
        self, message: aiocoap.Message, *, is_stale: Callable[[], bool]
    ) -> TransportTuning | None:
        """Wait until a message that was sent is acknowledged, or is to be replaced.

        If `is_stale` when the message would be sent (again), it is not; a newer one takes its place
        with the remaining attempts (RFC 7641 §4.5.2), which are returned. None: the message was
        acknowledged, or needs no acknowledgement.

        If it never is, or is reset, aiocoap ends the request that it answers, and thereby cancels
        the caller. A message whose caller was cancelled is not sent again.
        """
        if message.mtype is not CON:
            return None
        key = (message.remote, message.mid)
        delivery = self._deliveries[key] = Delivery(is_stale, self.loop.create_future())
        try:
            return await delivery.outcome
        finally:
            del self._deliveries[key]
            self._withdraw(message)

    async def ping(self, remote: CoapsRemote) -> None:
        """Send an Empty confirmable message and wait for the answer (RFC 7252 §4.3)."""
        message = aiocoap.Message(_mtype=CON, _mid=self._next_message_id(), code=Code.EMPTY)
        message.remote = remote
        self._send_initially(message, lambda: None)
        await self.delivered(message, is_stale=lambda: False)

    def acknowledged(self, remote: CoapsRemote, message_id: int) -> None:
        """Note that a message was acknowledged by an empty message.

        It does what `dispatch_message` does with one. Each notification causes one.
        """
        key = (remote, message_id)
        if key in self._active_exchanges:
            self._active_exchanges.pop(key)[1].cancel()
            self._continue_backlog(remote)
        delivery = self._deliveries.get(key)
        if delivery is not None:
            delivery.replace(None)

    def _withdraw(self, message: aiocoap.Message) -> None:
        """Stop sending a message."""
        remote, key = message.remote, (message.remote, message.mid)
        if not self._active_exchanges:  # none, or the context has ended
            return
        if key in self._active_exchanges:
            self._active_exchanges.pop(key)[1].cancel()
            self._continue_backlog(remote)
        elif remote in self._backlogs:
            self._backlogs[remote][:] = [
                one for one in self._backlogs[remote] if one[0] is not message
            ]

    def reset(self, remote: CoapsRemote, message_id: int) -> None:
        """Reject a message of a peer (RFC 7252 §4.2)."""
        message = aiocoap.Message(_mtype=RST, _mid=message_id, code=Code.EMPTY)
        message.remote = remote
        self._send_via_transport(message)

    def reject_response(self, response: aiocoap.Message, reason: Exception) -> None:
        """Reject a response of a peer, and end the request that it answers with an error.

        An acknowledgement is rejected without an answer (RFC 7252 §4.2). Its request still ends,
        because a repeat of it would get the same response.
        """
        if response.mtype is ACK:
            self._remove_exchange(response)
        else:
            self.reset(response.remote, response.mid)
        pipe = self.token_manager.outgoing_requests.get((response.token, response.remote))
        if pipe is not None:
            pipe.add_exception(reason)

    def is_undisturbed(self, remote: CoapsRemote, token: bytes) -> bool:
        """Return whether a request can be answered without regard to those before it.

        If its token is that of a request or observation under way, that one has to end; if the
        session has as many requests as allowed, it is refused (`_process_request`). A request that
        may change something has begun before, so its change comes first.
        """
        return not (
            remote.changes_under_way
            or token in remote.under_way
            or token in remote.observing
            or (remote, token) in self._piggyback_opportunities
            or remote.association.is_refused
            or len(remote.under_way) + len(self._backlogs.get(remote, ()))
            >= self._limits.requests_per_session
        )

    def next_message_id(self) -> int:
        """Return the Message ID of the next message to any peer."""
        return int(self._next_message_id())

    def send_ping(self, remote: CoapsRemote) -> None:
        """Send an empty message once. The answer needs no handling: it shows up as traffic."""
        message = aiocoap.Message(_mtype=CON, _mid=self._next_message_id(), code=Code.EMPTY)
        message.remote = remote
        self._send_via_transport(message)

    def deregister(self, observing: aiocoap.Message) -> None:
        """End an observation that a request of this side began (RFC 7641 §3.6).

        aiocoap only resets the notification after the next, so the server would keep the
        observation until its resource has changed twice.
        """
        message = observing.copy(observe=1, mid=None, mtype=CON)
        super().send_message(message, lambda: None)

    def register_again(self, observing: aiocoap.Message) -> None:
        """Send the request of a running observation again (RFC 7641 §3.3.1)."""
        self.send_message(observing.copy(mid=None, mtype=CON), lambda: None)

    def send_message(
        self, message: aiocoap.Message, messageerror_monitor: Callable[[], object]
    ) -> Callable[[], None] | None:
        """Send a message; the request of a rejected one fails with an error that can be raised.

        aiocoap's own monitor passes the class of the error, and logs a warning about it. A message
        that the session cannot carry fails its request, and ends neither the session nor anything
        else on it.
        """
        if isinstance(message, SharedMessage) and self._send_shared(message, messageerror_monitor):
            return None
        if message.code.is_response() and self._is_suppressed(message):
            return None
        if message.code.is_request():
            pipe = self.token_manager.outgoing_requests[message.token, message.remote]
            most = message.remote.association.session.record_bytes
            if size_of(message) > most:
                self.loop.call_soon(pipe.add_exception, _does_not_fit(message, most))
                return None
            messageerror_monitor = partial(pipe.add_exception, coap_error.MessageError("rejected"))
        elif (fitted := fitting(message)) is None:
            self._answer_unsendable(message, messageerror_monitor)
            return None
        else:
            message = fitted
        self._keep_acknowledgement(message)
        if self._is_notification(message):
            message.transport_tuning = aiocoap.Reliable()
        canceller = super().send_message(message, messageerror_monitor)
        if message.opt.observe is not None and message.code.is_response():
            message_ids = message.remote.observing.get(message.token)
            if message_ids is not None:
                message_ids.append(message.mid)
        return canceller

    def _send_shared(self, message: SharedMessage, stop: Callable[[], object]) -> bool:
        """Send a notification that is the same for all observers, or return False.

        It does what `send_message` does with one that fits, after the first response.
        """
        remote: CoapsRemote = message.remote
        message_ids = remote.observing.get(message.token)
        if (
            not message_ids  # the first response was not sent, for example because of No-Response
            or self._active_exchanges is not self._exchanges  # the context has ended
            or (remote, message.token) in self._piggyback_opportunities
            or not fits(message)
        ):
            return False
        message.mtype, message.mid = CON, self._next_message_id()
        message_ids.append(message.mid)
        if remote in self._backlogs:
            self._backlogs[remote].append((message, stop))
        else:
            self._send_initially(message, stop)
        return True

    def _answer_unsendable(self, message: aiocoap.Message, stop: Callable[[], object]) -> None:
        """Send 5.00 in place of an answer whose options do not fit one datagram, as the last one.

        Blocks divide only the body (RFC 7959), and a record is never divided (RFC 6347 §4.1.1).
        """
        request = message.request
        path = "/".join(request.opt.uri_path) if request is not None else ""
        _log.error("the answer of /%s does not fit one datagram; it has too many options", path)
        answer = aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR, _token=message.token)
        answer.remote, answer.request = message.remote, request
        super().send_message(answer, lambda: None)
        self.loop.call_soon(stop)

    def _is_suppressed(self, response: aiocoap.Message) -> bool:
        """Send what takes the place of a response; return False if it is sent as it is.

        - A non-confirmable request with an option that is not understood is reset (RFC 7252
          §5.4.1); aiocoap answers it with 4.02.
        - If the request has No-Response for this class of codes, it is acknowledged at most
          (RFC 7967 §2). aiocoap considers the option in responses of its `Resource` alone.
        """
        request, unwanted = response.request, response.opt.no_response or 0
        response.opt.no_response = None
        if request is None:
            return False
        if response.code is Code.BAD_OPTION and request.mtype is NON:
            self.reset(request.remote, request.mid)
            return True
        unwanted |= request.opt.no_response or 0
        if not unwanted & 1 << response.code.class_ - 1:
            return False
        self._acknowledge(request)
        return True

    def _is_notification(self, message: aiocoap.Message) -> bool:
        """Whether a message follows the answer to a registration, as a state or the last error.

        An error that is lost would leave the client with an old state: aiocoap sends it like the
        answer to a request, not confirmable if that was not.
        """
        request = message.request
        return (
            message.code.is_response()
            and request is not None
            and is_registration(request)
            and not isinstance(message.transport_tuning, Remaining)
            and bool(message.remote.observing.get(message.token))
        )

    def _keep_acknowledgement(self, response: aiocoap.Message) -> None:
        """Acknowledge a request now if the response with its token is not the one to it.

        aiocoap would send it as the acknowledgement: a notification in place of the block that a
        client asks for with the token of its observation.
        """
        if not response.code.is_response() or response.request is None:
            return
        due = self._piggyback_opportunities.get((response.remote, response.token))
        if due is not None and due[0] != response.request.mid:
            self._acknowledge(response)

    def _acknowledge(self, request: aiocoap.Message) -> None:
        """Send an empty acknowledgement, unless one was sent or none is due."""
        due = self._piggyback_opportunities.pop((request.remote, request.token), None)
        if due is not None:
            message_id, timer = due
            timer.cancel()
            self._send_empty_ack(request.remote, message_id, "there is no response")

    def _process_response(self, response: aiocoap.Message) -> bool:
        """Reset a non-confirmable response to nothing, too: it ends an observation."""
        is_expected = super()._process_response(response)
        if not is_expected and response.mtype is NON:
            self.reset(response.remote, response.mid)
        return is_expected

    def _deduplicate_message(self, _message: aiocoap.Message) -> bool:
        return False

    def _store_response_for_duplicates(self, message: aiocoap.Message) -> None:
        """Do nothing: `CoapsLayer` keeps the bytes of the answer."""

    def _add_exchange(
        self, message: aiocoap.Message, messageerror_monitor: Callable[[], object]
    ) -> None:
        if not isinstance(message.transport_tuning, Remaining):
            message.transport_tuning = self._tuning
        super()._add_exchange(message, messageerror_monitor)

    def _send_initially(
        self,
        message: aiocoap.Message,
        messageerror_monitor: Callable[[], object] | None = None,
    ) -> None:
        """Send a message, unless it became stale while it waited behind another one."""
        delivery = self._stale(message)
        if delivery is None:
            super()._send_initially(message, messageerror_monitor)
        else:
            delivery.replace(message.transport_tuning)

    def _retransmit(
        self, message: aiocoap.Message, timeout: float, retransmission_counter: int
    ) -> None:
        """Retransmit a message, unless it is stale: a newer one has the remaining attempts."""
        delivery = self._stale(message)
        left = message.transport_tuning.MAX_RETRANSMIT - retransmission_counter
        if delivery is None or left <= 0:
            super()._retransmit(message, timeout, retransmission_counter)
            return
        self._active_exchanges.pop((message.remote, message.mid))[1].cancel()
        delivery.replace(Remaining(2 * timeout, left - 1))
        self._continue_backlog(message.remote)

    def _continue_backlog(self, remote: object) -> None:
        """Send the next messages to a remote, up to one that has to be acknowledged."""
        waiting = self._backlogs.get(remote)
        while waiting is not None and not self._exchanges.number_of(remote):
            if not waiting:
                del self._backlogs[remote]
                return
            message, messageerror_monitor = waiting.pop(0)
            self._send_initially(message, messageerror_monitor)

    def _stale(self, message: aiocoap.Message) -> Delivery | None:
        if message.mtype is not CON:
            return None
        delivery = self._deliveries.get((message.remote, message.mid))
        return delivery if delivery is not None and delivery.is_stale() else None

    def _remove_exchange(self, message: aiocoap.Message) -> None:
        """Note that a message was acknowledged or reset.

        A reset of any notification ends its observation (RFC 7641 §3.6): also of one that needs no
        acknowledgement, or was replaced. aiocoap knows only those that are not acknowledged yet.
        """
        if message.mtype is RST:
            self._rejected(message.remote, message.mid)
        super()._remove_exchange(message)
        delivery = self._deliveries.get((message.remote, message.mid))
        if delivery is not None:
            delivery.replace(None)

    def _rejected(self, remote: CoapsRemote, message_id: int) -> None:
        for token, message_ids in list(remote.observing.items()):
            if message_id in message_ids:
                self._requests.end_observation(token, remote)

    def _process_request(self, request: aiocoap.Message) -> None:
        """Refuse a request beyond the bound of its session.

        Answers that wait for the acknowledgement of an earlier one count as requests. Observations
        have a bound of their own, so that they do not block requests.

        An earlier request with the same token is acknowledged first; aiocoap forgets to.
        """
        self._acknowledge(request)
        remote: CoapsRemote = request.remote
        if remote.association.is_refused:
            self._refuse(request, _too_many_sessions())
            return
        waiting = len(self._backlogs.get(remote, ()))
        replaced = remote.observing if is_registration(request) else remote.under_way
        ends_one = is_deregistration(request) and request.token in remote.observing
        if ends_one or request.token in replaced:
            is_full = False  # it takes the place of the other one
        elif is_registration(request):
            is_full = (
                len(remote.observing) >= self._limits.observations_per_session
                or waiting >= self._limits.requests_per_session
            )
        else:
            is_full = len(remote.under_way) + waiting >= self._limits.requests_per_session
        if is_full:
            kind = "observations" if is_registration(request) else "requests"
            error = ProblemError(
                "too-many",
                f"too many {kind} on this session",
                "End some of them first.",
                max_age=RETRY_SECONDS,
            )
            self._refuse(request, error)
        else:
            # A client sends the next of its requests after that (NSTART, RFC 7252 §4.7).
            request.transport_tuning = self._in_parallel if remote.under_way else self._alone
            super()._process_request(request)

    def _refuse(self, request: aiocoap.Message, error: ProblemError) -> None:
        answer = error.to_message()
        answer.remote, answer.token = request.remote, request.token
        answer.mtype = ACK if request.mtype is CON else NON
        answer.mid = request.mid if request.mtype is CON else self._next_message_id()
        self._send_initially(answer)


def _too_many_sessions() -> ProblemError:
    return ProblemError(
        "too-many-sessions",
        "the device has no session left for your key",
        "End another program that uses the device, or give this one a key of its own.",
        max_age=SESSION_RETRY_SECONDS,
    )


def _does_not_fit(message: aiocoap.Message, most: int) -> MessageNotSent:
    return MessageNotSent(
        f"the request has {size_of(message)} bytes in one block, "
        f"and this session carries messages of {most} bytes",
        advice="Use a shorter path and query.",
    )
