"""Later blocks of a stored representation: as aiocoap would send them, and as the guard allows."""

import asyncio
from typing import Any

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import ACK
from aiocoap.resource import Resource
from hypothesis import assume, given
from hypothesis import strategies as st

from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.aiocoap_seam.response_blocks import ResponseBlocks
from peer.net.problem import ProblemError
from peer.net.stored_block import LaterBlock
from tests.kit.encoded import (
    ACCEPT,
    BLOCK2,
    CON,
    GET,
    NON,
    OBSERVE,
    SIZE2,
    URI_PATH,
    URI_PORT,
    URI_QUERY,
    block,
    encoded,
    sent_as,
    uint,
)
from tests.kit.internals import bodies_in_bytes, count_direct_answers, remotes_of, store_response
from tests.kit.raw_client import RawClient
from tests.kit.serve import admit_all

SIZE = 5000
_BLOCKS = st.builds(
    lambda number, more, szx: block(number, more=more, szx=szx),
    st.integers(0, 1 << 16),
    st.booleans(),
    st.integers(0, 7),
)
_OPTIONS = st.lists(
    st.tuples(
        st.sampled_from([URI_PATH, URI_QUERY, ACCEPT, OBSERVE, SIZE2, 300]), st.binary(max_size=4)
    ),
    max_size=4,
)


