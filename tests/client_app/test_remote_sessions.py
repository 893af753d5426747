"""Sessions over paths, the settings for them, and the choice of routes, with a real board."""

import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from client_app.client import Client
from client_app.remote_settings import RemoteEntry
from client_app.routes import PATH_ROUTES
from peer.errors import PinMismatch, TimedOut, Unreachable, UsageError
from peer.identity import Identity
from peer.net.session_route import SessionRoute
from peer.secret import Secret
from tests.kit.adverts import no_adverts
from tests.kit.board import HOST, Board
from tests.kit.paths_to_board import PathsToBoard
from tests.kit.remote_settings import PASSWORD, SECRET, remote_settings
from tests.kit.waiting import TIMEOUT_SECONDS, until

pytestmark = pytest.mark.usefixtures("no_head_start")

NOWHERE = f"{HOST}:9"
SETTINGS = remote_settings().encode()


def entry_of(client: Client) -> RemoteEntry:
    entry = client.remote.find(client.devices[0].fingerprint)
    assert entry is not None
    return entry


async def forget_asking(client: Client) -> None:
    """Let the settings be as old as can be."""
    own = client.identity.fingerprint
    device = client.devices[0].fingerprint
    client.remote.book.update(device, lambda one: replace(one, asked=0), own=own)


def asked(board: Board) -> int:
    return board.requests.count(("GET", "/remote"))


# ------------------------------------------------------------------------------------ the settings


