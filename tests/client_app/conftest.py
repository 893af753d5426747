"""A small device on loopback: real UDP, real DTLS, the real pairing window; a stand-in for the app.

It keeps its users in a dictionary and asks its "user" through `answer`, an awaitable that a test
decides. What the client sees is what protocol §5 and §7 say.
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiocoap
import pytest
from aiocoap import resource
from aiocoap.numbers.codes import Code
from click.testing import CliRunner

from client_app.cli import main
from client_app.client import Client
from client_app.device import Device
from client_app.home import Home
from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from device_app.app import App
from device_app.config import Settings
from device_app.paths import Paths
from iam.model import Key, User
from peer import cbor
from peer.errors import PeerError
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.admission import SessionPriority
from peer.net.discovery import Advert
from peer.net.onlink import Locality, LocalMode
from peer.net.problem import ProblemError
from peer.net.remote import peer_of
from peer.net.server import CoapsServer
from peer.net.site import GuardedSite
from peer.pairing.ceremony import Ceremony, State
from peer.pairing.compare import offer as offer_compare
from peer.pairing.window import Window

T = TypeVar("T")
HOST = "127.0.0.1"
CODES = {"window-closed": Code.FORBIDDEN, "busy": Code.CONFLICT, "refused": Code.FORBIDDEN}


def cbor_answer(code: Code, value: object) -> aiocoap.Message:
    return aiocoap.Message(code=code, payload=cbor.encode(value), content_format=60)


class Board:
    """The device under the client: two servers, a window, and users by fingerprint."""

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
        self.confirm_answer: Callable[[dict[str, object]], aiocoap.Message | None] = lambda body: (
            cbor_answer(Code.CHANGED, body)
        )
        self.light = b"off"
        self.gate = asyncio.Event()
        self.window: Window | None = None
        self.observed = Counted()
        self.pair_resource: Pair | None = None
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self.regular: CoapsServer
        self.pairing: CoapsServer | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        return self.identity.fingerprint

    async def start(self, *, port: int = 0) -> None:
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
        self.window = Window.open(
            now,
            seconds=120,
            role="owner",
            methods=[offer_compare()],
            window_id=bytes(range(16)),
            device=self.fingerprint,
        )
        site = GuardedSite(authorise=lambda *_: None, limits=DEFAULT_LIMITS)
        site.add(("pair",), Pair(self), takes_rest=True)
        self.pairing = await CoapsServer.start(
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
            assert self.window is not None
            now = asyncio.get_running_loop().time()
            self.window.decide(ceremony.id, accept=accept, now=now)
            self.ceremony_changed()

        task = asyncio.create_task(decide())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def ceremony_changed(self) -> None:
        assert self.pair_resource is not None
        self.pair_resource.updated_state()

    async def lose_power(self) -> None:
        """Disconnect silently: no close_notify is sent. The port is free for a restart."""
        for socket in self.regular._endpoint._sockets:
            socket.close()
        await self.regular.close()

    async def close(self) -> None:
        self.gate.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.regular.close()
        if self.pairing is not None:
            await self.pairing.close()

    def advert(self) -> Advert:
        pairing_port = self.pairing.port if self.pairing else 0
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
        assert self.pairing is not None
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
    """Answers when the board's gate opens."""

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
    """0, and one more with every `step`."""

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
    """`/pair` and everything below it, over the real `Window`."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board
        board.pair_resource = self

    async def add_observation(self, request: aiocoap.Message, serverobservation: Any) -> None:
        if self.board.notifies:
            await super().add_observation(request, serverobservation)

    def _window(self, request: aiocoap.Message) -> Window:
        if not self.board.local:
            raise ProblemError("not-local", "only for neighbours", "Come closer.")
        assert self.board.window is not None
        return self.board.window

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        window, peer = self._window(request), peer_of(request)
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
        window, peer = self._window(request), peer_of(request)
        window.abort(request.opt.uri_path[0], now, session_id=peer.session_id)
        return aiocoap.Message(code=Code.DELETED)

    def _start(self, request: aiocoap.Message, body: Any) -> aiocoap.Message:
        window, peer, now = self._window(request), peer_of(request), self._now()
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
            ceremony_id=f"c{next(self.board._ids)}",
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
        window, peer, now = self._window(request), peer_of(request), self._now()
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
        if answer is None:  # the device's power goes just now
            assert self.board.pairing is not None
            self.board.pairing.end_sessions(lambda _key: True)
            answer = aiocoap.Message(code=Code.SERVICE_UNAVAILABLE)
        return answer

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


# -------------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def keys() -> Callable[[int], Identity]:
    """The same few keys for all tests: making one takes a while."""
    made: dict[int, Identity] = {}
    return lambda number: made.setdefault(number, Identity.create())


@pytest.fixture
async def board(keys: Callable[[int], Identity]) -> AsyncIterator[Board]:
    made = Board(keys(0))
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def other(keys: Callable[[int], Identity]) -> AsyncIterator[Board]:
    """Another device, with another key."""
    made = Board(keys(1), "attic")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


Make = Callable[..., Client]


@pytest.fixture
async def new_client(home: Path) -> AsyncIterator[Make]:
    """Clients that hear of the given boards on their LAN, and of no other device."""
    made: list[Client] = []

    def make(*boards: Board, at: Path = home, limits: Limits = DEFAULT_LIMITS) -> Client:
        async def look() -> AsyncIterator[Advert]:
            for one in boards:
                yield one.advert()

        client = Client(home=at, look=look, limits=limits)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.close()


@pytest.fixture
async def paired(board: Board, new_client: Make) -> Client:
    """A client that is paired with the board, which it calls kitchen."""
    await board.open()
    board.answers.put_nowait(True)
    client = new_client(board)
    await client.pair(expect=board.fingerprint)
    return client


class Elsewhere:
    """A board in a thread of its own, for tests of blocking code and of other processes."""

    def __init__(self, identity: Identity) -> None:
        self._ready: Future[Board] = Future()
        self._identity = identity
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        self.board = self._ready.result(timeout=10)

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run something in the board's thread."""

        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=10)

    def say(self, *answers: bool) -> None:
        """What the device's user will answer."""
        for answer in answers:
            self._loop.call_soon_threadsafe(self.board.answers.put_nowait, answer)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        made = Board(self._identity)
        await made.start()
        self._ready.set_result(made)
        await self._stop.wait()
        await made.close()