class Big(Resource):
    """A body of several blocks; it counts its renderings."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        self.size = size
        self.rendered = 0
        self.first = 0

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.rendered += 1
        body = bytes((number + self.first) % 251 for number in range(self.size))
        return aiocoap.Message(payload=body, content_format=42, max_age=7)


def asking(number: int, *, kind: int = CON, mid: int = 0, **more: Any) -> bytes:
    options = [*more.pop("options", ()), (BLOCK2, block(number, **more))]
    return sent_as(encoded(GET, *options, path="big", token=b"t%d" % number), kind, mid or number)


@given(_OPTIONS, _BLOCKS, st.binary(max_size=9), st.sampled_from([b"", b"", b"x"]))
def test_any_bytes_are_no_later_block_or_what_aiocoap_reads(
    options: list[tuple[int, bytes]], wanted: bytes, token: bytes, payload: bytes
) -> None:
    message = encoded(GET, *options, (BLOCK2, wanted), token=token, payload=payload)
    found = LaterBlock.parse_untrusted(message, DEFAULT_LIMITS)
    if found is None:
        return
    assume(all(value.isascii() for _, value in options))  # aiocoap raises an error for others
    read = aiocoap.Message.decode(message)
    assert read.opt.block2 == (found.number, False, found.size_exponent)
    assert found.number > 0
    *others, last = read.opt.option_list()
    assert last.number == BLOCK2
    assert not read.payload
    rest = aiocoap.Message.decode(found.request)
    assert [(one.number, one.encode()) for one in rest.opt.option_list()] == [
        (one.number, one.encode()) for one in others
    ]
    assert found.request.endswith(found.options)


@given(
    st.integers(1, 400),
    st.integers(0, 6),
    st.binary(max_size=8),
    st.sampled_from([None, 0, 42, 60]),
    st.sampled_from([None, 0, 7, 100_000]),
    st.booleans(),
)
def test_a_block_has_the_bytes_that_aiocoap_sends(
    number: int, szx: int, token: bytes, form: int | None, age: int | None, tagged: bool
) -> None:
    whole = aiocoap.Message(code=Code.CONTENT, payload=bytes(range(250)) * 20)
    whole.opt.content_format, whole.opt.max_age = form, age
    if tagged:
        whole.opt.etag = b"12345678"
    size, start = 16 << szx, number * (16 << szx)
    wanted = encoded(GET, (BLOCK2, block(number, szx=szx)), path="big", token=token)
    asked = LaterBlock.parse_untrusted(sent_as(wanted, CON, 0x1234), DEFAULT_LIMITS)
    assert asked is not None

    async def later_block() -> bytes | None:  # with a clock
        return stored(whole).later_block(asked)

    made = asyncio.run(later_block())
    if start >= len(whole.payload):
        assert made is None
        return
    whole.mtype, whole.mid, whole.token = ACK, 0x1234, token
    whole.opt.block2 = (number, start + size < len(whole.payload), szx)
    whole.payload = whole.payload[start : start + size]
    assert made == whole.encode()


def stored(whole: aiocoap.Message) -> ResponseBlocks:
    """A session that has sent the first block of a response to GET /big."""
    request = aiocoap.Message(code=Code.GET, uri_path=("big",))
    return store_response(request, whole)


async def test_later_blocks_are_sent_without_aiocoap(serve: Any) -> None:
    big = Big()
    served = await serve(admit=admit_all, more={("big",): big})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    for number in range(5):
        raw.send(asking(number, mid=number + 1))
        await raw.until(number + 1)
    assert b"".join(one.payload for one in raw.received) == bytes(n % 251 for n in range(SIZE))
    assert len({one.opt.etag for one in raw.received}) == 1
    assert [one.opt.block2.more for one in raw.received if one.opt.block2] == [True] * 4 + [False]
    assert {(one.opt.content_format, one.opt.max_age) for one in raw.received} == {(42, 7)}
    assert (len(answers), big.rendered) == (4, 1)
    await raw.close()


async def test_a_block_is_of_the_state_that_was_stored_last(serve: Any) -> None:
    """The bytes of the state before are not used again, nor those of one that was displaced."""
    big = Big()
    limits = Limits(block_assemblies=2)
    served = await serve(admit=admit_all, limits=limits, more={("big",): big})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    count = 0
    for first, others in ((0, 0), (100, 0), (200, 3), (30, 0)):
        big.first = first
        queries = [b"%d" % number for number in range(others)]
        for query, number in [*((one, 0) for one in queries), (b"same", 0), (b"same", 1)]:
            count += 1
            raw.send(asking(number, mid=count, options=[(URI_QUERY, query)]))
            await raw.until(count)
        earlier, later = (one.payload for one in raw.received[-2:])
        assert earlier + later == bytes((number + first) % 251 for number in range(2048))
        assert raw.received[-1].opt.etag == raw.received[-2].opt.etag
    assert len(answers) == 4
    await raw.close()


async def test_the_port_that_libcoap_states_changes_nothing(serve: Any) -> None:
    served = await serve(admit=admit_all, more={("big",): Big()})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    for number in range(3):
        raw.send(asking(number, mid=number + 1, options=[(URI_PORT, uint(5690))]))
        await raw.until(number + 1)
    assert len(answers) == 2
    await raw.close()


async def test_whatever_is_not_certain_is_left_to_aiocoap(serve: Any) -> None:
    served = await serve(admit=admit_all, more={("big",): Big()})
    raw = await RawClient.connect(served.address)
    answers = count_direct_answers(served.server)
    raw.send(asking(0, mid=1))
    await raw.until(1)
    unusual = (
        asking(1, kind=NON, mid=2),
        asking(9, mid=3),  # beyond the end
        asking(1, mid=4, szx=7),
        asking(1, mid=5, more=True),
        asking(1, mid=6, options=[(SIZE2, b"")]),
        asking(1, mid=7, options=[(ACCEPT, uint(60))]),
        asking(1, mid=8, options=[(URI_QUERY, b"q")]),
        asking(1, mid=9, options=[(OBSERVE, b"")]),
        asking(1, mid=10) + b"\xffbody",
    )
    for count, message in enumerate(unusual, start=2):
        raw.send(message)
        await raw.until(count)
    assert answers == []
    await raw.close()


async def test_each_block_is_authorized(serve: Any) -> None:
    """The right ends in the middle of a transfer."""
    allowed = True

    def authorise(*_arguments: object) -> None:
        if not allowed:
            raise ProblemError("denied", "no", "Ask.")

    served = await serve(admit=lambda *_: allowed, authorise=authorise, more={("big",): Big()})
    raw = await RawClient.connect(served.address)
    for number in (0, 1):
        raw.send(asking(number, mid=number + 1))
        await raw.until(number + 1)
    allowed = False
    raw.send(asking(2, mid=3))
    refused = (await raw.until(3))[2]
    assert (refused.code, refused.opt.block2) == (Code.FORBIDDEN, None)
    await raw.close()


async def test_a_session_gets_no_block_of_what_another_one_stored(serve: Any) -> None:
    big = Big()
    served = await serve(admit=admit_all, more={("big",): big})
    first, second = [await RawClient.connect(served.address) for _ in range(2)]
    answers = count_direct_answers(served.server)
    first.send(asking(0, mid=1))
    await first.until(1)
    second.send(asking(1, mid=1))
    await second.until(1)
    assert (answers, big.rendered) == ([], 2)
    for raw in (first, second):
        await raw.close()


async def test_the_blocks_that_are_kept_as_bytes_are_bounded_with_the_bodies(serve: Any) -> None:
    """A body that makes room for another one is not kept by what was made of it."""
    limits = Limits(block_assemblies=4, block_bytes=2 * SIZE)
    served = await serve(admit=admit_all, limits=limits, more={("big",): Big()})
    raw = await RawClient.connect(served.address)
    for count in range(6):
        for number in (0, 1):
            mid = 2 * count + number + 1
            raw.send(asking(number, mid=mid, options=[(URI_QUERY, b"%d" % count)]))
            await raw.until(mid)
    [remote] = remotes_of(served.server)
    assert bodies_in_bytes(remote) <= 2 * SIZE
    await raw.close()
