"""Verbs of the console over the control socket, without a daemon, and with many users."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest

from device_app.access.event_kind import EventKind
from device_app.console import arguments
from device_app.console.console import Console
from device_app.console.control_client import ControlClient, call
from device_app.console.daemon_host import handlers_of
from device_app.console.offline import OfflineConsole
from device_app.console.status import users_summary
from device_app.errors import AppError, NoDaemon
from device_app.limits import CONTROL_ROWS_BYTES, STATUS_USERS_MAX
from device_app.settings.paths import Paths
from iam.model import Key, State, User
from iam.store import Store
from peer.net.tasks import cancel_all
from peer.terminal.exit_codes import ExitCode
from tests.kit.daemon import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.kit.device import Device, Kit

MANY = 20_000
METHODS = {name: method for name, method in vars(Console).items() if not name.startswith("_")}


def users(count: int) -> Iterator[User]:
    for number in range(count):
        key = Key(f"{number:064x}", method="given", added=1.0)
        role = "owner" if number == 0 else "guest"
        yield User(f"user-{number:05}", role, (key,), created=1.0)


def store_users(home: Path, count: int) -> None:
    """A store with a given number of users, written directly."""
    home.mkdir(mode=0o700)
    store = Store.open(home / "device.db")
    store.commit(State.of(users(count)))
    store.close()


# -- arguments ------------------------------------------------------------------------------------


def test_every_public_method_is_a_verb() -> None:
    handlers = handlers_of(Console(None))  # type: ignore[arg-type]
    assert len(handlers) > 25
    assert {"users-add-key", "policy-explain", "open", "restore"} <= handlers.keys()


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_every_argument_has_a_supported_type(method: Any) -> None:
    """A verb with an unsupported type of argument fails here instead of at its first use."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    for parameter in parameters:
        if parameter.name != "tell":
            assert parameter.kind is parameter.KEYWORD_ONLY
            with pytest.raises(AppError) as caught:
                arguments.decode_untrusted(method, {"wish": 7.5, parameter.name: [7.5]})
            assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "the argument 'fingerprint' is missing"),
        ({"fingerprint": "ab", "name": 7}, "the argument 'name' is not text"),
        ({"fingerprint": None, "name": "anna"}, "the argument 'fingerprint' is missing"),
        ({"fingerprint": "ab", "name": "anna", "crown": 1}, "this verb has no argument 'crown'"),
    ],
)
def test_a_wrong_argument_is_named(args: Mapping[str, object], message: str) -> None:
    with pytest.raises(AppError, match=message) as caught:
        arguments.decode_untrusted(Console.users_remove_key, {"name": "anna", **args})
    assert caught.value.code is ExitCode.USAGE


def test_arguments_are_decoded_to_the_types_of_the_method() -> None:
    found = arguments.decode_untrusted(
        Console.open, {"seconds": 120, "role": None, "methods": ["sas"], "wait": True}
    )
    assert found == {"seconds": 120.0, "methods": ("sas",), "wait": True}
    assert isinstance(found["seconds"], float)
    for wrong in ({"wait": 1}, {"seconds": "soon"}, {"methods": [7]}, {"methods": "sas"}):
        with pytest.raises(AppError, match=f"the argument '{next(iter(wrong))}' is not"):
            arguments.decode_untrusted(Console.open, wrong)
    attributes = {"attributes": {"Lamp:Room": 7}}
    with pytest.raises(AppError, match="'attributes' is not an object of texts"):
        arguments.decode_untrusted(
            Console.policy_explain, {"user": "anna", "action": "Lamp:Set", **attributes}
        )


async def test_the_daemon_names_the_wrong_argument(device: Device) -> None:
    socket = device.app.paths.socket
    with pytest.raises(AppError, match="'held' is not a number") as caught:
        await call(socket, "press", {"held": "long"})
    assert caught.value.code is ExitCode.USAGE


# -- with and without a daemon --------------------------------------------------------------------


def test_verbs_that_need_a_daemon_report_that_none_is_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store_users(home, 1)
    offline = OfflineConsole(Paths(home, home, home), warn=print)

    def pending(console: Console) -> object:
        return asyncio.run(console.pending())

    with pytest.raises(NoDaemon, match="no daemon is running"):
        offline.run(pending)


