"""The notifications to the service manager: states, status, and that the daemon is alive."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from device_app.access.policies import PolicySet
from device_app.app import App
from device_app.errors import ConfigError
from device_app.limits import STORE_LOAD_BYTES_PER_SECOND
from device_app.process.notify import ServiceManager
from device_app.process.watchdog import Watchdog
from device_app.settings.paths import Paths
from tests.kit.datagram_inbox import Manager
from tests.kit.device import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.device import Kit

#: With SIGUSR1, its loop reads no UDP socket any more, as if a fault had removed the readers.
DEAF = """
import asyncio, os, signal, socket

def cut():
    loop = asyncio.get_running_loop()
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            copy = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        with copy:
            if copy.family != socket.AF_UNIX and copy.type == socket.SOCK_DGRAM:
                try:
                    loop.remove_reader(number)
                except RuntimeError:  # a transport of mDNS
                    pass

def resources(board):
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, cut)
    return []
"""
#: Seconds. The queue of a socket has ten messages on some machines, and a daemon discards what
#: finds no room: it is not to be full after a pause of two seconds.
FAST = 0.5


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path / "notify") as found:
        yield found


async def test_the_service_manager_follows_start_reload_and_stop(
    kit: Kit, manager: Manager
) -> None:
    daemon = await kit.daemon(env=manager.environment(watchdog_seconds=FAST))
    *steps, ready = await manager.next("READY")
    assert [step["STATUS"] for step in steps] == [
        "loading the store …",
        "loading the modules …",
        "reading the policies …",
        "opening the ports …",
    ]
    summary = "window open, 0 users, 0 sessions"
    assert ready == {"READY": "1", "MAINPID": str(daemon.pid), "STATUS": summary}
    assert await manager.next("WATCHDOG", times=2) == [{"WATCHDOG": "1", "STATUS": summary}] * 2

    await daemon.run("users", "add", "anna", "--role", "owner", "--key", "ab" * 32)
    assert (await daemon.run("policy", "reload")).code == 0
    began = (await manager.next("RELOADING"))[-1]
    assert began.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert int(began["MONOTONIC_USEC"]) > 0
    assert (await manager.next("READY"))[-1].keys() == {"READY", "STATUS"}
    alive = (await manager.next("WATCHDOG", times=2))[-1]
    assert ", 1 user, 0 sessions" in alive["STATUS"]

    kit.policy("[[policy]]\n")
    for ask in (
        lambda: daemon.run("policy", "reload"),
        lambda: asyncio.to_thread(daemon.send, signal.SIGHUP),
    ):
        await ask()
        await manager.next("RELOADING")
        failed = (await manager.next("READY"))[-1]
        assert failed["STATUS"].startswith("the last reload was refused: "), failed
        assert "test.toml:1" in failed["STATUS"]
        alive = (await manager.next("WATCHDOG"))[-1]
        assert alive["STATUS"].startswith("the last reload was refused: "), "it is still known"
    kit.remove_policy()
    daemon.send(signal.SIGHUP)
    await manager.next("RELOADING")
    assert (await manager.next("READY"))[-1]["STATUS"].startswith("window ")

    assert await daemon.stop() == 0
    await manager.next("STOPPING")
    assert after_stop(manager) == []


def after_stop(manager: Manager) -> list[bytes]:
    received = manager.received
    [at] = [number for number, one in enumerate(received) if b"STOPPING=1" in one]
    return received[at + 1 :]


async def test_a_factory_reset_is_a_reload_for_the_service_manager(
    kit: Kit, manager: Manager
) -> None:
    daemon = await kit.daemon(env=manager.environment(watchdog_seconds=FAST))
    await manager.next("READY")
    await daemon.run("users", "add", "anna", "--role", "owner", "--key", "ab" * 32)
    assert (await daemon.run("reset", "--yes")).code == 0
    await manager.next("RELOADING")
    *steps, ready = await manager.next("READY")
    assert "loading the store …" in [step["STATUS"] for step in steps]
    assert not [step for step in steps if "WATCHDOG" in step], "there is no device meanwhile"
    assert ready["MAINPID"] == str(daemon.pid)
    assert ready["STATUS"] == "window open, 0 users, 0 sessions"
    await manager.next("WATCHDOG", times=2)
    assert (await daemon.run("policy", "reload")).code == 0
    await manager.next("RELOADING")
    await manager.next("READY")


async def test_a_daemon_that_does_not_read_its_port_does_not_feed_the_watchdog(
    kit: Kit, manager: Manager
) -> None:
    modules = kit.home / "modules"
    modules.mkdir(parents=True)
    (modules / "deaf.py").write_text(DEAF)
    (kit.home / "device.toml").write_text('[resources]\nmodules = ["deaf"]\n')
    daemon = await kit.daemon(env=manager.environment(watchdog_seconds=FAST))
    await manager.next("WATCHDOG", times=2)
    daemon.send(signal.SIGUSR1)
    await daemon.until("the regular port is no longer read")

    def failing(received: list[bytes]) -> int:
        return sum(b"the regular port is no longer read" in one for one in received)

    received = await manager.until(lambda received: failing(received) >= 4)
    first = next(number for number, one in enumerate(received) if failing([one]))
    assert not any(b"WATCHDOG" in one for one in received[first:])
    assert (await daemon.run("health")).code is not None, "the loop itself still runs"


async def test_a_daemon_without_a_watchdog_sends_no_ping(kit: Kit, manager: Manager) -> None:
    """Its status still follows the pairing window."""
    daemon = await kit.daemon(env=manager.environment())
    await manager.next("READY")
    assert (await daemon.run("close")).code == 0
    [closed] = await manager.next("STATUS")
    assert closed == {"STATUS": "window closed, 0 users, 0 sessions"}
    await daemon.run("policy", "reload")
    await daemon.stop()
    await manager.next("STOPPING")
    assert not any(b"WATCHDOG" in one for one in manager.received)


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": ""}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
        ({"WATCHDOG_USEC": "²"}, 0.0),
    ],
)
def test_the_watchdog_is_on_only_if_it_is_meant_for_this_process(
    variables: dict[str, str], seconds: float
) -> None:
    assert ServiceManager(variables, process=7).watchdog_seconds == seconds


async def test_the_watchdog_is_fed_while_a_reload_takes_long(
    kit: Kit, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with thousands of policies. The reload ends when the watchdog was fed meanwhile."""
    may_end = threading.Event()
    read = PolicySet.read

    def slowly(*arguments: object) -> PolicySet:
        assert may_end.wait(60)
        return read(*arguments)  # type: ignore[arg-type]

    service = ServiceManager(manager.environment(watchdog_seconds=FAST))
    app = await App.start(Paths(kit.home, kit.home, kit.home), SETTINGS, manager=service)
    kit.at_end(app.close)
    monkeypatch.setattr(PolicySet, "read", slowly)
    summary = app.device_status.summary
    with closing(Watchdog(service, is_serving=app.server.is_serving, summary=summary)):
        reload = asyncio.create_task(app.reloader.reload())
        await manager.next("RELOADING")
        during = await manager.next("WATCHDOG", times=3)
        assert not any("READY" in one for one in during)
        may_end.set()
        await reload
        await manager.next("READY")


