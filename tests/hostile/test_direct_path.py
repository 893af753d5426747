"""A user floods the direct path, which answers without aiocoap: the same bounds hold there.

The other floods are sent by unknown keys, whose requests all take aiocoap's path.
"""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from peer.limits import ENCODED_ANSWERS, PARSED_OPTIONS
from peer.net.address import Address
from tests.kit.coap_numbers import forget_all_but, known_numbers
from tests.kit.encoded import ACCEPT, GET, NON, URI_QUERY, encoded, sent_as
from tests.kit.floods import HOST
from tests.kit.internals import count_direct_answers, direct_of, remotes_of
from tests.kit.raw_client import RawClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.kit.device import Caller, Device

REQUESTS = 3_000
AT_ONCE = 20
#: Memory that a session of the test's own client keeps and the process allocates once.
SLACK_BYTES = 2**21


@pytest.fixture
async def raw(device: Device, guest: Caller) -> AsyncIterator[RawClient]:
    """A session of a guest."""
    made = await RawClient.connect(Address(HOST, device.port(pairing=False)), guest.identity)
    yield made
    await made.close()


async def flood(raw: RawClient, messages: Iterator[bytes]) -> int:
    """Send messages, some at a time; return how many answers came."""
    answers = 0
    for number, one in enumerate(messages, start=1):
        raw.send(one)
        if number % AT_ONCE == 0:
            await raw.handled()
            answers += len(raw.received)
            raw.received.clear()
            raw.encoded.clear()
    return answers


async def test_what_a_user_makes_the_device_remember_is_bounded(
    device: Device, raw: RawClient
) -> None:
    """Each request is another one: its Message ID, its token and its query, short or long."""
    direct = direct_of(device.app.server)
    queries = (b"%06d" % number * (40 if number % 2 else 15) for number in range(REQUESTS))
    asked = (encoded(GET, (URI_QUERY, query), path="hello", token=query[:6]) for query in queries)
    messages = [sent_as(one, 0, number) for number, one in enumerate(asked)]
    await flood(raw, iter(messages[:200]))
    counted = count_direct_answers(device.app.server)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        assert await flood(raw, iter(messages[200:])) == REQUESTS - 200 == len(counted)
        counted.clear()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    most = device.app.settings.limits.dedup_bytes
    [remote] = remotes_of(device.app.server)
    assert 0 < remote.recent.held_bytes <= most
    assert len(remote.recent) < REQUESTS
    assert 0 < len(direct.parser) <= PARSED_OPTIONS
    assert 0 < len(direct.encoder) <= ENCODED_ANSWERS
    assert held < most + SLACK_BYTES


async def test_content_formats_of_plain_requests_are_not_cached(
    device: Device, raw: RawClient
) -> None:
    """A plain request may have any Accept; aiocoap would store each one without limit."""
    before = known_numbers()
    messages = [
        sent_as(encoded(GET, (ACCEPT, (20_000 + number).to_bytes(2)), path="hello"), NON, number)
        for number in range(400)
    ]
    forget_all_but(before)
    await flood(raw, iter(messages))
    assert known_numbers() == before
    assert len(direct_of(device.app.server).parser) >= PARSED_OPTIONS / 2, "they were plain"


@pytest.mark.parametrize("different", [1, 40])
async def test_a_reused_message_id_gets_the_answer_to_its_own_request(
    device: Device, raw: RawClient, different: int
) -> None:
    counted = count_direct_answers(device.app.server)
    for number in range(200):
        path = ("hello", "iam/me")[number % 2]
        token = number.to_bytes(2)
        raw.received.clear()
        raw.send(sent_as(encoded(GET, path=path, token=token), 0, 5_000 + number % different))
        [answer] = await raw.until(1)
        assert (answer.token, answer.opt.content_format) == (token, 0 if path == "hello" else 60)
    assert len(counted) == 200