@pytest.mark.usefixtures("_patient")
async def test_the_settings_are_fetched_after_a_pairing(
    board: Board, new_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_app.remote_refresh.REMOTE_LINGER_SECONDS", 0)
    board.remote = SETTINGS
    await board.open()
    board.answers.put_nowait(True)
    async with new_client(board) as client:
        await client.pair(expect=board.fingerprint)
    assert entry_of(client).settings("kitchen") == remote_settings()
    assert asked(board) == 1


@pytest.mark.usefixtures("_patient")
async def test_a_pairing_does_not_wait_for_the_settings(
    board: Board, new_client: Callable[..., Client]
) -> None:
    board.remote = SETTINGS
    board.answers_remote.clear()
    await board.open()
    board.answers.put_nowait(True)
    async with new_client(board) as client:
        await client.pair(expect=board.fingerprint)
        assert client.remote.find(board.fingerprint) is None
        board.answers_remote.set()
    assert entry_of(client).settings("kitchen") == remote_settings()


@pytest.mark.usefixtures("_patient")
async def test_settings_that_do_not_arrive_do_not_fail_a_pairing(
    board: Board, new_client: Callable[..., Client]
) -> None:
    board.answers_remote.clear()
    await board.open()
    board.answers.put_nowait(True)
    async with new_client(board) as client:
        paired = await client.pair(expect=board.fingerprint)
        await until(lambda: asked(board) == 1)
        await board.stop()
    assert client.devices == [paired.device]
    assert not entry_of(client).encoded
    assert not entry_of(client).is_due(client.remote.now())


async def test_a_device_without_settings_is_asked_once(board: Board, paired: Client) -> None:
    assert not entry_of(paired).encoded
    before = asked(board)
    await (await paired.connect("kitchen")).get("/hello")
    await paired.close()
    assert asked(board) == before


async def test_due_settings_are_fetched_beside_a_request(board: Board, paired: Client) -> None:
    await forget_asking(paired)
    board.remote = SETTINGS
    assert (await (await paired.connect("kitchen")).get("/hello")).text.startswith("hello")
    await until(lambda: bool(entry_of(paired).encoded))
    assert entry_of(paired).settings("kitchen") == remote_settings()


@pytest.mark.usefixtures("_patient")
async def test_due_settings_are_fetched_although_the_client_is_closed_after_one_request(
    board: Board, paired: Client
) -> None:
    await forget_asking(paired)
    board.remote = SETTINGS
    await (await paired.connect("kitchen")).get("/hello")
    await paired.close()
    assert entry_of(paired).settings("kitchen") == remote_settings()


@pytest.mark.usefixtures("_patient")
async def test_a_secret_that_was_replaced_is_fetched_by_the_next_session_at_an_address(
    board: Board, paired: Client, paths: PathsToBoard
) -> None:
    await stored(paired, paths)
    rotated = remote_settings(secret=Secret(b"S" * 32))
    board.remote = rotated.encode()
    await (await paired.connect("kitchen")).get("/hello")
    await paired.close()
    assert entry_of(paired).settings("kitchen") == rotated


@pytest.mark.usefixtures("_patient")
async def test_settings_that_are_the_same_are_not_written_again(
    board: Board, paired: Client, paths: PathsToBoard
) -> None:
    await stored(paired, paths)
    own, device = paired.identity.fingerprint, paired.devices[0].fingerprint
    earlier = int(paired.remote.now()) - 60
    paired.remote.book.update(
        device, lambda one: replace(one, fetched=earlier, asked=earlier), own=own
    )
    before, seen = asked(board), paired.home.remote.stat().st_ino
    await (await paired.connect("kitchen")).get("/hello")
    await paired.close()
    assert asked(board) == before + 1
    assert paired.home.remote.stat().st_ino == seen


async def test_settings_that_a_policy_keeps_back_here_stay_stored(
    board: Board, paired: Client, paths: PathsToBoard
) -> None:
    await stored(paired, paths)
    board.denies_remote = True
    await (await paired.connect("kitchen")).get("/hello")
    await paired.close()
    assert entry_of(paired).settings("kitchen") == remote_settings()


@pytest.mark.parametrize("has_settings", [False, True])
async def test_a_device_that_does_not_answer_delays_no_command_and_is_not_asked_again(
    board: Board, paired: Client, paths: PathsToBoard, *, has_settings: bool
) -> None:
    if has_settings:
        await stored(paired, paths)
        own, device = paired.identity.fingerprint, paired.devices[0].fingerprint
        paired.remote.book.update(device, lambda one: replace(one, fetched=1, asked=1), own=own)
    else:
        await forget_asking(paired)
    board.answers_remote.clear()
    before = asked(board)
    await (await paired.connect("kitchen")).get("/hello")
    await until(lambda: asked(board) == before + 1)
    await paired.close()
    await (await paired.connect("kitchen")).get("/hello")
    await paired.close()
    assert asked(board) == before + 1


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", SETTINGS[:-1], SETTINGS + b"\0", b"\0" * 9000, b"\xa1\x61a\x01"],
    ids=["empty", "no CBOR", "cut off", "longer", "huge", "other members"],
)
async def test_settings_that_are_not_valid_are_not_stored_and_fail_nothing(
    board: Board, paired: Client, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await forget_asking(paired)
    board.remote = body
    assert (await (await paired.connect("kitchen")).get("/hello")).code == "2.05"
    await paired.close()
    assert not entry_of(paired).encoded
    assert PASSWORD not in caplog.text
    assert SECRET.decode() not in caplog.text


async def test_a_file_that_cannot_be_used_fails_no_command(board: Board, paired: Client) -> None:
    paired.home.remote.write_bytes(b"{")
    board.remote = SETTINGS
    assert (await (await paired.connect("kitchen")).get("/hello")).code == "2.05"
    await paired.close()
    assert paired.home.remote.read_bytes() == b"{"


async def test_another_revision_that_the_device_states_is_fetched_at_an_address(
    board: Board, paired: Client, paths: PathsToBoard, home: Path
) -> None:
    await stored(paired, paths)
    paths.revision = 1
    async with Client(home=home, look=no_adverts, via="direct,relay", open_path=paths) as away:
        await away.connect("kitchen")
        assert asked(board) == 2, "over a path, the device does not give them"
        assert entry_of(away).is_outdated
    board.remote = remote_settings(prefix="hf1/bob").encode()
    async with Client(home=home, look=no_adverts, via="lan") as back:
        await back.connect("kitchen")
        await until(lambda: entry_of(back).settings("kitchen").prefix == "hf1/bob")
    assert not entry_of(paired).is_outdated


# --------------------------------------------------------------------------------------- the paths


async def stored(client: Client, paths: PathsToBoard) -> None:
    """Give a paired client the settings of the board."""
    board, paths.own = paths.board, client.identity.fingerprint
    await forget_asking(client)
    board.remote = SETTINGS
    await client.connect("kitchen")
    await until(lambda: bool(entry_of(client).encoded))
    await client.close()


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the end of a client wait for the settings, however slow this machine is."""
    monkeypatch.setattr("client_app.remote_refresh.REMOTE_LINGER_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("client_app.remote_refresh.REMOTE_FETCH_SECONDS", TIMEOUT_SECONDS)


@pytest.fixture
async def away(board: Board, paired: Client, paths: PathsToBoard, home: Path) -> Client:
    """A client that has the settings of the board, and reaches it at no address."""
    await stored(paired, paths)
    key = board.fingerprint
    paired.book.update(key, lambda one: replace(one, last_seen=NOWHERE, addresses=()))
    return Client(home=home, look=no_adverts, open_path=paths)


async def test_everything_works_over_a_path_by_itself(
    board: Board, away: Client, paths: PathsToBoard
) -> None:
    async with away:
        kitchen = await away.connect("kitchen")
        assert (await kitchen.get("/hello")).text.startswith("hello")
        await kitchen.put("/light", "on")
        assert board.light == b"on"
        me = await kitchen.whoami()
        assert me.user
        async with aclosing(kitchen.observe("/count")) as states:
            assert (await anext(states)).value == {"count": 0}
            board.observed.step()
            assert (await anext(states)).value == {"count": 1}
        assert kitchen.address == "203.0.113.9:4711"
    settings, via = paths.used[0]
    assert settings == remote_settings()
    assert via == {SessionRoute.DIRECT, SessionRoute.RELAY}
    assert away.devices[0].last_seen == NOWHERE, "the address of a path leads nowhere later"


async def test_a_lost_path_is_replaced_by_another_one(away: Client, paths: PathsToBoard) -> None:
    async with away:
        kitchen = await away.connect("kitchen")
        for end in list(paths.paths):
            end.lose()
        assert (await kitchen.get("/hello")).code == "2.05"
    assert len(paths.used) == 2


async def test_the_path_comes_first_after_it_has_won(
    away: Client, paths: PathsToBoard, home: Path
) -> None:
    paths.route = SessionRoute.RELAY
    async with away:
        await away.connect("kitchen")
    assert entry_of(away).route == "relay"
    async with Client(home=home, look=no_adverts, open_path=paths) as again:
        known = again.devices[0]
        option = again.remote.option(known, lambda: again.connector.transport, PATH_ROUTES)
        assert option is not None
        assert option.delay == 0


async def test_an_address_that_the_device_states_leads_to_it(
    board: Board, away: Client, paths: PathsToBoard
) -> None:
    paths.addresses = (f"{HOST}:{board.regular.port}",)
    paths.error = TimedOut("no answer")
    async with away:
        kitchen = await away.connect("kitchen")
        assert kitchen.address == f"{HOST}:{board.regular.port}"


@pytest.mark.parametrize("via", ["direct", "address,relay"])
async def test_an_address_that_the_device_states_is_not_tried_if_its_route_is_not_named(
    board: Board, away: Client, paths: PathsToBoard, home: Path, via: str
) -> None:
    assert away.devices
    paths.addresses = (f"{HOST}:{board.regular.port}",)
    paths.error = TimedOut("no answer")
    async with Client(home=home, look=no_adverts, open_path=paths, via=via) as client:
        with pytest.raises(TimedOut):
            await client.connect("kitchen")


async def test_a_path_to_another_device_is_an_alarm(
    away: Client, paths: PathsToBoard, other: Board
) -> None:
    paths.board = other
    async with away:
        with pytest.raises(PinMismatch):
            await away.connect("kitchen")


# ----------------------------------------------------------------------------- the choice of routes


async def test_only_the_routes_that_are_named_are_used(
    board: Board, away: Client, paths: PathsToBoard, home: Path
) -> None:
    away.book.update(
        board.fingerprint, lambda one: replace(one, last_seen=f"{HOST}:{board.regular.port}")
    )
    async with Client(home=home, look=no_adverts, open_path=paths, via="lan") as client:
        assert (await (await client.connect("kitchen")).get("/hello")).code == "2.05"
    assert not paths.used
    async with Client(home=home, look=no_adverts, open_path=paths, via=["relay"]) as client:
        assert (await (await client.connect("kitchen")).get("/hello")).code == "2.05"
        assert client.devices[0].last_seen, "the address of the board is known"
    assert paths.used[0][1] == {SessionRoute.RELAY}
    async with Client(home=home, look=no_adverts, open_path=paths, via="address") as client:
        with pytest.raises(Unreachable):  # the loopback address is on a network of this machine
            await client.connect("kitchen")
    assert len(paths.used) == 1


async def test_a_path_without_settings_is_refused_with_advice(paired: Client, home: Path) -> None:
    assert paired.devices
    async with Client(home=home, look=no_adverts, via="direct,relay") as client:
        with pytest.raises(Unreachable, match="no settings") as caught:
            await client.connect("kitchen")
        assert "remote kitchen --refresh" in caught.value.advice


@pytest.mark.parametrize("via", ["", "lan,", "lan,wifi", [], ["LAN ", "x"]])
def test_unknown_routes_are_refused(home: Path, via: str | list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        Client(home=home, via=via)
    assert "lan, address, direct, relay" in caught.value.advice


def test_routes_are_accepted_in_any_spelling(home: Path) -> None:
    assert repr(Client(home=home, via=" LAN, relay"))


async def test_the_settings_of_another_key_of_this_client_are_not_used(
    away: Client, home: Path, keys: Callable[[int], Identity]
) -> None:
    away.home.identity.unlink()
    keys(7).save(home / "identity.pem")
    async with Client(home=home, look=no_adverts, via="relay") as client:
        with pytest.raises(Unreachable, match="no settings"):
            await client.connect("kitchen")
