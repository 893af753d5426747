"""/pair on the pairing port: an unknown client becomes a user (protocol §5).

Every request is checked for locality, and every notification again. Only the session that started a
ceremony can see it; for all others it does not exist.
"""

import asyncio
import contextlib
from collections.abc import Callable

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import ObservableResource

from device_app.access.error_answers import StoreFailed
from device_app.pairing.service import PairingService
from device_app.resources import pair_messages as messages
from device_app.resources.local_only import LocalOnly
from device_app.resources.pair_messages import PairStart, pairing_errors
from device_app.resources.payloads import CBOR, read_map, reply, reply_text
from iam.model import User
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity, peer_of
from peer.pairing.ceremony import Ceremony, Stage, StartForm, State
from peer.pairing.errors import CeremonyError, NoSuchCeremony
from peer.pairing.methods import Method

PATH = ("pair",)


class Pair(ObservableResource):
    """/pair and /pair/{id}. `regular_port` returns the number of the regular port."""

    ct = CBOR
    rt = "handfast.pair"

    def __init__(
        self,
        service: PairingService,
        local: LocalOnly,
        *,
        device: str,
        regular_port: Callable[[], int],
    ) -> None:
        super().__init__()
        self._service = service
        self._ceremonies = service.ceremonies
        self._local = local
        self._device = device
        self._regular_port = regular_port
        service.events.subscribe(lambda _event: self.updated_state())

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the offer, or the state of a ceremony."""
        self._local.check(peer_of(request))
        if not request.opt.uri_path:
            return reply(request, self._offer())
        with pairing_errors():
            return reply(request, messages.state(self._find(request)))

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """Start a ceremony, in the plain form if there is no body; or take its next message."""
        if request.opt.uri_path:
            with pairing_errors():
                return self._continue(request)
        with pairing_errors(busy=Code.SERVICE_UNAVAILABLE):
            if not request.payload and request.opt.content_format is None:
                return await self._pair_plainly(request)
            return self._start(request)

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        """Abort a ceremony."""
        if not request.opt.uri_path:
            raise ProblemError(
                "method-not-allowed",
                "the pairing resource cannot be deleted",
                "DELETE /pair/{id} aborts a ceremony.",
            )
        with pairing_errors():
            ceremony = self._ceremonies.abort(self._find(request).id, peer_of(request))
        return reply(request, messages.state(ceremony), code=Code.DELETED)

    def _offer(self) -> messages.Answer:
        window = self._service.window
        return messages.offer(
            self._service.device,
            name=self._device,
            methods=tuple(window.methods) if window is not None and self._service.is_open else (),
            seconds=self._service.seconds_left,
            port=self._regular_port(),
        )

    def _find(self, request: aiocoap.Message) -> Ceremony:
        ceremony_id, *rest = request.opt.uri_path
        if rest:
            raise NoSuchCeremony("there is no such resource", advice="See GET /pair.")
        return self._ceremonies.find(ceremony_id, peer_of(request))

    def _start(self, request: aiocoap.Message) -> aiocoap.Message:
        start = PairStart.decode_untrusted(read_map(request, limits=self._service.limits))
        started = self._ceremonies.start(
            peer_of(request),
            method=start.method,
            name=start.name,
            role=start.role,
            form=StartForm.CONFIRMED,
            message=start.fields,
        )
        if isinstance(started, User):
            return reply(request, messages.known(started), code=Code.CHANGED)
        answer, location = messages.started(started), (*PATH, started.id)
        return reply(request, answer, code=Code.CREATED, location=location)

    def _continue(self, request: aiocoap.Message) -> aiocoap.Message:
        """Take the exchange of a method that has one, or the client's confirmation."""
        ceremony, peer = self._find(request), peer_of(request)
        body = read_map(request, limits=self._service.limits)
        if ceremony.stage is Stage.EXCHANGE:
            asking = self._ceremonies.exchange(ceremony.id, body, peer)
            return reply(request, messages.exchanged(asking), code=Code.CHANGED)
        done = self._ceremonies.complete(ceremony.id, body, peer)
        return reply(request, messages.confirmed(done), code=Code.CHANGED)

    async def _pair_plainly(self, request: aiocoap.Message) -> aiocoap.Message:
        """Answer when the device's user has decided (a separate response, RFC 7252 §5.2.2)."""
        peer = peer_of(request)
        started = self._ceremonies.start(
            peer,
            method=Method.COMPARE,
            name=messages.plain_name_untrusted(request, peer.fingerprint),
            role="",
            form=StartForm.PLAIN,
        )
        if isinstance(started, User):
            return _plain_success(request, started.name, started.role)
        try:
            ended = await self._ended(started.id, peer)
        except asyncio.CancelledError:  # the client has disconnected or withdrawn its request
            with contextlib.suppress(CeremonyError):
                self._ceremonies.abort(started.id, peer)
            raise
        if ended.state is State.REGISTERED:
            return _plain_success(request, ended.user, ended.role)
        if ended.reason in {"internal", "store"}:
            raise StoreFailed
        raise messages.plain_refusal(ended)

    async def _ended(self, ceremony_id: str, peer: PeerIdentity) -> Ceremony:
        """Return the ceremony once it has ended; its state is checked before every wait."""
        changed = asyncio.Event()
        unsubscribe = self._service.events.subscribe(lambda _event: changed.set())
        try:
            while (ceremony := self._ceremonies.find(ceremony_id, peer)).is_live:
                changed.clear()
                await changed.wait()
            return ceremony
        finally:
            unsubscribe()


def _plain_success(request: aiocoap.Message, user: str, role: str) -> aiocoap.Message:
    return reply_text(request, f"paired as {user} with role {role}", code=Code.CHANGED)
