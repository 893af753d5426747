"""An unknown key has a session, and tries everything (protocol §2).

It learns one thing: that it is not paired. Not what there is, not who there is, not what is wrong
with its body, for that would tell that something reads it.
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
UNNAMED = [8, 17, 31]  # request codes that no RFC has given a meaning
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
    "/pair",
    "/pair/0123",
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
    stranger = kit.caller(device)
    expected = await stranger.ask("GET", "/unlikely")
    assert (expected.code, expected.reason) == ("4.03", "not-paired")
    assert "handfast pair" in expected.text
    every: list[str | int] = [*METHODS, *UNNAMED]
    for method in every:
        for path in (*KNOWN, *UNKNOWN):
            answer = await stranger.ask(method, path)
            seen = (answer.code, answer.payload, answer.message.opt.encode())
            wanted = (expected.code, expected.payload, expected.message.opt.encode())
            assert seen == wanted, (method, path)


async def test_the_one_thing_a_stranger_may_read_lists_nothing(
    kit: Kit, device: Device, owner: Caller
) -> None:
    stranger = kit.caller(device)
    core = "/.well-known/core"
    for path in (core, core + "/", core + "?rt=handfast.*", core + "?href=/iam/users"):
        answer = await stranger.ask("GET", path)
        assert (answer.code, answer.payload) == ("2.05", b""), path
    for method in METHODS[1:]:
        assert (await stranger.ask(method, core)).code in {"4.03", "4.05"}
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
async def test_what_it_sends_along_changes_nothing(
    kit: Kit, device: Device, body: dict[str, object]
) -> None:
    stranger = kit.caller(device)
    expected = await stranger.ask("POST", "/unlikely")
    for path in ("/hello", "/board", "/iam/users", "/unlikely"):
        for method in ("GET", "POST", "PUT"):
            answer = await stranger.ask(method, path, **body)  # type: ignore[arg-type]
            assert (answer.code, answer.payload) == (expected.code, expected.payload), (
                method,
                path,
            )
    assert partial_transfers() == 0, "half a body of a stranger is kept, or an answer for it"


async def test_an_unknown_critical_option_is_refused_alike_everywhere(
    kit: Kit, device: Device, owner: Caller
) -> None:
    stranger = kit.caller(device)
    for number in (9, 29, 2049, 65001):
        answers = [
            await caller.ask("GET", path, options={number: b"x"})
            for caller in (stranger, owner)
            for path in ("/hello", "/unlikely", "/iam/users")
        ]
        assert {(one.code, one.payload) for one in answers} == {("4.02", answers[0].payload)}
        assert str(number) in answers[0].text


async def test_strange_coap_below_the_requests_harms_nobody(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """Messages of every type and code, fit or not; and bytes that are none."""
    stranger = kit.caller(device)
    codes = (*range(0, 256, 3), 0, 1, 69, 132, 225, 226, 255)
    numbers = itertools.count()
    strange = [
        bytes([0x42 | kind << 4, code]) + next(numbers).to_bytes(2) * 2
        for kind in range(4)
        for code in codes
    ]
    strange += [
        bytes([0x40 | length, 1]) + next(numbers).to_bytes(2) + bytes([length] * length)
        for length in range(16)
    ]
    tails = (b"\xbd", b"\xbe\x00", b"\xf0", b"\xb2\xff\xfe", b"\xb1\xff", b"\x11\x01\xd1")
    strange += [b"\x42\x01" + next(numbers).to_bytes(2) * 2 + tail for tail in tails]
    for at in range(0, len(strange), 30):
        association = association_of(await stranger.connect())
        for message in strange[at : at + 30]:
            association.send(message)
        assert (await stranger.ask("GET", "/hello")).code == "4.03"
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert device.counters()["coap-malformed"] >= len(tails)
    assert "coap-dispatch-failed" not in device.counters()


async def test_a_strangers_endless_observations_and_requests_are_bounded(
    kit: Kit, device: Device, owner: Caller
) -> None:
    stranger = kit.caller(device)
    connection = await stranger.connect()
    association = association_of(connection)
    for number in range(200):
        association.send(b"\x52\x01" + number.to_bytes(2) * 2 + b"\x60\x55board")
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert (await stranger.ask("GET", "/board")).code == "4.03"
    board: Any = device.app.site.paths()["board",]
    assert not board.is_ticking
    assert not incoming_requests(device.app.server)


async def test_after_all_that_nothing_of_the_stranger_is_left(kit: Kit, device: Device) -> None:
    stranger = kit.caller(device)
    await stranger.ask("POST", "/iam/users", raw=b"x" * 1024, block1=(0, True, 6))
    before = asyncio.all_tasks()
    await stranger.close()
    await device.until(lambda: not device.sessions("regular"))
    await device.until(lambda: not asyncio.all_tasks() - before)
    layer = layer_of(device.app.server)
    assert not layer.remotes
    assert not unacknowledged(device.app.server)
    assert not backlogs_of(device.app.server)
