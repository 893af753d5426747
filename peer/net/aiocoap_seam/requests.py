"""aiocoap's manager of requests: which ones run, by remote and token."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.optiontypes import BlockOption
from aiocoap.tokenmanager import TokenManager

from peer.limits import NOTIFICATION_IDS
from peer.net.remote import CoapsRemote

_log = logging.getLogger(__name__)


class BoundedTokenManager(TokenManager):
    """Counts the running requests of each remote, and notifies every request of an error."""

    def process_request(self, request: aiocoap.Message) -> None:
        """Note the request's token with its remote until the request ends.

        A registration takes the place of the one with the same token, and Observe 1 ends it (RFC
        7641 §4.1). No other request does, although a client should not use the token of an
        observation for one: some do, to fetch the other blocks of a notification. aiocoap ends
        the earlier one of any two requests with one token.
        """
        remote: CoapsRemote = request.remote
        is_observation = is_registration(request)
        if is_observation:
            place = _place_of_observation(request.token, remote)
            self._end(place)
        else:
            place = _place_of_request(request.token, remote)
            self._end(place)
            if is_deregistration(request):
                self._end(_place_of_observation(request.token, remote))
        super().process_request(request)
        # aiocoap removes an entry by token and remote alone, which are not unique.
        entry = self.incoming_requests.pop((request.token, remote))
        self.incoming_requests[place] = entry
        pipe, _ = entry
        if is_observation:
            remote.observing[request.token] = deque(maxlen=NOTIFICATION_IDS)
        else:
            remote.under_way.add(request.token)
        is_change = request.code not in (Code.GET, Code.FETCH)  # RFC 7252 §5.1, RFC 8132 §2
        remote.changes_under_way += is_change

        def end() -> None:
            remote.changes_under_way -= is_change
            if is_observation:
                remote.observing.pop(request.token, None)
            else:
                remote.under_way.discard(request.token)
            self.incoming_requests.pop(place, None)

        pipe.on_interest_end(end)

    def end_observation(self, token: bytes, remote: CoapsRemote) -> None:
        """End an observation of a peer."""
        self._end(_place_of_observation(token, remote))

    def _end(self, place: tuple[bytes, object]) -> None:
        if place in self.incoming_requests:
            self.incoming_requests[place][1]()

    def has_requests_to(self, remote: CoapsRemote) -> bool:
        """Return whether a request or an observation of this side runs on a session."""
        running = self.outgoing_requests or {}
        return any(asked is remote for _, asked in running)

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


def is_registration(request: aiocoap.Message) -> bool:
    """Whether a request begins an observation.

    Other methods than GET cannot (docs/protocol.md §2.5). A request for a later block does not: it
    asks for a part of a state that the client knows already (RFC 7959 §2.6).
    """
    if request.code is not Code.GET or request.opt.observe != 0:
        return False
    block = request.opt.block2
    # The value of an invalid option has another type; the request gets 4.02.
    return not (isinstance(block, BlockOption.BlockwiseTuple) and block.block_number > 0)


def is_deregistration(request: aiocoap.Message) -> bool:
    """Whether a request ends the observation with its token, if there is one."""
    return request.code is Code.GET and request.opt.observe == 1


def _place_of_request(token: bytes, remote: CoapsRemote) -> tuple[bytes, object]:
    """Return the key of a request in the table of incoming ones. A token has 8 bytes at most."""
    return b"request of " + token, remote


def _place_of_observation(token: bytes, remote: CoapsRemote) -> tuple[bytes, object]:
    return b"observation of " + token, remote
