"""Untrusted text is escaped in all output, and input that is nested too deep is rejected."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any, cast

import pytest

from device_app.access.records import RecordView
from device_app.console.control_server import ControlServer
from device_app.errors import ConfigError
from device_app.process import logs
from device_app.settings import config
from device_app.terminal import output
from device_app.terminal.render_events import event_line

UNSAFE = "\x7f\x9b31m\u202e\x1b[2J"
CONTROL_CHARACTERS = set("\x7f\x9b\u202e\x1b")


def test_json_output_contains_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    output.json_line({"user": f"küche{UNSAFE}"})
    out = capsys.readouterr().out
    assert "küche" in out
    assert not CONTROL_CHARACTERS & set(out)
    assert json.loads(out)["user"] == f"küche{UNSAFE}"


def test_errors_and_events_contain_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.error(f"no such user: {UNSAFE}", UNSAFE)
    event = cast(RecordView, {"seq": 1, "wall": 0.0, "kind": f"paired{UNSAFE}", "user": UNSAFE})
    shown = capsys.readouterr().err + event_line(event)
    assert not CONTROL_CHARACTERS & set(shown)
    assert "\\x9b31m" in shown


def test_the_log_contains_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.set_up(0)
        logging.getLogger("peer").warning("a client calls itself %s", UNSAFE)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    output = capsys.readouterr().err
    assert "calls itself \\x7f\\x9b31m" in output
    assert not CONTROL_CHARACTERS & set(output)


def test_settings_that_are_nested_too_deep_are_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / "device.toml"
    file.write_text("name = " + "[\n" * 20_000 + "]\n" * 20_000)
    with pytest.raises(ConfigError, match="nested too deep"):
        config.load([file])


async def test_a_request_that_is_nested_too_deep_is_answered_with_an_error(tmp_path: Path) -> None:
    async def never(_args: object, _tell: object) -> Any:
        raise AssertionError

    path = tmp_path / "control.sock"
    server = await ControlServer.start(path, {"status": never})
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b'{"verb": "status", "args": ' + b"[" * 30_000 + b"]" * 30_000 + b"}\n")
        async with asyncio.timeout(60):
            answer = json.loads(await reader.readline())
        writer.close()
    finally:
        await server.close()
    assert (answer["ok"], answer["exit"]) == (False, 2)
