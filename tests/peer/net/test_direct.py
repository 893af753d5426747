"""The direct path inside a server: what it leaves to aiocoap, and what it remembers."""

from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.resources.plain_resource import PlainWrites
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.plain import Answer, Done, Write
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity
from tests.kit.encoded import CON, GET, NON, PUT, encoded, sent_as
from tests.kit.internals import (
    count_direct_answers,
    direct_of,
    incoming_requests,
    remotes_of,
    site_of,
)
from tests.kit.raw_client import RawClient
from tests.kit.waiting import until

HELLO = encoded(GET, path="hello")


class Hello(Resource):
    """A plain resource that counts its calls. `size` is that of its answer."""

    def __init__(self, size: int = 5) -> None:
        super().__init__()
        self.size = size
        self.calls = 0

    def answer(self, _query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        self.calls += 1
        return Answer(b"x" * self.size, 0)

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.calls += 1
        return aiocoap.Message(payload=b"x" * self.size, content_format=0, max_age=0)


def admit(_peer: PeerIdentity, _path: tuple[str, ...], _method: str) -> bool:
    return True


@pytest.mark.parametrize("kind", [CON, NON])
async def test_a_plain_request_makes_no_task_and_leaves_nothing_but_its_repeat(
    serve: Any, kind: int
) -> None:
    hello = Hello()
    served = await serve(admit=admit, more={("hello",): hello})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    for _ in range(3):
        raw.send(sent_as(HELLO, kind, 7))
    await raw.handled()
    assert [one.payload for one in raw.received] == [b"x" * 5] * (3 if kind == CON else 1)
    assert (hello.calls, len(answers)) == (1, 1)
    [remote] = remotes_of(served.server)
    assert (len(remote.recent), len(incoming_requests(served.server))) == (1, 0)
    await raw.close()


async def test_a_request_with_the_token_of_a_running_one_is_left_to_aiocoap(serve: Any) -> None:
    served = await serve(admit=admit, more={("hello",): Hello()})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    raw.send(sent_as(encoded(GET, path="late", token=b"t"), CON, 1))
    await until(lambda: served.late.asked)
    raw.send(sent_as(encoded(GET, path="hello", token=b"t"), CON, 2))
    # The earlier one is acknowledged, and ends; only the later one gets a response.
    found = {one.mid: one for one in await raw.until(2)}
    assert (found[1].code, found[2].payload, answers) == (Code.EMPTY, b"x" * 5, [])
    served.late.due.set()
    await raw.handled()
    assert len(raw.received) == 2
    await raw.close()


async def test_a_session_with_all_its_requests_under_way_is_refused(serve: Any) -> None:
    limits = Limits(requests_per_session=2)
    served = await serve(admit=admit, limits=limits, more={("hello",): Hello()})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    for number in (1, 2):
        raw.send(sent_as(encoded(GET, path="late", token=bytes([number])), NON, number))
    await until(lambda: served.late.asked == 2)
    raw.send(sent_as(HELLO, CON, 3))
    [answer] = await raw.until(1)
    assert (answer.code.dotted, answers) == ("4.29", [])
    await raw.close()


async def test_a_refused_session_gets_no_direct_answer(serve: Any) -> None:
    served = await serve(admit=admit, more={("hello",): Hello()})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    remotes_of(served.server)[0].association.is_refused = True
    raw.send(sent_as(HELLO, CON, 1))
    [answer] = await raw.until(1)
    assert (answer.code.dotted, answers) == ("4.29", [])
    await raw.close()


async def test_only_the_guard_refuses(serve: Any) -> None:
    """`admit` says no without a reason; `authorise` decides then."""
    asked: list[str] = []
    served = await serve(
        admit=lambda *_: False,
        authorise=lambda *_: asked.append("authorise"),
        more={("hello",): Hello()},
    )
    raw = await RawClient.connect(served.address)
    raw.send(sent_as(HELLO, CON, 1))
    [answer] = await raw.until(1)
    assert (answer.payload, asked) == (b"x" * 5, ["authorise"])
    await raw.close()


async def test_an_answer_in_blocks_is_tried_once_in_a_session(serve: Any) -> None:
    hello = Hello(size=3000)
    served = await serve(admit=admit, more={("hello",): hello})
    raw = await RawClient.connect(served.address)
    for number in range(1, 4):
        raw.send(sent_as(HELLO, CON, number))
        await raw.until(number)
    assert hello.calls == 4, "the first request calls the handler twice"
    assert {len(one.payload) for one in raw.received} == {1024}
    assert remotes_of(served.server)[0].in_blocks == {("hello",)}
    await raw.close()


async def test_a_datagram_that_is_not_authentic_is_not_remembered(serve: Any) -> None:
    served = await serve(admit=admit, more={("hello",): Hello()})
    raw = await RawClient.connect(served.address)
    [remote] = remotes_of(served.server)
    parser = direct_of(served.server).parser
    raw.send(sent_as(HELLO, CON, 1))
    await raw.until(1)
    await raw.handled()
    before = (len(parser), len(remote.recent), remote.recent.held_bytes)
    forge = sent_as(encoded(GET, path="hello", token=b"forged"), CON, 2)
    record = b"\x17\xfe\xfd\x00\x01\x00\x00\x00\x00\xff\xff" + len(forge).to_bytes(2) + forge
    raw.send_datagram(record)
    await until(lambda: served.count("dtls-replayed-or-forged"))
    assert (len(parser), len(remote.recent), remote.recent.held_bytes) == before
    await raw.close()


class Switch(PlainWrites):
    """Takes plain writes, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.payloads: list[bytes] = []

    def answer_put(self, write: Write, _sender: PeerIdentity, /) -> Done:
        self.payloads.append(write.payload)
        return Done.CHANGED


@pytest.mark.parametrize("kind", [CON, NON])
async def test_a_plain_write_makes_no_task_and_leaves_nothing_but_its_repeat(
    serve: Any, kind: int
) -> None:
    switch = Switch()
    served = await serve(admit=admit, more={("switch",): switch})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    for _ in range(3):
        raw.send(sent_as(encoded(PUT, path="switch", payload=b"on"), kind, 7))
    await raw.handled()
    assert [one.code for one in raw.received] == [Code.CHANGED] * (3 if kind == CON else 1)
    assert (switch.payloads, len(answers)) == ([b"on"], 1)
    [remote] = remotes_of(served.server)
    assert (len(remote.recent), len(incoming_requests(served.server))) == (1, 0)
    await raw.close()


async def test_a_body_beyond_the_limit_is_refused_before_its_handler(serve: Any) -> None:
    switch = Switch()
    served = await serve(
        admit=admit, more={("switch",): switch}, limits=Limits(request_body_bytes=10)
    )
    raw = await RawClient.connect(served.address)
    for number in (10, 11):
        raw.send(sent_as(encoded(PUT, path="switch", payload=bytes(number)), CON, number))
        await raw.until(number - 9)
    assert [one.code.dotted for one in raw.received] == ["2.04", "4.13"]
    assert switch.payloads == [bytes(10)]
    await raw.close()


async def test_a_write_is_left_to_the_guard_and_made_once(serve: Any) -> None:
    """`admit` says no without a reason, and `authorise` refuses: the handler is not called."""
    switch = Switch()

    def refuse(*_args: object) -> None:
        raise ProblemError("denied", "no", "no")

    served = await serve(admit=lambda *_: False, authorise=refuse, more={("switch",): switch})
    raw = await RawClient.connect(served.address)
    raw.send(sent_as(encoded(PUT, path="switch", payload=b"on"), CON, 1))
    [answer] = await raw.until(1)
    assert (answer.code, switch.payloads) == (Code.FORBIDDEN, [])
    await raw.close()


async def test_a_resource_that_is_removed_takes_no_plain_writes(serve: Any) -> None:
    switch = Switch()
    served = await serve(admit=admit, more={("switch",): switch})
    raw = await RawClient.connect(served.address)
    site_of(served.server).remove(("switch",))
    raw.send(sent_as(encoded(PUT, path="switch", payload=b"on"), CON, 1))
    [answer] = await raw.until(1)
    assert (answer.code, switch.payloads) == (Code.NOT_FOUND, [])
    await raw.close()


async def test_a_site_without_a_guard_for_both_paths_has_no_direct_path(serve: Any) -> None:
    hello = Hello()
    served = await serve(more={("hello",): hello}, limits=DEFAULT_LIMITS)
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    raw.send(sent_as(HELLO, CON, 1))
    await raw.until(1)
    assert (hello.calls, answers) == (1, [])
    await raw.close()
