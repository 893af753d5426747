"""The blocking client: its calls, its use by several threads, interrupts, and `close`."""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import pytest

from client_app.sync import Client
from peer.errors import NotPaired, Unreachable, UsageError
from peer.net.discovery import Advert
from tests.kit.internals import observations_of
from tests.kit.threads import BoardThread
from tests.kit.waiting import TIMEOUT_SECONDS, block_until


@pytest.fixture
def client(home: Path, lan: list[Advert], board_thread: BoardThread) -> Any:
    board_thread.do(board_thread.board.open)
    board_thread.say(True)
    lan.append(board_thread.board.advert())
    with Client(home=home) as made:
        made.pair("kitchen", expect=board_thread.board.fingerprint.hex, name="anna")
        yield made


def test_a_script_can_make_every_call(client: Client, board_thread: BoardThread) -> None:
    assert [one.alias for one in client.devices] == ["kitchen"]
    kitchen = client.connect("kitchen")
    assert kitchen.get("/hello").text == "hello anna"
    assert kitchen.put("/light", b"on").code == "2.04"
    assert kitchen.post("/hello", "x").code == "2.04"
    assert kitchen.delete("/light").code == "2.02"
    assert kitchen.whoami().user == "anna"
    assert kitchen.known.alias == "kitchen"
    assert kitchen.address.endswith(str(board_thread.board.regular.port))
    assert [one.name for one in client.discover(timeout=TIMEOUT_SECONDS)] == ["kitchen"]
    assert [one.name for one in client.watch()] == ["kitchen"]
    kitchen.close()
    assert kitchen.get("/hello").text == "hello anna"


def test_observe_returns_an_iterator(client: Client, board_thread: BoardThread) -> None:
    board = board_thread.board
    seen: list[Any] = []

    async def step() -> None:
        board.observed.step()

    for reply in client.connect("kitchen").observe("/count"):
        seen.append(reply.value)
        if len(seen) == 3:
            break
        board_thread.do(step)
    assert seen == [{"count": 0}, {"count": 1}, {"count": 2}]


def test_a_loop_over_states_that_is_left_ends_the_observation(
    client: Client, board_thread: BoardThread
) -> None:
    """As in the README; also if a variable still refers to the iterator."""
    kitchen = client.connect("kitchen")
    held = []
    for _ in range(50):
        for reading in kitchen.observe("/count"):
            assert reading.value == {"count": 0}
            break
        held.append(kitchen.observe("/count"))
        for _reading in held[-1]:
            break
    board = board_thread.board
    block_until(lambda: not observations_of(board.observed))
    assert kitchen.get("/hello").text == "hello anna"
    assert next(held[0]).value == {"count": 0}
    del held[0]
    block_until(lambda: not observations_of(board.observed))


def test_errors_are_raised_in_the_calling_thread(client: Client, board_thread: BoardThread) -> None:
    kitchen = client.connect("kitchen")
    board_thread.board.users.clear()
    with pytest.raises(NotPaired):
        kitchen.get("/hello")
    with pytest.raises(NotPaired):
        next(kitchen.observe("/count"))
    with pytest.raises(Unreachable):
        client.connect("attic")


@pytest.mark.usefixtures("lan")
def test_a_script_pairs_with_a_confirmation_by_both_users(
    home: Path, board_thread: BoardThread
) -> None:
    board_thread.do(board_thread.board.open)
    asked: list[str] = []

    def confirm(question: Any) -> bool:
        asked.append(question.device.hex)
        board_thread.say(True)
        return True

    with Client(home=home) as made:
        done = made.pair(board_thread.board.pairing_address, confirm=confirm)
        assert done.is_new
    assert asked == [board_thread.board.fingerprint.hex]


def test_many_threads_share_one_client(client: Client) -> None:
    kitchen = client.connect("kitchen")
    output: list[str] = []
    threads = [
        threading.Thread(target=lambda: output.append(kitchen.get("/hello").text)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert output == ["hello anna"] * 8


def test_close_ends_the_thread(client: Client) -> None:
    kitchen = client.connect("kitchen")
    client.close()
    client.close()
    assert "handfast" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(UsageError, match="closed"):
        kitchen.get("/hello")


def test_an_unused_client_starts_no_thread(home: Path) -> None:
    with Client(home=home) as made:
        assert made.devices == []
        assert "handfast" not in {thread.name for thread in threading.enumerate()}
    assert not home.exists()


def test_an_interrupt_cancels_the_request(client: Client, board_thread: BoardThread) -> None:
    kitchen = client.connect("kitchen")
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        board_thread.until_requested("/slow")
        signal.pthread_kill(main, signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        kitchen.get("/slow")
    other.join()

    assert client.loop.call(still_running()) == set()
    assert kitchen.get("/hello").text == "hello anna"


def test_an_interrupt_before_the_future_is_returned_cancels_the_request(
    client: Client, board_thread: BoardThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen = client.connect("kitchen")
    submit = asyncio.run_coroutine_threadsafe

    def interrupted(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> NoReturn:
        submit(work, loop)
        board_thread.until_requested("/slow")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kitchen.get("/slow")

    assert client.loop.call(still_running()) == set()


async def still_running() -> set[object]:
    """The requests that do not end."""
    requests = [task for task in asyncio.all_tasks() if "Device.get" in repr(task)]
    if not requests:
        return set()
    _, pending = await asyncio.wait(requests, timeout=TIMEOUT_SECONDS)
    return set(pending)


def test_the_repr_of_each_object_says_what_it_is(
    client: Client, board_thread: BoardThread, home: Path
) -> None:
    """Of both interfaces, also without a connection."""
    kitchen = client.connect("kitchen")
    device = f"Device kitchen ({board_thread.board.fingerprint.device_id}), user anna"
    expected = {
        client: f"Client of {home}",
        kitchen: device,
        kitchen.iam: "Administration of kitchen",
    }
    for value, text in expected.items():
        assert repr(value) == f"<blocking {text}>"
        assert repr(value.wrapped) == f"<{text}>"
    assert repr(kitchen.wrapped.observe("/a?b=c")) == "<Observation of /a?b=c on kitchen>"
    assert repr(kitchen.wrapped.iam.follow_events()) == "<Observation of the events of kitchen>"
    assert repr(kitchen.observe("/a")) == "<blocking iterator over /a on kitchen>"
    assert repr(kitchen.iam.follow_events()) == "<blocking iterator over the events of kitchen>"
    assert repr(client.watch()) == "<blocking iterator over the devices on the LAN>"
    kitchen.close()
    assert repr(kitchen) == f"<blocking {device}>"
