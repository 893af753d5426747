"""`watch`: the state of a running device as a stream, for displays and scripts."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console import device_state
from device_app.console.control_client import call
from device_app.terminal.block_digits import block_lines
from device_app.terminal.render_watch import watch_lines
from iam.store import Store
from peer.limits import DEFAULT_LIMITS
from peer.net.tasks import cancel_all
from tests.kit.daemon import command, environment, run
from tests.kit.device import fixed_port
from tests.kit.process import Program
from tests.kit.waiting import TIMEOUT_SECONDS, skip_time, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from device_app.console.views import StateEvent
    from tests.kit.device import Device, Kit

OWNER = ("users", "add", "olga", "--role", "owner", "--key", "ab" * 32)
SHELL = ("sh", "-c", 'exec 3>&1; eval "$0"')
SOON_BLOCKED = replace(DEFAULT_LIMITS, window_linger_seconds=0.3, backoff_after=2)


class Watch:
    """The states that a client of the control socket is sent."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            event = await self.queue.get()
        assert event["event"] == "state"
        view: dict[str, Any] = event["state"]
        return view

    async def until(self, state: str) -> dict[str, Any]:
        """The next line with this state."""
        while (view := await self.next())["state"] != state:
            pass
        return view


@asynccontextmanager
async def watching(device: Device) -> AsyncIterator[Watch]:
    watch = Watch()
    following = asyncio.create_task(
        call(device.app.paths.socket, "watch", {}, on_event=watch.queue.put_nowait)
    )
    try:
        yield watch
        assert not following.done()
    finally:
        await cancel_all([following])


# -- the states of a device ---------------------------------------------------------------------


async def test_a_pairing_is_shown_step_by_step_until_its_result_has_been_shown(
    kit: Kit, device: Device
) -> None:
    caller = kit.caller(device)
    async with watching(device) as watch:
        idle = await watch.next()
        assert idle == {
            "state": "idle",
            "pairing": "idle",
            "since": idle["since"],
            "device_id": device.fingerprint.device_id,
        }
        await device.open(role="user")
        opened = await watch.next()
        window = device.app.status()["window"]
        assert (opened["state"], opened["role"], opened["code"]) == ("open", "user", window["code"])
        assert opened["methods"] == window["methods"]
        assert 0 < opened["seconds_left"] <= 120
        started = await caller.start("anna")
        asking = await watch.next()
        [pending] = device.app.status()["pending"]
        assert asking["state"] == "asking"
        for field in ("id", "name", "role", "method", "fingerprint"):
            assert asking[field] == pending[field]
        device.decide(accept=True)
        working = await watch.next()
        assert (working["state"], working["name"]) == ("working", "anna")
        assert "fingerprint" not in working
        await caller.confirm(started)
        paired = await watch.next()
        assert (paired["state"], paired["name"], paired["role"]) == ("paired", "anna", "user")
        assert "code" not in paired
        skip_time(3.5)
        assert (await watch.next())["state"] == "idle"


@pytest.mark.parametrize("method", ["code", "compare"])
async def test_each_method_is_working_or_asking_from_its_start(
    kit: Kit, device: Device, method: str
) -> None:
    """No event of pairing announces a ceremony that does not ask the device's user."""
    caller = kit.caller(device)
    await device.open()
    async with watching(device) as watch:
        await watch.until("open")
        wrong = {"method": method, "name": "anna", "round_one": bytes(330)}
        answer = await caller.pair_ask("POST", "/pair", wrong)
        if method == "code":
            assert answer.reason == "wrong-code"
            refused = await watch.until("refused")
            assert (refused["reason"], refused["name"]) == ("mismatch", "anna")
            assert refused["code"] == device.app.status()["window"]["code"], "the next one"
        else:
            assert (await watch.next())["state"] == "asking"


