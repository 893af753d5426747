"""An unknown key with a session sends all kinds of requests (protocol §2).

Every answer says only that the key is not paired, except that /pair says where pairing is. It
reveals neither resources nor users nor errors in the body, because an error would show that a
resource exists and parses it.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.internals import (
    association_of,
    backlogs_of,
    incoming_requests,
    layer_of,
    partial_transfers,
    unacknowledged,
)

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit


METHODS = ["GET", "POST", "PUT", "DELETE", "FETCH", "PATCH", "iPATCH"]
UNNAMED = [8, 17, 31]  # request codes that no RFC defines
KNOWN = [
    "/hello",
    "/board",
    "/board/load",
    "/iam/me",
    "/iam/users",
    "/iam/users/olga",
    f"/iam/users/olga/keys/{'ab' * 32}",
    "/iam/roles",
    "/iam/policies",
]
UNKNOWN = [
    "/",
    "/pairs",
    "/events",
    "/iam",
    "/iam/users/",
    "/iam/users/nobody",
    "/iam/users/olga/keys",
    "/iam/users/olga/keys/x/y",
    "/hello/../iam/me",
    "/HELLO",
    "/hello\x00",
    "//hello",
    "/.well-known",
    "/.well-known/core/x",
    "/" + "/".join("a" * 40 for _ in range(20)),
    "/\u202ecimda",
]


async def test_every_method_on_every_path_gets_the_same_refusal(
    kit: Kit, device: Device, owner: Caller
) -> None:
    assert owner.fingerprint in device.users.user_name_by_key
    unknown = kit.caller(device)
    expected = await unknown.ask("GET", "/unlikely")
    assert (expected.code, expected.reason) == ("4.03", "not-paired")
    assert "handfast pair" in expected.text
    every: list[str | int] = [*METHODS, *UNNAMED]
    for method in every:
        for path in (*KNOWN, *UNKNOWN):
            answer = await unknown.ask(method, path)
            seen = (answer.code, answer.payload, answer.message.opt.encode())
            wanted = (expected.code, expected.payload, expected.message.opt.encode())
            assert seen == wanted, (method, path)


async def test_the_core_link_list_is_empty_for_an_unknown_key(
    kit: Kit, device: Device, owner: Caller
) -> None:
    unknown = kit.caller(device)
    core = "/.well-known/core"
    for path in (core, core + "/", core + "?rt=handfast.*", core + "?href=/iam/users"):
        answer = await unknown.ask("GET", path)
        assert (answer.code, answer.payload) == ("2.05", b""), path
    for method in METHODS[1:]:
        assert (await unknown.ask(method, core)).code in {"4.03", "4.05"}
    assert (await owner.ask("GET", core)).payload


@pytest.mark.parametrize(
    "body",
    [
        {"raw": b"\xa0"},
        {"raw": b"\xff" * 50},
        {"raw": b"\x81" * 1000 + b"\x00"},
        {"raw": b"plain", "ct": 0},
        {"raw": b"plain", "ct": 65000},
        {"raw": b"x", "ct": None},
        {"raw": b"", "size1": 2**31},
        {"raw": bytes(70_000)},
        {"raw": b"x" * 1024, "block1": (0, True, 6)},
        {"raw": b"x" * 1024, "block1": (50, True, 6)},
        {"body": None, "block2": (7, False, 6)},
        {"body": None, "accept": 65000},
        {"body": None, "observe": 0},
        {"body": None, "uri_query": ["a" * 200] * 4},
        {"body": None, "options": {60: b"\xff\xff\xff\xff", 14: b"\x01", 65000: b"elective"}},
    ],
)
async def test_the_answer_does_not_depend_on_body_or_options(
    kit: Kit, device: Device, body: dict[str, object]
) -> None:
    unknown = kit.caller(device)
    expected = await unknown.ask("POST", "/unlikely")
    for path in ("/hello", "/board", "/iam/users", "/unlikely"):
        for method in ("GET", "POST", "PUT"):
            answer = await unknown.ask(method, path, **body)  # type: ignore[arg-type]
            assert (answer.code, answer.payload) == (expected.code, expected.payload), (
                method,
                path,
            )
    assert partial_transfers() == 0, (
        "an incomplete body of an unknown key, or an answer for it, is stored"
    )


async def test_an_unknown_critical_option_gets_the_same_refusal_everywhere(
    kit: Kit, device: Device, owner: Caller
) -> None:
    unknown = kit.caller(device)
    for number in (9, 29, 2049, 65001):
        answers = [
            await caller.ask("GET", path, options={number: b"x"})
            for caller in (unknown, owner)
            for path in ("/hello", "/unlikely", "/iam/users")
        ]
        assert {(one.code, one.payload) for one in answers} == {("4.02", answers[0].payload)}
        assert str(number) in answers[0].text


async def test_malformed_coap_messages_affect_no_session(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """Valid and invalid messages of every type and many codes, and bytes that are no message."""
    unknown = kit.caller(device)
    codes = (*range(0, 256, 3), 0, 1, 69, 132, 225, 226, 255)
    numbers = itertools.count()
    messages = [
        bytes([0x42 | kind << 4, code]) + next(numbers).to_bytes(2) * 2
        for kind in range(4)
        for code in codes
    ]
    messages += [
        bytes([0x40 | length, 1]) + next(numbers).to_bytes(2) + bytes([length] * length)
        for length in range(16)
    ]
    tails = (b"\xbd", b"\xbe\x00", b"\xf0", b"\xb2\xff\xfe", b"\xb1\xff", b"\x11\x01\xd1")
    messages += [b"\x42\x01" + next(numbers).to_bytes(2) * 2 + tail for tail in tails]
    for at in range(0, len(messages), 30):
        association = association_of(await unknown.connect())
        for message in messages[at : at + 30]:
            association.send(message)
        assert (await unknown.ask("GET", "/hello")).code == "4.03"
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert device.counters()["coap-malformed"] >= len(tails)
    assert "coap-dispatch-failed" not in device.counters()


async def test_observations_of_an_unknown_key_store_nothing(
    kit: Kit, device: Device, owner: Caller
) -> None:
    unknown = kit.caller(device)
    connection = await unknown.connect()
    association = association_of(connection)
    for number in range(200):
        association.send(b"\x52\x01" + number.to_bytes(2) * 2 + b"\x60\x55board")
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert (await unknown.ask("GET", "/board")).code == "4.03"
    board: Any = device.app.site.paths()["board",]
    assert not board.is_ticking
    assert not incoming_requests(device.app.server)


async def test_closing_the_session_of_an_unknown_key_leaves_no_state(
    kit: Kit, device: Device
) -> None:
    unknown = kit.caller(device)
    await unknown.ask("POST", "/iam/users", raw=b"x" * 1024, block1=(0, True, 6))
    before = asyncio.all_tasks()
    await unknown.close()
    await device.until(lambda: not device.sessions("regular"))
    await device.until(lambda: not asyncio.all_tasks() - before)
    layer = layer_of(device.app.server)
    assert not layer.remotes
    assert not unacknowledged(device.app.server)
    assert not backlogs_of(device.app.server)
