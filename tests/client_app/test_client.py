"""The client library against a test device: finding it, requests, and lost sessions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from client_app import observation as observation_module
from client_app import session as session_module
from client_app.client import Client
from client_app.content import Format
from client_app.decode import me_untrusted
from client_app.exchange import reply_of
from peer import cbor
from peer.errors import (
    Denied,
    DeviceFailed,
    IdentityError,
    Malformed,
    NotPaired,
    PinMismatch,
    RequestFailed,
    TimedOut,
    Unreachable,
    UsageError,
)
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.address import Address
from peer.net.discovery import Advert
from tests.kit.board import Board
from tests.kit.waiting import TIMEOUT_SECONDS, until

HOST = "127.0.0.1"
Make = Callable[..., Client]


def move(client: Client, **changes: Any) -> None:
    """Change the client's record of its one device."""
    (known,) = client.devices
    client.book.update(known.fingerprint, lambda one: replace(one, **changes))


# -------------------------------------------------------------------------------------- requests


async def test_each_request_reaches_its_resource(board: Board, paired: Client) -> None:
    kitchen = await paired.connect("kitchen")
    assert (await kitchen.get("/hello")).text == f"hello {paired.devices[0].user}"
    assert (await kitchen.get("hello/")).text.startswith("hello")
    assert (await kitchen.put("/light", "on")).code == "2.04"
    assert board.light == b"on"
    assert (await kitchen.get("/light", accept=Format.CBOR)).value == {
        "light": "on",
        "raw": b"\x01",
    }
    await kitchen.put("/light", {"on": True})
    assert board.light == cbor.encode({"on": True})
    await kitchen.put("/light", {"on": True}, body_format=Format.JSON)
    assert [what for kind, what in board.requests if kind == "format"] == ["0", "60", "50"]
    assert (await kitchen.delete("/light")).code == "2.02"
    assert (await kitchen.post("/hello", b"x" * 3000)).payload == b"x" * 3000
    me = await kitchen.whoami()
    assert (me.role, me.path, me.actions) == ("owner", "local", ("Hello:Get",))
    assert me.fingerprint == paired.identity.fingerprint.hex


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("/nothing", RequestFailed, "4.04"),
        ("/vault", Denied, ""),
        ("/broken", DeviceFailed, "5.03"),
    ],
)
async def test_an_error_response_raises_its_exception(
    paired: Client, path: str, kind: type[Exception], code: str
) -> None:
    kitchen = await paired.connect("kitchen")
    with pytest.raises(kind) as caught:
        await kitchen.get(path)
    assert getattr(caught.value, "code", "") == code
    assert (await kitchen.get("/hello")).code == "2.05"


def test_a_failure_without_words_names_the_command_that_shows_the_log() -> None:
    with pytest.raises(DeviceFailed) as caught:
        reply_of(aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR))
    assert "`handfast-device logs`" in caught.value.advice


async def test_an_invalid_path_is_refused_before_a_request_is_sent(
    board: Board, paired: Client
) -> None:
    kitchen = await paired.connect("kitchen")
    before = len(board.requests)
    with pytest.raises(UsageError):
        await kitchen.get("/" + "a" * 256)
    assert len(board.requests) == before


async def test_a_request_waits_for_a_slow_response_until_its_timeout(
    board: Board, paired: Client
) -> None:
    kitchen = await paired.connect("kitchen")
    with pytest.raises(TimedOut):
        await kitchen.get("/slow", timeout=0.01)
    slow = asyncio.ensure_future(kitchen.get("/slow"))
    await until(lambda: board.requests[-1][1] == "/slow")
    board.gate.set()
    assert (await slow).text == "at last"


async def test_the_newest_sessions_are_resumed(
    board: Board, other: Board, new_client: Make
) -> None:
    """Beyond the limit, the client discards the least recently used session."""
    client = new_client(limits=replace(DEFAULT_LIMITS, resumable_sessions=1))

    async def is_resumed(device: Board) -> bool:
        address = Address(HOST, device.regular.port)
        connection = await client.connect_at(address, pinned=device.fingerprint)
        await connection.close()
        return connection.resumed

    assert [await is_resumed(one) for one in (board, other, other)] == [False, False, True]
    assert not await is_resumed(board)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        cbor.encode([]),
        cbor.encode({"user": 1}),
        cbor.encode({"actions": [1]}),
        cbor.encode({"actions": "x"}),
    ],
)
def test_an_invalid_whoami_response_is_malformed(payload: bytes) -> None:
    with pytest.raises(Malformed):
        me_untrusted(payload)