async def test_two_reloads_at_once_end_with_the_last(manager: Manager) -> None:
    service = ServiceManager(manager.environment())
    service.ready("here")
    service.reloading()
    service.reloading()
    service.reloaded()
    service.failing("a mark")
    service.reloaded()
    messages = await manager.next("READY", times=2)
    names = [sorted(one) for one in messages]
    assert names == [
        ["MAINPID", "READY", "STATUS"],
        ["MONOTONIC_USEC", "RELOADING"],
        ["MONOTONIC_USEC", "RELOADING"],
        ["STATUS"],
        ["READY", "STATUS"],
    ]


async def test_the_name_of_a_file_adds_no_assignment(kit: Kit, manager: Manager) -> None:
    """A policy file whose name has line breaks is quoted in the status."""
    service = ServiceManager(manager.environment())
    app = await App.start(Paths(kit.home, kit.home, kit.home), SETTINGS, manager=service)
    kit.at_end(app.close)
    kit.policy("[[policy]]\n", name="a\nMAINPID=1\nSTOPPING=1\n.toml")
    with pytest.raises(ConfigError):
        await app.reloader.reload()
    [*_, failed] = await manager.next("READY")
    assert failed.keys() == {"READY", "STATUS"}
    assert "a\\x0aMAINPID=1\\x0aSTOPPING=1" in failed["STATUS"]


async def test_a_long_status_is_cut(manager: Manager) -> None:
    """Systemd discards a message of more than 4096 bytes."""
    service = ServiceManager(manager.environment())
    service.ready("é" * 100_000)
    await manager.next("READY")
    assert len(manager.received[0]) < 4096


async def test_a_large_store_asks_for_more_time(kit: Kit, manager: Manager) -> None:
    service = ServiceManager(manager.environment())
    paths = Paths(kit.home, kit.home, kit.home)

    async def first_message() -> dict[str, str]:
        app = await App.start(paths, SETTINGS, manager=service)
        await app.close()
        service.ready("")
        return (await manager.next("READY"))[0]

    assert await first_message() == {"STATUS": "loading the store …"}, "a new one takes no time"
    size = paths.store.stat().st_size
    message = await first_message()
    assert int(message["EXTEND_TIMEOUT_USEC"]) >= size / STORE_LOAD_BYTES_PER_SECOND * 1e6


def test_a_manager_that_is_gone_or_does_not_read_delays_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "full"))
        service = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "full")})
        for _ in range(1000):  # more than its queue holds
            service.alive("")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("")
    ServiceManager({"NOTIFY_SOCKET": "relative"}).ready("")
    ServiceManager({}).stopping()
