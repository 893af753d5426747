"""`status --prometheus`: metrics in the text format, read by the parser of Prometheus' client."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from device_app.access.event_kind import EventKind
from device_app.terminal.render_metrics import metrics_lines
from tests.kit.daemon import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Caller, Device, Kit

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]
EXPECTED = {
    *("handfast_up", "handfast_info", "handfast_healthy", "handfast_uptime_seconds"),
    *("handfast_users", "handfast_sessions", "handfast_window_open", "handfast_failures"),
    *("handfast_blocked_seconds", "handfast_counter_total", "handfast_events_total"),
}


def values_of(text: str) -> Values:
    """The samples by name and labels; each has a type and a help text."""
    found: Values = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == ("counter" if family.samples[0].name.endswith("_total") else "gauge")
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


async def metrics(home: Path) -> Values:
    result = await run(home, "status", "--prometheus")
    assert result.code == 0, result
    assert result.err == ""
    return values_of(result.out)


async def test_the_metrics_are_those_of_the_status(owner: Caller, device: Device, kit: Kit) -> None:
    await owner.ask("GET", "/hello")
    found = await metrics(kit.home)
    assert {name for name, _ in found} == EXPECTED
    status: Any = device.app.status()
    about = (("id", status["id"]), ("version", status["version"]))
    assert found["handfast_info", about] == 1
    for name, value in (("up", 1), ("healthy", 1), ("users", 1), ("window_open", 0)):
        assert found[f"handfast_{name}", ()] == value
    assert 0 <= found["handfast_uptime_seconds", ()] <= status["uptime_seconds"]
    assert found["handfast_sessions", (("port", "regular"),)] == 1
    assert found["handfast_sessions", (("port", "pairing"),)] == 0
    labels = (("kind", "handshakes"), ("port", "regular"))
    assert found["handfast_counter_total", labels] == 1
    assert found["handfast_events_total", (("kind", "paired"),)] == 1


async def test_each_kind_of_event_is_counted_from_zero(device: Device, kit: Kit) -> None:
    """A rate needs a value before the first event."""
    before = await metrics(kit.home)
    kinds = {labels[0][1] for name, labels in before if name == "handfast_events_total"}
    assert kinds == {kind.value for kind in EventKind}
    await device.open()
    await kit.caller(device).start("anna")
    assert (await kit.caller(device).start("berta")).code == "4.03"
    after = await metrics(kit.home)
    for kind, count in (("overlap", 1), ("window-opened", 1), ("window-closed", 1), ("paired", 0)):
        key = "handfast_events_total", (("kind", kind),)
        assert (before[key], after[key]) == (0, count)
    head, _ = device.app.access.store.audit.head
    assert sum(n for (name, _), n in after.items() if name == "handfast_events_total") == head


async def test_counters_of_the_pairing_port_survive_its_closing(device: Device, kit: Kit) -> None:
    key = "handfast_counter_total", (("kind", "handshakes"), ("port", "pairing"))
    for count in (1, 2):
        await device.open()
        await kit.caller(device).pair_ask("GET", "/pair")
        assert (await metrics(kit.home))[key] == count
        await device.closed()
        assert (await metrics(kit.home))[key] == count


async def test_no_metric_tells_who_or_where(owner: Caller, device: Device, kit: Kit) -> None:
    device.add_user("anna", "guest", kit.caller(device).identity)
    await device.open()
    await kit.caller(device).start("berta")
    text = (await run(kit.home, "status", "--prometheus")).out
    status: Any = device.app.status()
    secrets = [status["window"]["code"], status["fingerprint"], owner.fingerprint, "127.0.0.1"]
    for word in ("olga", "anna", "berta", "kitchen", str(kit.home), *secrets):
        assert word not in text


async def test_without_a_daemon_the_only_metric_says_so(device: Device, kit: Kit) -> None:
    await device.app.close()
    result = await run(kit.home, "status", "--prometheus")
    assert result.code == 3
    assert values_of(result.out) == {("handfast_up", ()): 0}
    assert "no daemon is running" in result.err


async def test_a_file_of_metrics_is_replaced_and_readable_for_the_collector(
    device: Device, kit: Kit, tmp_path: Path
) -> None:
    folder = tmp_path / "textfile"
    folder.mkdir()
    file = folder / "handfast.prom"
    file.write_text("old")
    held = file.open()
    umask = os.umask(0o077)
    try:
        result = await run(kit.home, "status", "--prometheus", "--output", str(file))
    finally:
        os.umask(umask)
    assert (result.code, result.out) == (0, "")
    assert held.read() == "old", "the file was replaced, not overwritten"
    held.close()
    assert values_of(file.read_text())["handfast_up", ()] == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [each.name for each in folder.iterdir()] == ["handfast.prom"]
    await device.app.close()
    assert (await run(kit.home, "status", "--prometheus", "--output", str(file))).code == 3
    assert values_of(file.read_text()) == {("handfast_up", ()): 0}


@pytest.mark.usefixtures("device")
async def test_a_file_that_cannot_be_written_is_named(kit: Kit) -> None:
    file = kit.home / "missing" / "handfast.prom"
    result = await run(kit.home, "status", "--prometheus", "--output", str(file))
    assert (result.code, result.out) == (1, "")
    assert str(file) in result.err


@pytest.mark.parametrize(
    "options", [("--prometheus", "--json"), ("--output", "file")], ids=["json", "output"]
)
async def test_options_that_do_not_fit_are_refused(kit: Kit, options: tuple[str, ...]) -> None:
    assert (await run(kit.home, "status", *options)).code == 2


async def test_values_of_labels_are_escaped(owner: Caller, device: Device) -> None:
    assert owner.fingerprint
    version = 'a"b\\c\nd'
    status: Any = {**device.app.status(), "version": version}
    text = "\n".join(metrics_lines(status)) + "\n"
    about = (("id", status["id"]), ("version", version))
    assert values_of(text)["handfast_info", about] == 1
    assert len(re.findall(r"^# HELP", text, re.MULTILINE)) == len(EXPECTED)