async def test_a_ceremony_without_a_question_is_working(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open(methods=("sas",))
    async with watching(device) as watch:
        await watch.until("open")
        await caller.pair_ask("POST", "/pair", {"method": "sas", "name": "anna"})
        working = await watch.next()
        assert (working["state"], working["method"]) == ("working", "sas")
        assert "number" not in working


async def test_two_clients_are_refused_for_a_minute_or_until_the_window_is_opened(
    kit: Kit, device: Device
) -> None:
    async def overlap() -> None:
        await device.open()
        await kit.caller(device).start("anna")
        assert (await kit.caller(device).start("berta")).code == "4.03"

    async with watching(device) as watch:
        await overlap()
        refused = await watch.until("refused")
        assert refused["reason"] == "overlap"
        assert 30 < refused["seconds_left"] <= 60
        assert "code" not in refused
        await device.open()
        assert (await watch.next())["state"] == "open"
        await overlap()
        await watch.until("refused")
        skip_time(60)
        assert (await watch.next())["state"] == "idle"


async def test_a_device_is_blocked_after_failed_attempts_until_the_back_off_ends(kit: Kit) -> None:
    device = await kit.device(limits=SOON_BLOCKED)
    caller = kit.caller(device)
    await device.open()
    async with watching(device) as watch:
        for _ in range(2):
            await caller.start("anna")
            device.decide(accept=False)
        assert (await watch.until("refused"))["reason"] == "refused"
        await device.open()
        blocked = await watch.until("blocked")
        assert 0 < blocked["seconds_left"] <= 30
        skip_time(31)
        assert (await watch.next())["state"] == "open"


async def test_a_window_whose_time_is_up_is_no_longer_open(device: Device) -> None:
    async with watching(device) as watch:
        await device.open(seconds=20)
        await watch.until("open")
        await device.open(seconds=30)
        assert 20 < (await watch.next())["seconds_left"] <= 30, "extended"
        skip_time(31)
        assert (await watch.next())["state"] == "idle"


async def test_a_problem_is_found_while_a_command_watches(device: Device) -> None:
    """Nothing announces that the disk is full or that the file is gone: it is looked for."""
    async with watching(device) as watch:
        assert (await watch.next())["state"] == "idle"
        device.app.paths.store.rename(device.app.paths.store.with_suffix(".away"))
        skip_time(6)
        trouble = await watch.next()
        assert (trouble["state"], trouble["pairing"]) == ("trouble", "idle")
        assert trouble["problems"] == device.app.device_status.problems()
        device.app.paths.store.with_suffix(".away").rename(device.app.paths.store)
        skip_time(6)
        assert (await watch.next())["state"] == "idle"


async def test_the_state_is_kept_while_no_command_watches(
    kit: Kit, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that `since` is right: events and the device's own timer change it, not a command."""
    monkeypatch.setattr(device_state, "PAIRED_SHOWN_SECONDS", 2 * TIMEOUT_SECONDS)

    def state() -> str:
        return device.app.states.view()["state"]

    caller = kit.caller(device)
    await device.open(methods=("sas", "compare"))
    await until(lambda: state() == "open")
    await caller.pair_ask("POST", "/pair", {"method": "sas", "name": "anna"})
    await until(lambda: state() == "working")
    await device.pair(caller, "anna")
    await until(lambda: state() == "paired")
    await device.port_closed()  # the last event
    skip_time(2 * TIMEOUT_SECONDS)
    await until(lambda: state() == "idle")
    assert abs(device.app.states.view()["since"] - device.app.access.clock.now()) < 30


# -- readers ------------------------------------------------------------------------------------


async def test_a_slow_reader_gets_the_newest_state_and_none_in_between(device: Device) -> None:
    sent: list[StateEvent] = []
    may_read = asyncio.Event()

    async def tell(event: StateEvent) -> None:
        sent.append(event)
        await may_read.wait()

    following = asyncio.create_task(device.app.states.follow(tell))
    await until(lambda: sent)
    for seconds in (20, 30, 40, 50):
        await device.open(seconds=seconds)
        await asyncio.sleep(0)  # as between two requests
    may_read.set()
    await until(lambda: len(sent) > 1)
    await device.open(seconds=60)
    await until(lambda: len(sent) > 2)
    await cancel_all([following])
    assert [event["state"]["state"] for event in sent] == ["idle", "open", "open"]
    assert 40 < sent[1]["state"]["seconds_left"] <= 50


async def test_a_client_that_has_left_is_forgotten(device: Device) -> None:
    before = len(device.app.pairing.events)
    async with watching(device) as watch:
        await watch.next()
        assert device.app.states.watching == 1
    await until(lambda: not device.app.states.watching)
    assert len(device.app.pairing.events) == before


# -- as a process -------------------------------------------------------------------------------


class Screen:
    """The lines that `watch --json` prints."""

    def __init__(self, home: Path, *options: str) -> None:
        words = command(home, "watch", "--json", *options)
        self.program = Program(words, environment())
        self._seen = 0

    @property
    def views(self) -> list[dict[str, Any]]:
        lines = self.program.output("out").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    async def next(self) -> dict[str, Any]:
        await until(lambda: len(self.views) > self._seen or not self.program.is_running)
        self._seen += 1
        return self.views[self._seen - 1]


@pytest.fixture
async def home(kit: Kit) -> Path:
    """A device with an owner, so that it opens no window by itself."""
    await run(kit.home, "init", "--name", "kitchen")
    await run(kit.home, *OWNER)
    return kit.home


def screen_of(kit: Kit, *options: str) -> Screen:
    """A running `watch --json`, which ends with the test."""
    screen = Screen(kit.home, *options)
    kit.at_end(lambda: asyncio.to_thread(screen.program.close))
    return screen


@pytest.mark.slow
async def test_a_display_follows_a_daemon_through_a_pairing_to_its_end(
    kit: Kit, home: Path
) -> None:
    store = Store.open(home / "device.db")
    store.commit(store.state, attempts={"pairing": {"failures": 12, "remaining": 100.0}})
    store.close()
    daemon = await kit.daemon()
    screen = screen_of(kit)
    blocked = await screen.next()
    assert (blocked["schema"], blocked["state"]) == (1, "blocked")
    assert 0 < blocked["seconds_left"] <= 100

    window = (await daemon.json("open", "--no-wait"))["window"]
    opened = await screen.next()
    assert (opened["state"], opened["code"]) == ("open", window["code"])
    caller = kit.caller(fixed_port(window["port"]))
    started = await caller.start("anna")
    asking = await screen.next()
    assert (asking["state"], asking["name"]) == ("asking", "anna")
    await daemon.json("accept", asking["id"])
    assert (await screen.next())["state"] == "working"
    await caller.confirm(started)
    paired = await screen.next()
    assert (paired["state"], paired["name"], paired["role"]) == ("paired", "anna", "guest")
    assert (await screen.next())["state"] == "idle"

    window = (await daemon.json("open", "--no-wait"))["window"]
    assert (await screen.next())["state"] == "open"
    first, second = (kit.caller(fixed_port(window["port"])) for _ in range(2))
    await first.start("leo")
    assert (await screen.next())["state"] == "asking"
    assert (await second.start("max")).code == "4.03"
    refused = await screen.next()
    assert (refused["state"], refused["reason"]) == ("refused", "overlap")

    kit.policy("not a policy")
    assert (await daemon.run("policy", "reload")).code != 0
    trouble = await screen.next()
    assert (trouble["state"], trouble["pairing"]) == ("trouble", "refused")
    assert trouble["problems"] == (await daemon.run("health", "--json")).value["problems"]

    assert await daemon.stop() == 0
    ended = await asyncio.to_thread(screen.program.end)
    assert ended.code == 3
    assert "the daemon has exited" in ended.err
    assert len(screen.views) == 10, "one line for each change, and none besides"


@pytest.mark.slow
async def test_with_reconnect_a_display_follows_one_daemon_after_another(
    kit: Kit, home: Path
) -> None:
    assert (await run(home, "watch")).code == 3
    screen = screen_of(kit, "--reconnect")
    stopped = await screen.next()
    assert (stopped["state"], stopped["pairing"]) == ("stopped", "stopped")
    for number in (signal.SIGTERM, signal.SIGKILL):
        daemon = await kit.daemon()
        assert (await screen.next())["state"] == "idle"
        await daemon.stop(number)
        assert (await screen.next())["state"] == "stopped"
    screen.program.send(signal.SIGINT)
    ended = await asyncio.to_thread(screen.program.end)
    assert ended.code == 130
    assert len(screen.views) == 5


async def test_a_daemon_that_is_ending_does_not_end_a_display(kit: Kit, device: Device) -> None:
    """It removes its socket first, and closes its sessions and its store then."""
    device.app.paths.socket.unlink()
    assert (await run(kit.home, "watch")).code == 1
    screen = screen_of(kit, "--reconnect")
    assert (await screen.next())["state"] == "stopped"
    await device.app.close()
    await kit.daemon()
    assert (await screen.next())["state"] != "stopped"


@pytest.mark.parametrize(
    "words", [("watch", "--json"), ("watch", "--json", "--reconnect"), ("events", "--follow")]
)
async def test_a_command_that_follows_ends_when_its_reader_has_left(
    kit: Kit, device: Device, words: tuple[str, ...]
) -> None:
    """Without another line to print: a shell waits for every command of a pipeline."""
    await device.open()
    first = Program([*SHELL, command_line(kit.home, *words)], environment())
    kit.at_end(lambda: asyncio.to_thread(first.close))
    ended = await asyncio.to_thread(first.end)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("\n") == 2
    assert ended.out.endswith("exit 0\n")


def command_line(home: Path, *words: str) -> str:
    return f"({shlex.join(command(home, *words))}; echo exit $? >&3) | head -n 1"


# -- for people ---------------------------------------------------------------------------------

OPEN: Any = {
    "state": "open",
    "pairing": "open",
    "since": 0,
    "role": "guest",
    "methods": ["code", "compare"],
    "code": "4821-7093",
    "seconds_left": 120.0,
}
ASKING: Any = {
    "state": "asking",
    "pairing": "asking",
    "since": 0,
    "id": "5f0c",
    "name": "anna",
    "role": "guest",
    "method": "sas",
    "number": "123456",
    "fingerprint": "ab" * 32,
    "seconds_left": 60.0,
}


def text_of(view: Any, *, is_large: bool = False) -> str:
    return "\n".join(watch_lines(view, 0.0, is_large=is_large))


def test_people_see_one_line_for_each_change_and_what_they_need_below_it() -> None:
    first, code = text_of(OPEN).splitlines()
    assert "  open: a client that pairs becomes guest" in first
    assert "2 min left" in first
    assert code == "    code  4821-7093"
    asking = text_of(ASKING)
    assert "'anna' asks for the role guest" in asking
    assert "this device shows  123 456" in asking
    assert "handfast-device accept 5f0c" in asking
    compared = text_of({key: value for key, value in ASKING.items() if key != "number"})
    assert "abababab" in compared.replace(" ", "").replace("-", "").lower()


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ({"pairing": "idle"}, "the pairing window is closed"),
        ({"pairing": "working", "seconds_left": 9.0}, "'anna' is pairing as guest, method sas"),
        ({"pairing": "paired"}, "'anna' has paired as guest, method sas"),
        ({"pairing": "refused", "reason": "mismatch"}, "'anna' was not paired: "),
        ({"pairing": "refused", "reason": "overlap", "name": ""}, "no client was paired: "),
        ({"pairing": "blocked", "seconds_left": 30.0}, "no client can pair for 30 s"),
        ({"pairing": "stopped"}, "no daemon is running"),
    ],
)
def test_each_state_has_a_sentence(view: dict[str, object], words: str) -> None:
    about = {"name": "anna", "role": "guest", "method": "sas", "since": 0}
    text = text_of(about | {"state": view["pairing"]} | view)
    assert f"  {view['pairing']}: " in text
    assert words in text


def test_trouble_comes_first_and_does_not_hide_the_code() -> None:
    text = text_of({**OPEN, "state": "trouble", "problems": ["the disk is full", "no clock"]})
    first, second, third, code = text.splitlines()
    assert first.endswith("trouble: the disk is full")
    assert (second.strip(), code.strip()) == ("no clock", "code  4821-7093")
    assert third.strip().startswith("open: a client that pairs becomes guest")


def test_a_name_from_the_network_cannot_move_the_cursor() -> None:
    text = text_of({**ASKING, "name": "\x1b[2J\nanna"})
    assert "\x1b" not in text
    assert "\n\nanna" not in text


def test_a_code_is_large_where_the_terminal_has_room_for_it() -> None:
    rows = block_lines("4821-7093", width=80)
    assert len(rows) == 7
    assert max(map(len, rows)) <= 80
    assert len({*block_lines("0123456789", width=200)}) > 4
    assert block_lines("4821-7093", width=60) == []
    assert block_lines("4821-7O93", width=80) == []
    for first in "0123456789":
        for second in "0123456789":
            same = block_lines(first, width=80) == block_lines(second, width=80)
            assert same is (first == second)