async def test_a_store_that_lost_its_owner_causes_one_warning(kit: Kit) -> None:
    await run(kit.home, "init")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", "ab" * 32)
    (kit.home / "device.db").unlink()
    added = await run(kit.home, "users", "add", "anna", "--key", "cd" * 32, "--until", "2d")
    assert added.code == 0, added
    assert added.err.count("lost its owner") == 1
    assert all(line.startswith("warning: ") for line in added.err.splitlines())


async def test_a_missing_store_is_reported_with_the_command_that_restores_it(kit: Kit) -> None:
    await run(kit.home, "init")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", "ab" * 32)
    (kit.home / "device.db").unlink()
    first = await run(kit.home, "status")
    assert first.code == 0
    assert "the store was missing" in first.out
    assert "handfast-device restore FILE" in first.err
    assert "unable to open" not in first.err


# -- many users -----------------------------------------------------------------------------------


async def test_the_list_of_many_users_is_sent_in_several_lines(kit: Kit) -> None:
    store_users(kit.home, MANY)
    device = await kit.device()
    reader, writer = await asyncio.open_unix_connection(
        str(device.app.paths.socket), limit=2 * CONTROL_ROWS_BYTES
    )
    writer.write(b'{"verb": "users-list"}\n')
    names, count = [], 0
    async with asyncio.timeout(60):
        while line := await reader.readline():  # raises for a line above the limit
            message = json.loads(line)
            rows = message["rows"] if "rows" in message else message["result"]["users"]
            names += [row["name"] for row in rows]
            count += 1
    writer.close()
    assert names == [user.name for user in users(MANY)]
    assert count > 50
    listed = await ControlClient(device.app.paths.socket).do(Console.users_list)
    assert [user["name"] for user in listed["users"]] == names


async def test_the_status_counts_all_users_and_lists_some(kit: Kit) -> None:
    store_users(kit.home, MANY)
    device = await kit.device()
    status = device.app.status()
    assert status["user_count"] == MANY
    assert len(status["users"]) == STATUS_USERS_MAX


def test_the_status_reads_only_the_users_that_it_lists() -> None:
    read = []

    class Users:
        def values(self) -> Iterator[User]:
            for user in users(2 * STATUS_USERS_MAX):
                read.append(user)
                yield user

    state: Any = type("Counting", (), {"users": Users()})
    assert len(users_summary(state)) == len(read) == STATUS_USERS_MAX


async def test_the_command_prints_many_users_as_one_document(kit: Kit) -> None:
    some = MANY // 10
    store_users(kit.home, some)
    offline = json.loads((await run(kit.home, "users", "list", "--json")).out)
    assert len(offline["users"]) == some
    daemon = await kit.daemon()
    listed = await daemon.json("users", "list")
    assert listed == offline
    assert (await daemon.run("users", "list")).out.count("\n") == some + 1  # the headers
    assert f"{some} (`handfast-device users list`" in (await daemon.run("status")).out


# -- the audit trail -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2**63, 10**30])
async def test_a_number_above_all_events_is_accepted(device: Device, number: int) -> None:
    """SQLite does not accept such a number, but a client of the socket can send it."""
    socket = device.app.paths.socket
    await call(socket, "clock", {"trust_system": True})
    for args, first in (({"since": 0, "last": number}, 1), ({"since": number}, 2)):
        heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        following = asyncio.create_task(call(socket, "events", args, on_event=heard.put_nowait))
        async with asyncio.timeout(60):
            while heard.empty():
                await call(socket, "clock", {"trust_system": True})
            assert (await heard.get())["record"]["seq"] >= first
        assert not following.done()
        await cancel_all([following])
    with pytest.raises(AppError, match="'since' is not a whole number"):
        await call(socket, "events", {"since": True})


async def test_the_trail_is_listed_in_parts_up_to_the_event_that_was_the_newest(
    device: Device,
) -> None:
    control = device.app.access
    event = control.audit.event(EventKind.LABEL_MADE, detail="x" * 200)
    control.writer.commit(control.store.state, *[event] * 700)
    head = control.store.audit.head[0]
    parts: list[list[Any]] = []

    def taken(rows: list[Any]) -> None:
        control.audit.append(event)
        parts.append(rows)

    client = ControlClient(device.app.paths.socket)
    await client.list_rows(Console.trail, "events", taken, since=0)
    assert len(parts) > 2
    assert [row["seq"] for rows in parts for row in rows] == list(range(1, head + 1))
    answer = await client.do(Console.trail, last=3)
    assert [row["seq"] for row in answer["events"]] == [answer["head"] - 2 + n for n in range(3)]
