"""The figures of docs/remote-scale.md are those of the measurements, and its settings are valid."""

from __future__ import annotations

import heapq
import random
import re
from typing import TYPE_CHECKING, Final

import pytest

from device_app.settings import config
from peer.remote.broker_link import pause_seconds
from peer.remote.limits import BROKER_CONNECT_SECONDS, DEFAULT_REMOTE_LIMITS
from tests.bench import page
from tests.kit.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TEXT: Final = (ROOT / "docs" / "remote-scale.md").read_text(encoding="utf-8")
MARK: Final = r"<!-- {} checked by tests/docs/test_remote_scale\.py -->\n"
#: A planning figure is rounded up; a faster machine measures less.
LEAST: Final = 0.8
MOST: Final = 4.0


def planned() -> dict[tuple[str, str], tuple[float, str]]:
    """The planning figures with their units, by row and candidate of performance.md."""
    found = re.search(MARK.format("planning figures,") + r"((?:\|.*\n)+)", TEXT)
    assert found is not None
    lines = [line.strip("| ").split(" | ") for line in found[1].splitlines()[2:]]
    return {(name, of): (float(figure.split()[0]), figure.split()[1]) for name, of, figure in lines}


def figure(name: str, of: str) -> float:
    """One planning figure."""
    return planned()[name, of][0]


@pytest.mark.parametrize("row", planned(), ids=", ".join)
def test_a_planning_figure_is_the_measured_one_rounded_up(row: tuple[str, str]) -> None:
    name, of = row
    value, unit = planned()[row]
    measured = next(one for one in page.read(page.FOLDER) if one.name == name)
    series = measured.figures.get(of) or next(iter(measured.figures.values()))
    assert measured.unit == unit
    assert LEAST * series.median <= value <= MOST * series.median, f"measured {series}"


def computed(what: str) -> str:
    """A cell of the computed column."""
    found = re.search(rf"^\| {re.escape(what)} \| ([^|]+) \|", TEXT, re.MULTILINE)
    assert found is not None, what
    return found[1]


def test_the_computed_figures_follow_from_the_planning_figures() -> None:
    idle = "broker with 1,000 attached devices"
    memory, cpu = (figure(f"{idle}: {one}", "Mosquitto") for one in ("memory", "CPU in a minute"))
    attach = figure("a device attaches: CPU of the broker", "Mosquitto")
    connect = figure("a client connects to a device: CPU of Mosquitto", "Mosquitto")
    a_second = 100_000 * 10 / 86_400
    assert computed("memory") == f"{100 * memory / 1000:.1f} GB"
    assert computed("idle") == f"{100 * cpu / 60_000:.0%} of a core".replace("%", " %")
    again = f"{100_000 * attach / 300_000:.0%} of a core".replace("%", " %")
    assert computed("all devices attach again, evenly over 300 s") == again
    clients = f"{a_second * connect / 1000:.1%} of a core".replace("%", " %")
    assert computed("clients connect ten times a day to each device") == clients
    for way in ("UDP", "TLS"):
        allocations = figure("coturn with 1,000 allocations: memory", f"over {way}")
        relayed = figure("1 MB relayed: CPU of coturn", f"over {way}")
        assert computed(f"memory of 300 allocations, over {way}") == f"{0.3 * allocations:.1f} MB"
        full = computed(f"traffic that fills one core, over {way}")
        assert full == f"{8 * 1000 / relayed:.0f} Mbit/s"
    prose = " ".join(TEXT.split())
    nats = [figure(f"{idle}: {one}", "NATS") for one in ("memory", "CPU in a minute")]
    assert f"{100 * nats[0] / 1000:.1f} GB of memory" in prose
    assert f"{100 * nats[1] / 60_000:.0%} of a core when idle".replace("%", " %") in prose
    assert f"200 brokers with {200 * 100 * memory / 1000:.0f} GB of memory" in prose
    assert f"{100 * a_second:,.0f} connects of clients a second" in prose
    assert f"{1000 / attach:,.0f} devices a second" in prose
    assert f"{100_000 * attach / 1000:.0f} seconds of its core" in prose


def attached_after(devices: int, attempt_seconds: float, down_seconds: float) -> list[float]:
    """Simulate devices that lose their broker; return when each is attached again, sorted.

    Time begins when the broker is back. It serves attempts one after another, and one that waited
    too long costs it as much as one that succeeds.
    """
    source, longest = random.Random("storm").randbytes, DEFAULT_REMOTE_LIMITS.attach_max_seconds
    waiting = [(pause_seconds(1, longest, source) - down_seconds, 1) for _ in range(devices)]
    heapq.heapify(waiting)
    free, attached = 0.0, []
    while waiting:
        at, failures = heapq.heappop(waiting)
        done = max(free, at) + attempt_seconds
        if at >= 0:
            free = done
        if at >= 0 and done - at <= BROKER_CONNECT_SECONDS:
            attached.append(done)
            continue
        again = at + (BROKER_CONNECT_SECONDS if at >= 0 else 0.0)
        pause = pause_seconds(failures + 1, longest, source)
        heapq.heappush(waiting, (again + pause, failures + 1))
    return attached


@pytest.mark.parametrize(
    ("thousands", "down_seconds", "half_minutes", "all_minutes"),
    [(100, 0.0, 16, 20), (25, 0.0, 2, 7), (100, 600.0, 2, 5)],
)
def test_all_devices_are_attached_some_minutes_after_an_outage(
    thousands: int, down_seconds: float, half_minutes: int, all_minutes: int
) -> None:
    """A tenth of the devices, each of which costs the broker ten times as much."""
    attach = figure("a device attaches: CPU of the broker", "Mosquitto")
    devices = 100 * thousands
    attached = attached_after(devices, 10 * attach / 1000, down_seconds)
    assert len(attached) == devices
    assert attached[devices // 2] < 60 * half_minutes
    assert attached[-1] < 60 * all_minutes
    minutes = (down_seconds / 60, half_minutes, all_minutes)
    assert " | ".join((f"| {thousands},000", *(f"{one:.0f} min" for one in minutes))) in TEXT


def test_the_settings_of_a_shard_are_valid(tmp_path: Path) -> None:
    found = re.search(MARK.format("a device.toml,") + r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    (tmp_path / "device.toml").write_text(found[1], encoding="utf-8")
    remote = config.load([tmp_path / "device.toml"]).remote
    assert len(remote.brokers) == len(remote.broker_pin) == 2
    assert remote.topic_prefix == "hf1/customer-1042"
    assert len(remote.relays) == 4
