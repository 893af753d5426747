"""/pair on the pairing port: how a stranger becomes a user (protocol §5).

Everything here is local-only, checked on every request with the verdict over all datagrams of the
session so far, and once more on each notification. Only the session that started a ceremony may see
it; to all others it does not exist.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import ObservableResource

from device_app.access.audit_log import AuditLog
from device_app.access.error_answers import StoreFailed, error_answers, malformed
from device_app.access.event_kind import EventKind
from device_app.pairing.events import PairingEvents
from device_app.pairing.service import PairingService
from device_app.resources.payloads import CBOR, read_map, reply, reply_text, text_field
from iam.model import User
from peer.net.problem import REASONS, ProblemError
from peer.net.remote import PeerIdentity, peer_of
from peer.pairing.ceremony import Ceremony, Stage, StartForm, State
from peer.pairing.errors import CeremonyError, LockedOut, Misuse, NoSuchCeremony
from peer.pairing.methods import Method
from peer.pairing.names import default_name

VERSION = 1
_LATER_SECONDS = 5  # Max-Age of a 5.03 or 4.29: when to look again


class LocalOnly:
    """The guard of the pairing port: direct neighbours and nobody else, whatever their role."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def authorise(
        self, request: aiocoap.Message, _path: tuple[str, ...], _resource: object
    ) -> None:
        """Raise 4.03 not-local, with an event that says how the request came."""
        self.check(peer_of(request))

    def check(self, peer: PeerIdentity) -> None:
        """The same for a peer whose request was let in before."""
        if peer.is_local:
            return
        verdict = peer.verdict
        refusal = self._audit.event(
            EventKind.NOT_LOCAL,
            fingerprint=peer.fingerprint.hex,
            address=str(peer.address),
            interface=verdict.interface or peer.interface,
            hop_limit=verdict.hop_limit,
            result=verdict.rule,
            detail=verdict.detail,
        )
        self._audit.append_refusal(refusal)
        raise ProblemError(
            "not-local",
            "pairing is for direct neighbours only",
            "Join the network the device is in, without a router or a tunnel in between. "
            "A stock CoAP client needs a device with `--local compat`.",
        )


class Pair(ObservableResource):
    """/pair and, below it, /pair/{id}."""

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
        self._local = local
        self._device = device
        self._regular_port = regular_port
        service.events.subscribe(lambda _event: self.updated_state())

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        """What is offered, or how a ceremony stands. Both can be observed."""
        self._local.check(peer_of(request))
        match tuple(request.opt.uri_path):
            case ():
                return reply(request, self._offer())
            case path:
                with _answers():
                    return reply(request, _view(self._find(request, path)))

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """Start a ceremony, in the plain form if there is no body; or go on with one."""
        path = tuple(request.opt.uri_path)
        if path:
            with _answers():
                return self._go_on(request, path)
        with _answers(busy=Code.SERVICE_UNAVAILABLE):
            if not request.payload and request.opt.content_format is None:
                return await self._plain(request)
            return self._start(request)

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        """The client gives up."""
        path = tuple(request.opt.uri_path)
        if not path:
            raise ProblemError(
                "method-not-allowed",
                "the pairing resource cannot be deleted",
                "DELETE /pair/{id} aborts a ceremony.",
            )
        with _answers():
            self._find(request, path)
            ceremony = self._service.ceremonies.abort(path[0], peer_of(request))
        return reply(request, _view(ceremony), code=Code.DELETED)

    def _offer(self) -> dict[str, Any]:
        window = self._service.window
        methods = list(window.methods) if window is not None and self._service.is_open else []
        fingerprint = self._service.device
        return {
            "version": VERSION,
            "id": fingerprint.device_id,
            "name": self._device,
            "methods": methods,
            "seconds": round(self._service.seconds_left),
            "fingerprint": fingerprint.hex,
            "port": self._regular_port(),  # where to call after pairing, on a LAN without mDNS
        }

    def _find(self, request: aiocoap.Message, path: tuple[str, ...]) -> Ceremony:
        if len(path) != 1:
            raise NoSuchCeremony("there is no such resource", advice="See GET /pair.")
        return self._service.ceremonies.find(path[0], peer_of(request))

    def _start(self, request: aiocoap.Message) -> aiocoap.Message:
        body = read_map(request, limits=self._service.limits)
        started = self._service.ceremonies.start(
            peer_of(request),
            method=text_field(body, "method"),
            name=text_field(body, "name"),
            role=text_field(body, "role", default=""),
            form=StartForm.CONFIRMED,
            message=body,
        )
        if isinstance(started, User):
            known = {"state": State.REGISTERED.value, "user": started.name, "role": started.role}
            return reply(request, known, code=Code.CHANGED)
        return reply(
            request,
            {
                "id": started.id,
                "window": started.window_id,
                "state": started.state.value,
                "role": started.role,
                **started.answer,
            },
            code=Code.CREATED,
            location=("pair", started.id),
        )

    def _go_on(self, request: aiocoap.Message, path: tuple[str, ...]) -> aiocoap.Message:
        """The next message of the method: its exchange, or the confirmation."""
        ceremony, peer = self._find(request, path), peer_of(request)
        body = read_map(request, limits=self._service.limits)
        if ceremony.stage is Stage.EXCHANGE:
            asking = self._service.ceremonies.exchange(path[0], body, peer)
            return reply(request, {**_view(asking), **asking.answer}, code=Code.CHANGED)
        done = self._service.ceremonies.complete(path[0], body, peer)
        return reply(request, {**_view(done), "confirm": done.device_tag}, code=Code.CHANGED)

    async def _plain(self, request: aiocoap.Message) -> aiocoap.Message:
        """The answer comes when the device's user has decided (RFC 7252 §5.2.2, separate)."""
        peer = peer_of(request)
        started = self._service.ceremonies.start(
            peer,
            method=Method.COMPARE,
            name=_plain_name(request, peer),
            role="",
            form=StartForm.PLAIN,
        )
        if isinstance(started, User):
            return _paired(request, started.name, started.role)
        try:
            ended = await _ending(
                self._service.events, lambda: self._service.ceremonies.find(started.id, peer)
            )
        except asyncio.CancelledError:
            # The client has gone or has taken its request back.
            with _quietly():
                self._service.ceremonies.abort(started.id, peer)
            raise
        if ended.state is State.REGISTERED:
            return _paired(request, ended.user, ended.role)
        if ended.reason in {"internal", "store"}:
            raise StoreFailed
        if ended.state is State.REFUSED:
            why = (
                "two different clients tried to pair, so both were refused"
                if ended.reason == "overlap"
                else "the device's user said no"
            )
            raise ProblemError("refused", why, "Ask at the device, then try again.")
        raise ProblemError(
            "window-closed",
            "nobody at the device answered in time",
            "Open the window at the device and try again.",
        )


