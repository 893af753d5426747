"""Answers of the control socket that are longer than the limit of one line."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from device_app.console.control_client import call
from device_app.console.control_server import ControlServer
from device_app.limits import CONTROL_ROWS_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

LONG = [{"name": f"user-{number:05}", "keys": ["ab" * 32]} for number in range(5_000)]
ENVELOPE = 200  # bytes of a line around its rows


async def answers(_args: object, _tell: object) -> Mapping[str, object]:
    return {"head": 7, "users": (row for row in LONG), "others": LONG[:1], "none": []}


async def one_long_row(_args: object, _tell: object) -> Mapping[str, object]:
    return {"users": ["x" * (3 * CONTROL_ROWS_BYTES), "y"]}


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "control.sock"
    server = await ControlServer.start(path, {"long": answers, "row": one_long_row})
    yield path
    await server.close()


async def lines_of(path: Path, verb: str) -> list[bytes]:
    """The lines that the daemon sends."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=2**24)
    writer.write(json.dumps({"verb": verb}).encode() + b"\n")
    lines = []
    async with asyncio.timeout(60):
        while b'"ok"' not in (line := await reader.readline()):
            lines.append(line)
    writer.close()
    return [*lines, line]


async def test_a_long_list_is_complete_and_sent_in_short_lines(path: Path) -> None:
    assert await call(path, "long", {}) == {
        "head": 7,
        "users": LONG,
        "others": LONG[:1],
        "none": [],
    }
    lines = await lines_of(path, "long")
    assert len(lines) > 3
    assert all(len(line) < CONTROL_ROWS_BYTES + ENVELOPE for line in lines)


async def test_a_row_above_the_line_limit_is_sent_in_a_line_of_its_own(path: Path) -> None:
    assert (await call(path, "row", {}))["users"] == ["x" * (3 * CONTROL_ROWS_BYTES), "y"]
    assert len(await lines_of(path, "row")) == 2
