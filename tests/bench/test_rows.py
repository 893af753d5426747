"""Each group of `make bench` works, with very few operations; nothing is said about speed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

import pytest

from tests.bench import instructions, page
from tests.bench.__main__ import GENERATOR, GROUPS
from tests.bench.harness import OURS, Bench, Row, Series, compare, interleaved, number
from tests.bench.programs import generate, libcoap, load

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBCOAP: Final = ("coap-server-openssl", "coap-client-openssl")
#: Groups with a test of their own, and one whose programs `make test` does not install.
OTHER_TESTS: Final = {"get", "instructions", "arm"}
needs_generator = pytest.mark.needs_tool(GENERATOR, *LIBCOAP)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Path(shutil.which(GENERATOR) or ""), rounds=1, share=0.0001)


@needs_generator
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GROUPS if name not in OTHER_TESTS])
def test_a_group_measures_something(name: str, bench: Bench) -> None:
    GROUPS[name].measure(bench)
    assert bench.rows
    assert all(series.values for row in bench.rows for series in row.figures.values())


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


def test_candidates_take_turns_and_ratios_are_of_one_round() -> None:
    order: list[str] = []
    interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 2)  # type: ignore[misc]
    assert order == ["a", "b", "a", "b"]
    values = iter((2.0, 1.0, 30.0, 10.0, 8.0, 4.0))
    found = compare({"a": lambda: next(values), "b": lambda: next(values)}, 3)
    row = Row("key", "name", "µs", found)
    assert row.ratios["b"].values == (2.0, 3.0, 2.0)
    assert row.ratios["b"].median == 2.0
    assert str(found["a"]) == "8.00 (2.00–30.0)"
    assert [number(one) for one in (0.123, 45.67, 1234.5)] == ["0.12", "45.7", "1,234"]


def test_the_results_are_written_and_read_again(tmp_path: Path) -> None:
    made = list(rows())
    page.write(tmp_path, made)
    assert page.read(tmp_path) == made
    table = (tmp_path / "table.md").read_text()
    assert "| <get-16-cpu> | 11.0 (10.0–12.0) µs | libcoap: 5.00 (4.00–6.00) | 2.00 |" in table
    assert "base" not in table
    for name, shapes in (("costs", "rect"), ("growth", "polyline")):
        picture = ElementTree.fromstring((tmp_path / f"{name}.svg").read_text())
        assert len(picture.findall(f".//{{*}}{shapes}")) >= len(page.CURVES)


def test_a_partial_run_replaces_its_own_rows(tmp_path: Path) -> None:
    one, other = Series((1.0,)), Series((2.0,))
    old = [Row("a", "a", "s", {OURS: one}), Row("b", "b", "s", {OURS: one})]
    merged = page.merged(old, [Row("a", "a", "s", {OURS: other}), Row("c", "c", "s", {OURS: one})])
    assert [(row.key, row.figures[OURS]) for row in merged] == [
        ("a", other),
        ("b", one),
        ("c", one),
    ]
    assert page.read(tmp_path) == []


def test_the_page_has_the_table_and_the_pictures_of_its_results() -> None:
    shown = page.read(page.FOLDER)
    text = page.PAGE.read_text(encoding="utf-8")
    assert "\n".join(page.table(shown)) in text
    for name in ("costs.svg", "growth.svg"):
        assert f"(performance/{name})" in text
        assert (page.FOLDER / name).exists()
    assert {row.key for row in shown} >= {*page.SHOWN, *page.CURVES}
    assert json.loads((page.FOLDER / page.RESULTS).read_text(encoding="utf-8"))
