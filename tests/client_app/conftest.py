"""Boards, devices and clients of the tests of the client."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from client_app.client import Client
from client_app.device import Device
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.discovery import Advert
from tests.kit.adverts import no_adverts
from tests.kit.board import Board
from tests.kit.paths_to_board import PathsToBoard
from tests.kit.shell import Shell
from tests.kit.threads import BoardThread, DeviceThread
from tests.kit.waiting import TIMEOUT_SECONDS, until


@pytest.fixture(scope="session")
def keys() -> Callable[[int], Identity]:
    """Keys by number, shared by all tests, because creating one is slow."""
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
    """Create clients whose LAN announces the given boards and no other device."""
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
async def paired(board: Board, new_client: Make, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client that is paired with the board under the alias `kitchen`."""
    monkeypatch.setattr("client_app.remote_refresh.REMOTE_FETCH_SECONDS", TIMEOUT_SECONDS)
    await board.open()
    board.answers.put_nowait(True)
    client = new_client(board)
    await client.pair(expect=board.fingerprint)
    # The settings for other networks are fetched in the background, over a session of their own.
    await until(lambda: client.remote.find(board.fingerprint) is not None)
    await until(lambda: not board.regular.sessions())
    return client


@pytest.fixture
def paths(board: Board) -> PathsToBoard:
    """Paths from any client to the board."""
    return PathsToBoard(board)


@pytest.fixture
def no_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search of the LAN that finds nothing begin and end at once."""
    monkeypatch.setattr("client_app.connector.DISCOVERY_DELAY_SECONDS", 0.0)


@pytest.fixture
def board_thread(keys: Callable[[int], Identity]) -> Iterator[BoardThread]:
    made = BoardThread(keys(0))
    yield made
    made.close()


@pytest.fixture
def lan(monkeypatch: pytest.MonkeyPatch) -> list[Advert]:
    """The adverts that multicast DNS returns; a test appends to them."""
    adverts: list[Advert] = []

    async def look(_interfaces: object) -> AsyncIterator[Advert]:
        for one in adverts:
            yield one

    monkeypatch.setattr("client_app.client.look_at_lan", look)
    return adverts


@pytest.fixture
def shell(home: Path, lan: list[Advert]) -> Shell:
    """A command line that receives no advert until a test adds one to `lan`."""
    assert not lan
    return Shell(home)


@pytest.fixture
def paired_shell(shell: Shell, board_thread: BoardThread, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A command line that is paired with the board of `board_thread` as `kitchen`.

    It has asked for the settings for other networks, however slow this machine is.
    """
    monkeypatch.setattr("client_app.remote_refresh.REMOTE_FETCH_SECONDS", TIMEOUT_SECONDS)
    board_thread.do(board_thread.board.open)
    board_thread.say(True)
    board = board_thread.board
    target = board.pairing_address
    done = shell("pair", target, "--expect-fingerprint", board.fingerprint.hex, "--name", "anna")
    assert done.code == 0, done.err
    return shell


@pytest.fixture
def device_thread(tmp_path: Path) -> Iterator[DeviceThread]:
    made = DeviceThread(tmp_path / "device")
    yield made
    made.close()


@pytest.fixture
def owner(device_thread: DeviceThread, home: Path) -> DeviceThread:
    """The real device; the client in `home` is its owner `anna`."""
    device_thread.add_client(home, "anna", "owner")
    return device_thread


@pytest.fixture
async def kitchen(owner: DeviceThread, home: Path) -> AsyncIterator[Device]:
    """The real device as its owner's client sees it."""
    async with Client(home=home, look=no_adverts) as client:
        device = await client.connect("kitchen")
        assert client.devices[0].fingerprint == owner.fingerprint
        yield device
