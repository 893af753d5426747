"""Avahi, the usual DNS-SD client of Linux, finds the device and resolves its name."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peer.net import advertiser
from peer.net.advertiser import Advertiser
from peer.net.adverts import SERVICE, SUBTYPE
from tests.kit.process import Program
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.kit.namespaces import Lan

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.usefixtures("device"),
    pytest.mark.needs_tool("avahi-browse"),
    pytest.mark.needs_tool("avahi-daemon"),
    pytest.mark.needs_tool("dbus-daemon"),
]

BUS = """<busconfig>
<type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy>
</busconfig>"""
AVAHI = "[server]\nallow-interfaces=eth0\n[publish]\ndisable-publishing=yes\n"
#: Avahi has one process per machine, by a file below /run: here a folder of its own.
DAEMON = (
    "mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && "
    "exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f"
)


@pytest.fixture
def avahi(lan: Lan, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Avahi in the client's namespace with a bus of its own; the environment of its commands."""
    (tmp_path / "bus.conf").write_text(BUS.format(path=tmp_path / "bus"))
    (tmp_path / "avahi.conf").write_text(AVAHI)
    env = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/bus"}
    config = f"--config-file={tmp_path}/bus.conf"
    bus = Program(["dbus-daemon", config, "--nofork", "--nopidfile", "--print-address=1"], env)
    inside = ["ip", "netns", "exec", lan.client.name, "unshare", "--mount", "sh", "-c"]
    programs = [bus]
    try:
        bus.until("unix:path=", on="out")
        programs.append(
            Program([*inside, f"{DAEMON} {shlex.quote(str(tmp_path / 'avahi.conf'))}"], env)
        )
        programs[-1].until("Server startup complete")
        yield env
    finally:
        for program in reversed(programs):
            program.close()


@pytest.fixture
async def device(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Advertiser]:
    monkeypatch.setattr(advertiser, "kernel_table", lan.device.table)
    made = Advertiser(
        name="kitchen lamp", device_id="7F3K2M1Q", port=5684, pairing_port=5685, interfaces=None
    )
    with lan.device.inside():
        await made.start()
    yield made
    await made.close()


async def run(*command: str, env: dict[str, str]) -> str:
    def call() -> str:
        done = subprocess.run(
            command, env=env, check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
        return done.stdout

    return await asyncio.to_thread(call)


async def browse(*words: str, mark: str, env: dict[str, str]) -> str:
    """Browse until a line begins with this mark: Avahi waits for answers for one second."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            shown = await run("avahi-browse", "--parsable", "--terminate", *words, env=env)
            if any(line.startswith(mark) for line in shown.splitlines()):
                return shown


@pytest.mark.parametrize("kind", [SERVICE, SUBTYPE])
async def test_avahi_browses_and_resolves_the_device(avahi: dict[str, str], kind: str) -> None:
    name = kind.removesuffix(".local.")
    shown = await browse("--resolve", name, mark="=", env=avahi)
    resolved = [line.split(";") for line in shown.splitlines() if line.startswith("=")]
    assert {one[3] for one in resolved} == {r"kitchen\032lamp\0327F3K2M1Q"}
    assert {(one[6], one[8]) for one in resolved} == {("handfast-7f3k2m1q.local", "5684")}
    assert {one[7] for one in resolved} <= {"192.0.2.1", "2001:db8::1", "fe80::1"}
    for entry in ("v=1", "id=7F3K2M1Q", "pm=0", "name=kitchen lamp"):
        assert all(f'"{entry}"' in one[9] for one in resolved)


async def test_avahi_lists_the_service_type_once_and_resolves_the_host(
    avahi: dict[str, str],
) -> None:
    shown = await browse("--all", mark="+", env=avahi)
    assert set(re.findall(r"(_\S+?);local", shown)) == {"_coaps._udp"}
    host = "handfast-7f3k2m1q.local"
    found = await run("avahi-resolve", "-4", "-n", host, env=avahi)
    assert found.split() == [host, "192.0.2.1"]
