"""`users list` prints each page before the next one comes, as a table and as one JSON document."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from device_app.limits import USERS_PAGE_DEFAULT
from device_app.settings.paths import Paths
from iam import State, Store, User
from peer.terminal.exit_codes import ExitCode
from tests.kit.daemon import command, environment, run
from tests.kit.process import Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

USERS = [
    {"name": f"user-{number}", "role": "guest", "keys": [{"verified": True}]} for number in range(3)
]


class SlowDaemon:
    """A control socket whose list of users has three pages, each sent when the test says so.

    An `endless` list begins again after its second page.
    """

    def __init__(self) -> None:
        self.endless = False
        self.next_page = asyncio.Semaphore(0)
        self.is_cut_off = asyncio.Event()
        self._serving: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.append(asyncio.current_task())
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()

    async def close(self) -> None:
        """Cut off the commands that still wait."""
        for task in self._serving:
            assert task is not None
            task.cancel()
        await asyncio.gather(*filter(None, self._serving), return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.readline())
        if request["verb"] == "clock":
            answer: dict[str, object] = {"now": 0, "known": True, "trouble": "", "system": 0}
        else:
            with suppress(ConnectionError):
                for user in cycle(USERS[:-1]) if self.endless else USERS[:-1]:
                    if not self.endless:
                        await self.next_page.acquire()
                    self._write(writer, {"event": "rows", "field": "users", "rows": [user]})
                    await writer.drain()
            if self.endless:
                self.is_cut_off.set()
                return
            await self.next_page.acquire()
            answer = {"users": USERS[-1:]}
        self._write(writer, {"ok": True, "result": answer})

    @staticmethod
    def _write(writer: asyncio.StreamWriter, message: dict[str, object]) -> None:
        writer.write(json.dumps(message).encode() + b"\n")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[SlowDaemon]:
    daemon = SlowDaemon()
    path = Paths(tmp_path, tmp_path, tmp_path).socket
    path.parent.mkdir(parents=True, exist_ok=True)
    async with await asyncio.start_unix_server(daemon.serve, path):
        yield daemon
        await daemon.close()


def listing(home: Path, *options: str) -> Program:
    return Program(list(command(home, "users", "list", *options)), environment())


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_each_page_is_printed_before_the_next_one_comes(
    daemon: SlowDaemon, tmp_path: Path, options: tuple[str, ...]
) -> None:
    program = listing(tmp_path, *options)
    try:
        for user in USERS[:-1]:
            daemon.next_page.release()
            await asyncio.to_thread(program.until, str(user["name"]), on="out")
        daemon.next_page.release()
        result = await asyncio.to_thread(program.end, code=0)
    finally:
        program.close()
    if options:
        assert result.out == json.dumps({"schema": 1, "users": USERS}) + "\n"
    else:
        assert [line.split()[0] for line in result.out.splitlines()] == [
            "USER",
            *(user["name"] for user in USERS),
        ]


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_a_reader_that_has_seen_enough_ends_the_list(
    daemon: SlowDaemon, tmp_path: Path, options: tuple[str, ...]
) -> None:
    daemon.endless = True
    argv = [*command(tmp_path, "users", "list", *options)]
    program = Program(["sh", "-c", '"$@" | head -c 5', "sh", *argv], environment())
    try:
        result = await asyncio.to_thread(program.end, code=0)
        async with asyncio.timeout(60):
            await daemon.is_cut_off.wait()
    finally:
        program.close()
    assert result.out == ('{"sch' if options else "USER ")
    assert result.err == ""


async def test_ctrl_c_ends_the_list_without_a_traceback(daemon: SlowDaemon, tmp_path: Path) -> None:
    program = listing(tmp_path)
    try:
        daemon.next_page.release()
        await asyncio.to_thread(program.until, "user-0", on="out")
        program.send(signal.SIGINT)
        result = await asyncio.to_thread(program.end, code=ExitCode.INTERRUPTED)
    finally:
        program.close()
    assert result.err.strip() == "interrupted"


async def test_without_a_daemon_the_list_is_the_same(tmp_path: Path) -> None:
    assert (await run(tmp_path, "init")).code == 0
    assert (await run(tmp_path, "users", "list", "--json")).value == {"schema": 1, "users": []}
    assert "no users yet" in (await run(tmp_path, "users", "list")).out
    names = [f"user-{number:03}" for number in range(USERS_PAGE_DEFAULT + 1)]
    store = Store.open(Paths(tmp_path, tmp_path, tmp_path).store)
    store.commit(State.of([User(name, "guest") for name in names]))
    store.close()
    listed = (await run(tmp_path, "users", "list", "--json")).value["users"]
    assert [user["name"] for user in listed] == names
    lines = (await run(tmp_path, "users", "list")).out.splitlines()
    assert [line.split()[0] for line in lines] == ["USER", *names]