async def _ending(events: PairingEvents, look: Callable[[], Ceremony]) -> Ceremony:
    """The ceremony once it has ended. The fact comes first, so a late waiter does not hang."""
    changed = asyncio.Event()
    stop = events.subscribe(lambda _event: changed.set())
    try:
        while (ceremony := look()).is_live:
            changed.clear()
            await changed.wait()
        return ceremony
    finally:
        stop()


def _plain_name(request: aiocoap.Message, peer: PeerIdentity) -> str:
    queries = request.opt.uri_query
    if not queries:
        return default_name(peer.fingerprint)
    key, equals, value = str(queries[-1]).partition("=")
    if len(queries) > 1 or key != "name" or not equals:
        raise malformed(f"the query {key[:20]!r} means nothing here", "Give name=NAME or nothing.")
    return value


def _paired(request: aiocoap.Message, user: str, role: str) -> aiocoap.Message:
    return reply_text(request, f"paired as {user} with role {role}", code=Code.CHANGED)


def _view(ceremony: Ceremony) -> dict[str, Any]:
    view: dict[str, Any] = {"state": ceremony.state.value}
    if ceremony.state is State.REGISTERED:
        view |= {"user": ceremony.user, "role": ceremony.role}
    return view


@contextmanager
def _answers(*, busy: Code = Code.CONFLICT) -> Iterator[None]:
    """Turn what the service refuses into the answers of protocol §7.

    `busy` is the code for "not now": for a start 5.03, since the same request may succeed later.
    """
    try:
        with error_answers():
            yield
    except Misuse:
        raise  # a fault of ours: 5.00, and the log says what
    except LockedOut as error:
        wait = max(1, round(error.retry_after))
        raise ProblemError(error.reason, str(error), error.advice, max_age=wait) from error
    except CeremonyError as error:
        reason = error.reason if error.reason in REASONS else "refused"
        code = busy if reason == "busy" else None
        is_temporary = code is Code.SERVICE_UNAVAILABLE or reason == "too-many"
        max_age = _LATER_SECONDS if is_temporary else None
        raise ProblemError(reason, str(error), error.advice, code=code, max_age=max_age) from error


@contextmanager
def _quietly() -> Iterator[None]:
    try:
        yield
    except CeremonyError:
        return
