"""A small device for tests of the client: real UDP, DTLS and pairing window, without `App`.

It keeps its users in a dictionary. The decisions of its user come from `answers`, a queue that a
test fills. The client sees the behaviour described in protocol.md §5 and §7.
"""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import aiocoap
from aiocoap import resource
from aiocoap.numbers.codes import Code

from peer import cbor
from peer.errors import PeerError
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.admission import SessionPriority
from peer.net.discovery import Advert
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from peer.net.problem import ProblemError
from peer.net.remote import peer_of
from peer.net.server import CoapsServer
from peer.net.site import GuardedSite
from peer.pairing.ceremony import Ceremony, State
from peer.pairing.compare import offer as offer_compare
from peer.pairing.window import Window
from tests.kit.internals import sockets_of
from tests.kit.refused_port import refused_udp

ConfirmAnswer = Callable[[dict[str, object]], aiocoap.Message | None]
HOST = "127.0.0.1"


def cbor_answer(code: Code, value: object) -> aiocoap.Message:
    return aiocoap.Message(code=code, payload=cbor.encode(value), content_format=60)


class Board:
    """The device for the client under test: two servers, a window, and users by fingerprint."""

    def __init__(self, identity: Identity, name: str = "kitchen") -> None:
        self.identity = identity
        self.name = name
        self.users: dict[Fingerprint, str] = {}
        self.denied: set[tuple[str, ...]] = {("vault",)}
        self.answers: asyncio.Queue[bool] = asyncio.Queue()
        self.requests: list[tuple[str, str]] = []
        self.local = True
        self.notifies = True
        self.offers_port = True
        self.confirm_answer: ConfirmAnswer = lambda body: cbor_answer(Code.CHANGED, body)
        self.light = b"off"
        #: The body of GET /remote, which is given once the event is set; None: there is none.
        self.remote: bytes | None = None
        self.answers_remote = asyncio.Event()
        self.answers_remote.set()
        self.denies_remote = False
        self.gate = asyncio.Event()
        self._window: Window | None = None
        self.observed = Counted()
        self.pair_resource: Pair | None = None
        self.ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped_at = ExitStack()
        self.regular: CoapsServer
        self._pairing: CoapsServer | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        return self.identity.fingerprint

    @property
    def window(self) -> Window:
        assert self._window is not None
        return self._window

    @property
    def pairing(self) -> CoapsServer:
        assert self._pairing is not None
        return self._pairing

    async def start(self, *, port: int = 0) -> None:
        """Open the regular port: any one, or that at which it was stopped."""
        if port:
            self._stopped_at.close()
        site = GuardedSite(authorise=self._authorise, limits=DEFAULT_LIMITS)
        handlers: dict[str, resource.Resource] = {
            "hello": Hello(self),
            "light": Light(self),
            "count": self.observed,
            "slow": Slow(self),
            "broken": Broken(),
        }
        for path, handler in handlers.items():
            site.add((path,), handler)
        site.add(("iam", "me"), Me(self))
        site.add(("remote",), Remote(self))
        self.regular = await CoapsServer.start(
            site,
            identity=self.identity,
            listen=[(HOST, port)],
            locality=Locality(mode=LocalMode.STRICT, allow_loopback=True),
            priority=lambda key: (
                SessionPriority.NORMAL if key in self.users else SessionPriority.LOW
            ),
        )

    async def open(self) -> None:
        now = asyncio.get_running_loop().time()
        self._window = Window.open(
            now,
            seconds=120,
            role="owner",
            methods=[offer_compare()],
            window_id=bytes(range(16)),
            device=self.fingerprint,
        )
        site = GuardedSite(authorise=lambda *_: None, limits=DEFAULT_LIMITS)
        site.add(("pair",), Pair(self), takes_rest=True)
        self._pairing = await CoapsServer.start(
            site,
            identity=self.identity,
            listen=[(HOST, 0)],
            locality=Locality(mode=LocalMode.STRICT, allow_loopback=True),
            priority=lambda _key: SessionPriority.NORMAL,
            pairing=True,
        )

    def ask(self, ceremony: Ceremony) -> None:
        async def decide() -> None:
            accept = await self.answers.get()
            now = asyncio.get_running_loop().time()
            self.window.decide(ceremony.id, accept=accept, now=now)
            self.ceremony_changed()

        task = asyncio.create_task(decide())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def ceremony_changed(self) -> None:
        assert self.pair_resource is not None
        self.pair_resource.updated_state()

    async def stop(self) -> None:
        """Close the regular port. No other program gets it before `start` or `close`."""
        port = self.regular.port
        await self.regular.close()
        self._stopped_at.enter_context(refused_udp(port))

    async def lose_power(self) -> None:
        """Stop without a close_notify."""
        for socket in sockets_of(self.regular):
            socket.close()
        await self.stop()

    async def close(self) -> None:
        self.gate.set()
        self.answers_remote.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.regular.close()
        if self._pairing is not None:
            await self._pairing.close()
        self._stopped_at.close()

    def advert(self) -> Advert:
        pairing_port = self._pairing.port if self._pairing else 0
        return Advert(
            device_id=self.fingerprint.device_id,
            name=self.name,
            addresses=(HOST,),
            port=self.regular.port,
            pairing_port=pairing_port,
            pairing_open=bool(pairing_port),
            version=1,
            host="board.local.",
        )

    @property
    def pairing_address(self) -> str:
        return f"{HOST}:{self.pairing.port}"

    def _authorise(self, request: aiocoap.Message, path: tuple[str, ...], _found: object) -> None:
        self.requests.append((str(request.code), "/" + "/".join(path)))
        if peer_of(request).fingerprint not in self.users:
            raise ProblemError("not-paired", "this key is not paired here", "Pair first.")
        if path in self.denied:
            raise ProblemError("denied", "policy says no", "Ask an owner.")


