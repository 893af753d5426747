"""Each group of `make bench` works, with very few operations; nothing is said about speed."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

import pytest

from tests.bench import arm, instructions, page, requests
from tests.bench.__main__ import GENERATOR, GROUPS
from tests.bench.goals import GOALS, TINYDTLS, Goal, most, ratio, verdicts
from tests.bench.harness import BASE, OURS, Bench, Row, Series, number
from tests.bench.programs import generate, libcoap, load

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBCOAP: Final = ("coap-server-openssl", "coap-client-openssl")
#: Groups with a test of their own.
OTHER_TESTS: Final = {"get", "cells", "instructions", "arm"}
needs_generator = pytest.mark.needs_tool(GENERATOR, *LIBCOAP)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    generator = Path(shutil.which(GENERATOR) or "")
    return Bench(tmp_path, generator, rounds=1, share=0.0001, may_repeat=True)


@needs_generator
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.needs_tool(*group.programs))
        for name, group in GROUPS.items()
        if name not in OTHER_TESTS
    ],
)
def test_a_group_measures_something(name: str, bench: Bench) -> None:
    GROUPS[name].measure(bench)
    assert bench.rows
    assert all(series.values for row in bench.rows for series in row.figures.values())


@needs_generator
@pytest.mark.slow
def test_small_requests_are_compared_without_a_server_that_cannot_be_built(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "has_tinydtls", lambda: False)
    GROUPS["get"].measure(bench)
    names = {name for row in bench.rows for name in row.figures}
    assert names == {OURS, f"{OURS}, IPv6", f"{OURS}, strict", "libcoap", "aiocoap, plain UDP"}


@needs_generator
@pytest.mark.slow
@pytest.mark.needs_module("DTLSSocket")
def test_small_requests_are_compared_with_three_other_servers(bench: Bench) -> None:
    GROUPS["get"].measure(bench)
    rows = {row.key: row for row in bench.rows}
    assert rows.keys() == {"get-16-cpu", "get-16-rate", "get-1-cpu", "get-1-rate"}
    others = {"libcoap", "aiocoap, tinydtls PSK", "aiocoap, plain UDP"}
    assert others < rows["get-1-cpu"].ratios.keys()


@needs_generator
@pytest.mark.needs_tool("valgrind")
def test_instructions_of_a_request_are_counted(bench: Bench) -> None:
    with instructions.counted(bench, "libcoap") as counter:
        few, many = counter.each("requests", 1, 5), counter.each("requests", 1, 20)
    assert 0 < many < few * 2 < many * 4, "the count of one request depends on how many there are"


@needs_generator
@pytest.mark.toolchain
@pytest.mark.needs_tool("qemu-aarch64", arm.PYTHON)
def test_instructions_on_arm_are_counted(bench: Bench) -> None:
    bench.share = 0.04  # fewer requests would drown in what the device does meanwhile
    GROUPS["arm"].measure(bench)
    found = {row.key: row.figures[OURS].median for row in bench.rows}
    assert all(one > 0 for one in found.values()), found
    operations = {f"arm-{key}" for key, *_ in instructions.OPERATIONS}
    assert found.keys() == operations | {"arm-loop", "arm-python", "arm-help", "arm-devices"}
    assert found["arm-handshake"] > found["arm-block"] > found["arm-get-1"]
    # A pass of the loop is a few dozen instructions of any processor.
    assert 10 < found["arm-loop"] < 1_000


@pytest.mark.slow
@pytest.mark.needs_root
@pytest.mark.needs_tool(*GROUPS["cells"].programs)
def test_a_cell_of_two_networks_is_measured(bench: Bench) -> None:
    bench.rounds = 1
    GROUPS["cells"].measure(bench)
    assert [row.key for row in bench.rows] == ["cell-first-cone-cone", "cell-rate-cone-cone"]
    assert {"LAN session", "plain TCP copy"} == bench.rows[1].ratios.keys()


@needs_generator
def test_the_generator_checks_codes_and_counts_each_response(bench: Bench) -> None:
    with libcoap(bench) as server:
        assert load(bench, server, window=3, count=20, code="2.05").count == 20
        assert generate(bench, server, "requests", path="/", count=5)["codes"] == {"2.05": 5}
        assert generate(bench, server, "handshakes", count=2)["count"] == 2
        assert generate(bench, server, "hellos", count=4, window=2)["count"] == 4
        for wrong in ({"path": "/", "code": "4.04"}, {"path": "/none"}, {"path": "/", "window": 0}):
            with pytest.raises(AssertionError, match="expected exit code 0"):
                generate(bench, server, "requests", count=1, **wrong)


@needs_generator
def test_the_generator_says_what_is_wrong_with_its_arguments() -> None:
    for words, said in (
        ((), "usage: coap-load"),
        (("127.0.0.1", "9", "dance"), "dance is no mode"),
        (("127.0.0.1", "9", "requests", "colour=red"), "colour=red is no setting"),
        (("127.0.0.1", "9", "requests", "count=many"), "many is not a number"),
        (("127.0.0.1", "9", "hellos"), "needs keys= or psk="),
        (("localhost", "9", "requests"), "not an address and a port"),
        (("127.0.0.1", "9", "requests", "keys=/none"), "no 0.crt in /none"),
        (("127.0.0.1", "9", "requests", "method=DANCE"), "method DANCE"),
    ):
        done = subprocess.run([GENERATOR, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr


# ------------------------------------------------------------------------------------- the results


def rows() -> Iterator[Row]:
    ours, peer = Series((10.0, 12.0, 11.0)), Series((5.0, 6.0, 4.0))
    for key in page.SHOWN:
        yield Row(key, f"<{key}>", "µs", {OURS: ours, "libcoap": peer, "base": ours})
    for key in page.CURVES:
        for x in (0, 10, 1000):
            yield Row(key, key, "ms", {OURS: ours}, x=x)


def test_candidates_take_turns_and_ratios_are_of_one_round(bench: Bench) -> None:
    order: list[str] = []
    steps: list[str] = []
    bench.step = steps.append
    bench.interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 2)  # type: ignore[misc]
    assert order == ["a", "b", "a", "b"]
    assert steps == [f"round {number} of 2: {name}" for number in (1, 2) for name in "ab"]
    values = iter((2.0, 1.0, 30.0, 10.0, 8.0, 4.0))
    found = bench.compare({"a": lambda: next(values), "b": lambda: next(values)}, 3)
    row = Row("key", "name", "µs", found)
    assert row.ratios["b"].values == (2.0, 3.0, 2.0)
    assert row.ratios["b"].median == 2.0
    assert str(found["a"]) == "8.00 (2.00–30.0)"
    shown = [number(one) for one in (0.0, 0.00512, 0.123, 45.67, 1234.5)]
    assert shown == ["0.00", "0.0051", "0.12", "45.7", "1,234"]


def test_the_results_are_written_and_read_again(tmp_path: Path) -> None:
    made = [replace(row, group="get") for row in rows()]
    page.write(tmp_path, made)
    assert page.read(tmp_path) == made
    table = (tmp_path / "table.md").read_text()
    figures = "11.0 (10.0–12.0) µs | libcoap: 5.00 (4.00–6.00) | 2.00 (2.00–2.75)"
    assert f"| <get-16-cpu> | {figures} | ≤ 3 × | yes |" in table
    assert "| ≤ 10 ms | no |" in table
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "costs-narrow.svg",
        "costs.svg",
        "growth-narrow.svg",
        "growth.svg",
        "results.json",
        "table.md",
    ]
    assert "base" not in table
    for name, shapes in (("costs", "rect"), ("growth", "polyline")):
        picture = ElementTree.fromstring((tmp_path / f"{name}.svg").read_text())
        assert len(picture.findall(f".//{{*}}{shapes}")) >= len(page.CURVES)


def test_a_partial_run_replaces_its_own_rows(tmp_path: Path) -> None:
    def row(key: str, group: str, value: float) -> Row:
        return Row(key, key, "s", {OURS: Series((value,))}, group=group)

    old = [row("a", "get", 1), row("gone", "get", 1), row("b", "client", 1), row("c", "other", 1)]
    merged = page.merged(old, [row("d", "client", 2), row("a", "get", 2)], list(GROUPS))
    assert merged == [row("a", "get", 2), row("d", "client", 2), row("c", "other", 1)]
    assert page.read(tmp_path) == []


def test_the_page_has_the_table_and_the_pictures_of_its_results() -> None:
    shown = page.read(page.FOLDER)
    text = page.PAGE.read_text(encoding="utf-8")
    assert "\n".join(page.results(shown, page.read_run(page.FOLDER))) in text
    for name in ("costs.svg", "costs-narrow.svg", "growth.svg", "growth-narrow.svg"):
        assert f'"performance/{name}"' in text
        assert (page.FOLDER / name).exists()
    assert {row.group for row in shown} == GROUPS.keys()
    assert {row.key for row in shown} >= {*page.SHOWN, *page.CURVES, *GOALS}
    for row in shown:
        goals = [goal for goal in GOALS.get(row.key, ()) if BASE not in goal.times]
        assert len(list(verdicts(row))) == len(goals), row.key
    assert json.loads((page.FOLDER / page.RESULTS).read_text(encoding="utf-8"))


def test_a_goal_bounds_a_figure_or_its_ratio_to_others() -> None:
    ours, peer, other = Series((9.0, 12.0, 30.0)), Series((4.0, 4.0, 5.0)), Series((2.0, 1.0, 1.0))
    cost = Row("cost", "", "µs", {OURS: ours, "libcoap": peer, TINYDTLS: other})
    for goal, wanted in (
        (most(12, "µs"), "yes"),
        (most(11.9, "µs"), "no"),
        (most(20, "µs", 12), "yes, both"),
        (most(20, "µs", 11), "yes"),
        (ratio(3, "libcoap"), "yes"),
        (ratio(2.9, "libcoap"), "no"),
        (Goal("", 9, {"libcoap": 0.5, TINYDTLS: 1}), "yes"),
        (Goal("", 8.9, {"libcoap": 0.5, TINYDTLS: 1}), "no"),
        (ratio(1, "nobody"), None),
    ):
        assert goal.verdict(cost) == wanted, goal
    rate = replace(cost, more_is_better=True)
    for goal, wanted in (
        (ratio(3, "libcoap", least=True), "yes"),
        (ratio(3.1, "libcoap", least=True), "no"),
        (ratio(2, "libcoap", 3, least=True), "yes, both"),
        (ratio(2, "libcoap", 3.1, least=True), "yes"),
    ):
        assert goal.verdict(rate) == wanted, goal
