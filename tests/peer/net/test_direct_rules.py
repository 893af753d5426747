"""Requests that the direct path must leave to aiocoap, rule by rule."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from peer.limits import DEFAULT_LIMITS
from peer.net.direct import WriteHandler
from peer.net.plain import Answer, Done, PlainParser, Write
from peer.net.remote import PeerIdentity
from tests.kit.encoded import (
    ACCEPT,
    ACK,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    ETAG,
    GET,
    NON,
    OBSERVE,
    PUT,
    RST,
    URI_PATH,
    URI_QUERY,
    encoded,
    sent_as,
)
from tests.kit.internals import count_direct_answers
from tests.kit.raw_client import RawClient
from tests.kit.waiting import until

HELLO = encoded(GET, path="hello")
NOT_PLAIN = {
    "a body": encoded(GET, path="hello", payload=b"body"),
    "a body without options": encoded(GET, payload=b"body"),
    "a payload marker alone": HELLO + b"\xff",
    "Accept twice": encoded(GET, (ACCEPT, b""), (ACCEPT, b"\x3c"), path="hello"),
    "Accept in three bytes": encoded(GET, (ACCEPT, bytes(3)), path="hello"),
    "Observe": encoded(GET, (OBSERVE, b""), path="hello"),
    "a block": encoded(GET, (BLOCK2, b"\x06"), path="hello"),
    "an ETag": encoded(GET, (ETAG, b"x"), path="hello"),
    "a format": encoded(GET, (CONTENT_FORMAT, b""), path="hello"),
    "a critical option": encoded(GET, (65001, b""), path="hello"),
    "an elective option": encoded(GET, (65000, b""), path="hello"),
    "a path that is not UTF-8": encoded(GET, (URI_PATH, b"\xff")),
    "a query that is not UTF-8": encoded(GET, (URI_QUERY, b"\xff"), path="hello"),
    "a segment of 256 bytes": encoded(GET, (URI_PATH, bytes(256))),
    "a token of nine bytes": encoded(GET, path="hello", token=bytes(9)),
    "an option that is cut": HELLO[:-1],
    "an acknowledgement": sent_as(HELLO, ACK, 1),
    "a reset": sent_as(HELLO, RST, 1),
    "another version": bytes((HELLO[0] ^ 0xC0,)) + HELLO[1:],
    "another method": encoded(2, path="hello"),
    "a response": encoded(Code.CONTENT, path="hello"),
    "three bytes": HELLO[:3],
    "nothing": b"",
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_a_message_is_not_plain(name: str) -> None:
    assert PlainParser(DEFAULT_LIMITS).parse_untrusted(HELLO) is not None
    assert PlainParser(DEFAULT_LIMITS).parse_untrusted(NOT_PLAIN[name]) is None


def test_a_message_above_a_limit_is_not_plain() -> None:
    long = encoded(GET, *[(URI_QUERY, b"x")] * 5, path="hello")
    for name in ("message_bytes", "message_option_bytes", "message_options"):
        size = 6 if name == "message_options" else len(long) - (0 if "option" not in name else 4)
        fits, exceeds = (replace(DEFAULT_LIMITS, **{name: one}) for one in (size, size - 1))
        assert PlainParser(fits).parse_untrusted(long) is not None, name
        assert PlainParser(exceeds).parse_untrusted(long) is None, name


class Hello(Resource):
    """A plain resource."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def answer(self, _query: tuple[str, ...], _sender: PeerIdentity, /) -> Answer:
        return Answer(b"hello", 0)

    def plain_writes(self) -> Mapping[str, WriteHandler]:
        return {"PUT": self._put}

    def _put(self, _write: Write, _sender: PeerIdentity) -> Done:
        self.written += 1
        return Done.CHANGED

    async def render_put(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.written += 1
        return aiocoap.Message(code=Code.CHANGED)


@pytest.mark.parametrize("kind", [CON, NON])
async def test_the_token_of_a_running_request_is_left_to_aiocoap(serve: Any, kind: int) -> None:
    """Also if no acknowledgement of that one is outstanding, which would show that it runs."""
    served = await serve(admit=lambda *_: True, more={("hello",): Hello()})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    raw.send(sent_as(encoded(GET, path="late", token=b"t"), kind, 1))
    await until(lambda: served.late.asked)
    if kind == CON:
        await raw.until(1)  # the empty acknowledgement
    raw.send(sent_as(encoded(GET, path="hello", token=b"t"), NON, 2))
    await until(lambda: any(one.code is Code.NOT_FOUND or one.payload for one in raw.received))
    assert answers == []
    raw.send(sent_as(encoded(GET, path="hello", token=b"u"), NON, 3))
    await until(lambda: answers)
    served.late.due.set()
    await raw.close()


async def test_a_change_does_not_overtake_a_request_under_way(serve: Any) -> None:
    """aiocoap's path may have an earlier change, which waits; a GET changes nothing."""
    hello = Hello()
    served = await serve(admit=lambda *_: True, more={("hello",): hello})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    put = encoded(PUT, path="hello", payload=b"on")
    raw.send(sent_as(put, CON, 1))
    await raw.until(1)
    assert (len(answers), hello.written) == (1, 1)
    raw.send(sent_as(encoded(GET, path="late", token=b"t"), NON, 2))
    await until(lambda: served.late.asked)
    raw.send(sent_as(put, CON, 3))
    raw.send(sent_as(HELLO, CON, 4))
    await raw.until(3)
    assert {one.code for one in raw.received} == {Code.CHANGED, Code.CONTENT}
    assert (len(answers), hello.written) == (2, 2)
    served.late.due.set()
    await raw.close()