class Hello(resource.Resource):
    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        user = self.board.users[peer_of(request).fingerprint]
        return aiocoap.Message(payload=f"hello {user}".encode(), content_format=0)

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        self.board.light = b"posted"
        return aiocoap.Message(code=Code.CHANGED, payload=request.payload)


class Remote(resource.Resource):
    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        await self.board.answers_remote.wait()
        if self.board.denies_remote:
            raise ProblemError("denied", "not here", "Ask an owner.", code=Code.FORBIDDEN)
        if self.board.remote is None:
            raise ProblemError("not-found", "nothing here", "Look elsewhere.", code=Code.NOT_FOUND)
        return aiocoap.Message(payload=self.board.remote, content_format=60)


class Light(resource.Resource):
    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        if request.opt.accept == 60:
            return cbor_answer(Code.CONTENT, {"light": self.board.light.decode(), "raw": b"\x01"})
        return aiocoap.Message(payload=self.board.light, content_format=42)

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        self.board.light = request.payload
        self.board.requests.append(("format", str(int(request.opt.content_format or 0))))
        return aiocoap.Message(code=Code.CHANGED)

    async def render_delete(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.board.light = b""
        return aiocoap.Message(code=Code.DELETED)


class Slow(resource.Resource):
    """A resource that answers when the board's `gate` opens."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        await self.board.gate.wait()
        return aiocoap.Message(payload=b"at last", content_format=0)

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        return await self.render_get(request)

    render_patch = render_post


class Broken(resource.Resource):
    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        raise ProblemError(
            "busy", "the sensor is away", "Try later.", code=Code.SERVICE_UNAVAILABLE
        )


class Counted(resource.ObservableResource):
    """A counter that starts at 0 and increases with every `step`."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0
        self.watched = asyncio.Event()

    async def add_observation(self, request: aiocoap.Message, serverobservation: Any) -> None:
        await super().add_observation(request, serverobservation)
        self.watched.set()

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return cbor_answer(Code.CONTENT, {"count": self.value})

    def step(self) -> None:
        self.value += 1
        self.updated_state()


class Me(resource.Resource):
    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        peer = peer_of(request)
        me = {
            "user": self.board.users[peer.fingerprint],
            "role": "owner",
            "fingerprint": peer.fingerprint.hex,
            "key": "first",
            "path": "local",
            "actions": ["Hello:Get"],
        }
        return cbor_answer(Code.CONTENT, me)


class Pair(resource.ObservableResource):
    """`/pair` and the paths below it, with a real `Window`."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board
        board.pair_resource = self

    async def add_observation(self, request: aiocoap.Message, serverobservation: Any) -> None:
        if self.board.notifies:
            await super().add_observation(request, serverobservation)

    def _window(self) -> Window:
        if not self.board.local:
            raise ProblemError("not-local", "only for neighbours", "Come closer.")
        return self.board.window

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        window, peer = self._window(), peer_of(request)
        if not request.opt.uri_path:
            offer = {
                "version": 1,
                "id": self.board.fingerprint.device_id,
                "name": self.board.name,
                "methods": ["compare"],
                "seconds": 100,
                "fingerprint": self.board.fingerprint.hex,
            } | ({"port": self.board.regular.port} if self.board.offers_port else {})
            return cbor_answer(Code.CONTENT, offer)
        ceremony = window.find(request.opt.uri_path[0], session_id=peer.session_id)
        return cbor_answer(Code.CONTENT, {"state": str(ceremony.state)})

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        body: Any = cbor.decode_untrusted(request.payload)
        try:
            if request.opt.uri_path:
                return await self._complete(request, body)
            return self._start(request, body)
        except PeerError as error:
            reason = getattr(error, "reason", "malformed")
            raise ProblemError(reason, str(error), error.advice) from error

    async def render_delete(self, request: aiocoap.Message) -> aiocoap.Message:
        self.board.requests.append(("DELETE", "/pair"))
        now = asyncio.get_running_loop().time()
        window, peer = self._window(), peer_of(request)
        window.abort(request.opt.uri_path[0], now, session_id=peer.session_id)
        return aiocoap.Message(code=Code.DELETED)

    def _start(self, request: aiocoap.Message, body: Any) -> aiocoap.Message:
        window, peer, now = self._window(), peer_of(request), self._now()
        held = self.board.users.get(peer.fingerprint)
        if held is not None:
            if held != body["name"]:
                raise ProblemError("taken", "this key is taken", "Use its name.")
            state = {"state": str(State.REGISTERED), "user": held, "role": "owner"}
            return cbor_answer(Code.CHANGED, state)
        ceremony = window.start(
            now,
            fingerprint=peer.fingerprint,
            session_id=peer.session_id,
            ekm=peer.exporter,
            method=body["method"],
            name=body["name"],
            ceremony_id=f"c{next(self.board.ids)}",
        )
        self.board.ask(ceremony)
        answer = cbor_answer(
            Code.CREATED,
            {
                "id": ceremony.id,
                "window": ceremony.window_id,
                "state": str(ceremony.state),
                "role": ceremony.role,
            },
        )
        answer.opt.location_path = ("pair", ceremony.id)
        return answer

    async def _complete(self, request: aiocoap.Message, body: Any) -> aiocoap.Message:
        window, peer, now = self._window(), peer_of(request), self._now()
        at = request.opt.uri_path[0]
        ceremony = window.complete(at, body, now, session_id=peer.session_id)
        self.board.users[peer.fingerprint] = ceremony.name
        ceremony = window.registered(at, user=ceremony.name, now=now)
        answer = self.board.confirm_answer(
            {
                "confirm": ceremony.device_tag,
                "state": str(ceremony.state),
                "user": ceremony.user,
                "role": ceremony.role,
            }
        )
        if answer is None:  # the device loses power at this moment
            self.board.pairing.end_sessions(lambda _key: True)
            answer = aiocoap.Message(code=Code.SERVICE_UNAVAILABLE)
        return answer

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