# ------------------------------------------------------------------------------ finding a device


async def test_two_concurrent_connects_share_one_session(board: Board, paired: Client) -> None:
    first, second = await asyncio.gather(paired.connect("kitchen"), paired.connect("kitchen"))
    assert first is second
    await first.get("/hello")
    assert len(board.regular.sessions()) == 1


async def test_connecting_to_an_unknown_name_raises_unreachable(paired: Client) -> None:
    with pytest.raises(Unreachable, match="no paired device"):
        await paired.connect("attic")


async def test_a_device_that_has_moved_is_found_by_its_advert(board: Board, paired: Client) -> None:
    move(paired, last_seen=f"{HOST}:9")
    kitchen = await paired.connect("kitchen")
    assert kitchen.address == f"{HOST}:{board.regular.port}"
    assert paired.devices[0].last_seen == kitchen.address


async def test_a_device_without_advert_is_reached_at_its_stored_address(
    board: Board, paired: Client, new_client: Make
) -> None:
    move(paired, last_seen=f"{HOST}:9", addresses=(f"localhost:{board.regular.port}",))
    kitchen = await new_client().connect("kitchen")
    assert (await kitchen.get("/hello")).code == "2.05"


async def test_another_device_at_the_old_address_does_not_prevent_a_connection(
    board: Board, paired: Client, other: Board
) -> None:
    move(paired, last_seen=f"{HOST}:{other.regular.port}")
    kitchen = await paired.connect("kitchen")
    assert kitchen.address == f"{HOST}:{board.regular.port}"
    assert other.requests == []


async def test_no_request_is_sent_to_a_device_with_another_key(
    board: Board, paired: Client, new_client: Make, other: Board
) -> None:
    move(paired, last_seen=f"{HOST}:{other.regular.port}")
    with pytest.raises(PinMismatch) as caught:
        await new_client().connect("kitchen")
    assert caught.value.expected == board.fingerprint.hex
    assert caught.value.actual == other.fingerprint.hex
    assert other.requests == []
    assert other.regular.sessions() == []
    assert paired.devices[0].last_seen == f"{HOST}:{other.regular.port}"


async def test_an_advert_with_the_right_id_and_the_wrong_key_is_refused(
    board: Board, paired: Client, home: Path, other: Board
) -> None:
    """Adverts are not authenticated, so another key at an announced address is no pin mismatch."""

    async def look() -> AsyncIterator[Advert]:
        yield replace(other.advert(), device_id=board.fingerprint.device_id)

    move(paired, last_seen="")
    client = Client(home=home, look=look)
    try:
        with pytest.raises(Unreachable, match="another key answered at 1 announced address"):
            await client.connect("kitchen")
        assert other.requests == []
    finally:
        await client.close()


@pytest.mark.usefixtures("paired")
async def test_a_closed_port_raises_unreachable(board: Board, new_client: Make) -> None:
    await board.stop()
    with pytest.raises(Unreachable, match="cannot reach kitchen") as caught:
        await new_client().connect("kitchen")
    assert caught.value.refused


