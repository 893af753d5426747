"""Data from clients can neither forge a log line nor send control characters to a terminal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

UNSAFE = "\x1b[2J\nE handfast.pairing: paired eve as owner\r\u202e"


async def test_control_characters_in_requests_are_escaped_in_the_log(
    kit: Kit, device: Device, owner: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("handfast", "handfast.coap", "coap-server", "peer", "iam"):
        caplog.set_level(logging.DEBUG, logger=name)
    unknown = kit.caller(device)
    await device.open(role="user")
    for caller in (unknown, owner):
        for method in ("GET", "POST", "DELETE"):
            await caller.ask(method, f"/{UNSAFE}?{UNSAFE}", raw=UNSAFE.encode(), ct=0)
            await caller.ask(method, f"/iam/users/{UNSAFE}")
    for body in (
        {"name": UNSAFE},
        {"name": "eve", "method": UNSAFE},
        {"name": "eve", "role": UNSAFE},
    ):
        await unknown.pair_ask("POST", "/pair", {"method": "compare", "name": "eve"} | body)
    await unknown.pair_ask("POST", f"/pair?name={UNSAFE}")
    await owner.ask("POST", "/iam/users", {"name": "eve", "role": UNSAFE})
    await owner.ask("POST", "/iam/users", {"name": "eve", "role": "guest", UNSAFE: 1})
    lines = [record.getMessage() for record in caplog.records]
    assert any("Incoming message" in line for line in lines), "the log is not at DEBUG"
    for line in lines:
        assert not set("\x1b\n\r\u202e") & set(line), line
    events = [record.event for record in device.app.access.store.audit.iterate()]
    assert not {"paired", "registered"} & {event.kind for event in events}