@pytest.fixture
def elsewhere(keys: Callable[[int], Identity]) -> Iterator[Elsewhere]:
    made = Elsewhere(keys(0))
    yield made
    made.close()


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    raw: bytes


class Shell:
    """The command line in this process, with one home and a LAN that a test decides."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, stdin: bytes | None = None) -> Outcome:
        result = CliRunner().invoke(main, ["--home", str(self.home), *words], input=stdin)
        return Outcome(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)


@pytest.fixture
def lan(monkeypatch: pytest.MonkeyPatch) -> list[Advert]:
    """What multicast DNS would say."""
    adverts: list[Advert] = []

    async def look(_interfaces: object) -> AsyncIterator[Advert]:
        for one in adverts:
            yield one

    monkeypatch.setattr("client_app.client.look_at_lan", look)
    return adverts


@pytest.fixture
def shell(home: Path, lan: list[Advert]) -> Shell:
    return Shell(home)


@pytest.fixture
def paired_shell(shell: Shell, elsewhere: Elsewhere) -> Shell:
    """A command line whose `kitchen` is the board elsewhere."""
    elsewhere.do(elsewhere.board.open)
    elsewhere.say(True)
    board = elsewhere.board
    target = board.pairing_address
    done = shell("pair", target, "--expect-fingerprint", board.fingerprint.hex, "--name", "anna")
    assert done.code == 0, done.err
    return shell


# -------------------------------------------------------------------------------- the real device


class Abroad:
    """The real device (`device_app.App`) in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._ready: Future[App] = Future()
        self._folder = folder
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        self.app = self._ready.result(timeout=20)

    @property
    def fingerprint(self) -> Fingerprint:
        return self.app.identity.fingerprint

    def do(self, work: Callable[[App], T]) -> T:
        """Run something in the device's thread."""

        async def run() -> T:
            return work(self.app)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=10)

    def let_in(self, home: Path, name: str, role: str, alias: str = "kitchen") -> None:
        """Make this home's client a user, and the device known to it."""
        own = Identity.load_or_create(Home.at(home).identity).fingerprint
        user = User(name, role, (Key(own.hex, "laptop", "compare"),))
        self.do(lambda app: app.access.registry.add_user(None, user))
        DeviceBook(Home.at(home).devices).put(self.known(alias, name, role))

    def known(self, alias: str, name: str, role: str) -> KnownDevice:
        port = self.app.server.port
        return KnownDevice(
            alias, self.fingerprint, "kitchen", name, role, port=port, last_seen=f"{HOST}:{port}"
        )

    def advert(self) -> Advert:
        return Advert(
            self.fingerprint.device_id, "kitchen", (HOST,), self.app.server.port, 0, False, 1, "h."
        )

    def events(self, kind: str) -> list[Any]:
        """The events of a kind, as the device holds them."""
        return self.do(
            lambda app: [
                record.event
                for record in app.access.store.audit.iterate()
                if record.event.kind == kind
            ]
        )

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        settings = Settings(
            name="kitchen",
            listen=(HOST,),
            port=0,
            pairing_port=0,
            advertise=False,
            allow_loopback=True,
        )
        try:
            app = await App.start(Paths(self._folder, self._folder, self._folder), settings)
        except BaseException as error:
            self._ready.set_exception(error)
            raise
        self._ready.set_result(app)
        await self._stop.wait()
        await app.close()


@pytest.fixture
def abroad(tmp_path: Path) -> Iterator[Abroad]:
    made = Abroad(tmp_path / "device")
    yield made
    made.close()


@pytest.fixture
def owner(abroad: Abroad, home: Path) -> Abroad:
    """The real device, of which this home's client is an owner: anna."""
    abroad.let_in(home, "anna", "owner")
    return abroad


@pytest.fixture
async def kitchen(owner: Abroad, home: Path) -> AsyncIterator[Device]:
    """The owner's handle on the real device."""

    async def nobody() -> AsyncIterator[Advert]:
        return
        yield

    async with Client(home=home, look=nobody) as client:
        yield await client.connect("kitchen")