@pytest.mark.usefixtures("board")
async def test_requests_work_with_a_read_only_home(
    paired: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(paired, last_seen=f"{HOST}:9")

    def read_only(*_args: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", read_only)
    kitchen = await paired.connect("kitchen")
    assert (await kitchen.get("/hello")).code == "2.05"
    assert paired.devices[0].last_seen == f"{HOST}:9"


async def test_discover_returns_the_announced_devices(board: Board, new_client: Make) -> None:
    adverts = await new_client(board).discover(timeout=TIMEOUT_SECONDS)
    assert [one.device_id for one in adverts] == [board.fingerprint.device_id]
    assert await new_client().discover(timeout=TIMEOUT_SECONDS) == []


def test_a_key_file_that_other_users_can_read_is_refused(home: Path) -> None:
    Identity.create().save(home / "identity.pem")
    (home / "identity.pem").chmod(0o644)
    with pytest.raises(IdentityError):
        _ = Client(home=home).identity


# ---------------------------------------------------------------------------- losing the session


async def test_requests_reconnect_after_a_restart_of_the_device(
    board: Board, paired: Client
) -> None:
    kitchen = await paired.connect("kitchen")
    await kitchen.get("/hello")
    port = board.regular.port
    await board.stop()
    await board.start(port=port)
    assert (await kitchen.get("/hello")).code == "2.05"
    assert (await kitchen.post("/hello", "x")).code == "2.04"


async def lose_the_session(board: Board, work: "asyncio.Future[Any]") -> None:
    """End the session in the middle of a request to /slow, then let the device answer."""
    await until(lambda: board.requests[-1][1] == "/slow" or work.done())
    board.regular.end_sessions(lambda _key: True)
    board.gate.set()


async def test_a_get_is_repeated_once_on_a_new_session(board: Board, paired: Client) -> None:
    kitchen = await paired.connect("kitchen")
    await kitchen.get("/hello")
    work = asyncio.ensure_future(kitchen.get("/slow"))
    await lose_the_session(board, work)
    assert (await work).text == "at last"
    assert [path for _, path in board.requests].count("/slow") == 2


@pytest.mark.parametrize("method", ["post", "patch"])
async def test_a_post_that_may_have_arrived_is_never_repeated(
    board: Board, paired: Client, method: str
) -> None:
    kitchen = await paired.connect("kitchen")
    await kitchen.get("/hello")
    work = asyncio.ensure_future(getattr(kitchen, method)("/slow", "x"))
    await lose_the_session(board, work)
    with pytest.raises(Unreachable, match="the device may have executed it"):
        await work
    assert [path for _, path in board.requests].count("/slow") == 1
    assert (await kitchen.get("/hello")).code == "2.05"


async def test_a_silent_session_is_probed_before_a_request(
    board: Board, paired: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that lost power sends no close_notify; a POST must not be sent on a dead session."""
    kitchen = await paired.connect("kitchen")
    await kitchen.get("/hello")
    monkeypatch.setattr(session_module, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(observation_module, "PROBE_SECONDS", 0.2)
    port = board.regular.port
    await board.lose_power()
    await board.start(port=port)
    assert (await kitchen.post("/hello", "x")).code == "2.04"
    assert board.requests.count(("POST", "/hello")) == 1


async def test_a_silent_observation_is_probed_and_restored(
    board: Board, paired: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation_module, "OBSERVE_GRACE_SECONDS", 0.1 - 60)
    monkeypatch.setattr(observation_module, "PROBE_SECONDS", 0.2)
    kitchen = await paired.connect("kitchen")
    states = kitchen.observe("/count")
    await anext(states)
    port = board.regular.port
    await board.lose_power()
    await board.start(port=port)
    board.observed.value = 5
    assert (await anext(states)).value == {"count": 5}
    await states.aclose()


async def test_a_revoked_client_gets_not_paired(board: Board, paired: Client) -> None:
    kitchen = await paired.connect("kitchen")
    await kitchen.get("/hello")
    board.users.clear()
    board.regular.end_sessions(lambda _key: True)
    with pytest.raises(NotPaired):
        await kitchen.get("/hello")


# ------------------------------------------------------------------------------------- observing


async def test_an_observation_yields_each_state(board: Board, paired: Client) -> None:
    kitchen = await paired.connect("kitchen")
    seen: list[Any] = []
    async for reply in kitchen.observe("/count"):
        seen.append(reply.value)
        if len(seen) == 3:
            break
        board.observed.step()
    assert seen == [{"count": 0}, {"count": 1}, {"count": 2}]


async def test_a_resource_that_is_not_observable_yields_one_state(paired: Client) -> None:
    kitchen = await paired.connect("kitchen")
    assert [reply.text[:5] async for reply in kitchen.observe("/hello")] == ["hello"]


async def test_an_observation_continues_after_a_restart_of_the_device(
    board: Board, paired: Client
) -> None:
    kitchen = await paired.connect("kitchen")
    states = kitchen.observe("/count")
    assert (await anext(states)).value == {"count": 0}
    port = board.regular.port
    await board.stop()
    board.observed.value = 7
    await board.start(port=port)
    assert (await anext(states)).value == {"count": 7}
    board.observed.step()
    assert (await anext(states)).value == {"count": 8}
    await states.aclose()


async def test_an_observation_of_a_revoked_client_raises_not_paired(
    board: Board, paired: Client
) -> None:
    kitchen = await paired.connect("kitchen")
    states = kitchen.observe("/count")
    await anext(states)
    board.users.clear()
    board.regular.end_sessions(lambda _key: True)
    with pytest.raises(NotPaired):
        await anext(states)


@pytest.mark.usefixtures("paired")
async def test_an_observation_of_an_unreachable_device_raises_unreachable(
    board: Board, new_client: Make
) -> None:
    kitchen = await new_client().connect("kitchen")
    states = kitchen.observe("/count", retry=False)
    await anext(states)
    await board.stop()
    with pytest.raises(Unreachable):
        await anext(states)
