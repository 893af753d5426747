"""Bounds of one session, over real UDP: work before authorization, memory and partial transfers."""

import asyncio
import gc
from dataclasses import replace
from typing import Any

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.optiontypes import UintOption

from peer.errors import Malformed, Unreachable
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net import coaps
from peer.net.aiocoap_seam import parsing
from peer.net.client import CoapsClient
from peer.net.problem import ProblemError, error_of
from peer.net.site import GuardedSite
from tests.kit.coap_numbers import forget_all_but, known_numbers
from tests.kit.internals import backlogs_of, remotes_of, request_by_hand
from tests.kit.raw_client import GET, RawClient, message
from tests.kit.serve import PATIENT

POST = 2
CONTENT = 69
_CONTENT_FORMAT, _ACCEPT, _BLOCK1, _BLOCK2 = 12, 17, 27, 23


def get(*path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=path)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The messages given to aiocoap's parser, on either side."""
    seen: list[bytes] = []

    def decode(data: bytes, *rest: Any) -> aiocoap.Message:
        seen.append(data)
        return decode_untrusted(data, *rest)

    decode_untrusted = parsing.decode_untrusted
    monkeypatch.setattr(coaps, "decode_untrusted", decode)
    return seen


# -- work before authorization ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "excess",
    [
        b"\x00" * 16_000,  # 16,000 empty options with number 0
        b"\xb0" + b"\x00" * 16_000,  # 16,000 empty path segments
        b"\xb1a" + b"\x01a" * 70,
        b"\xbd\xf0" + bytes(253) + (b"\x0d\xf0" + bytes(253)) * 4,  # five options of 253 bytes
        b"\xff" + bytes(1_500),
    ],
    ids=["empty options", "empty segments", "71 segments", "long segments", "payload"],
)
async def test_a_message_beyond_the_bounds_is_rejected_unparsed(
    serve: Any, caller: CoapsClient, read: list[bytes], excess: bytes
) -> None:
    asked: list[object] = []
    served = await serve(authorise=lambda *arguments: asked.append(arguments))
    raw = await RawClient.connect(served.address)
    for number in range(10):
        raw.send(b"\x40\x01" + number.to_bytes(2) + excess)
        raw.send(b"\x50\x01" + (100 + number).to_bytes(2) + excess)
        await raw.handled()
    assert [(one.mtype, one.code, one.mid) for one in raw.received] == [
        (aiocoap.RST, Code.EMPTY, number) for number in range(10)
    ], "each confirmable message is reset, and nothing else is answered"
    assert served.server.counters["coap-too-large"] == 20
    assert not asked
    assert all(len(data) == 4 for data in read), "aiocoap has parsed more than the empty message"
    (remote,) = remotes_of(served.server)
    assert len(remote.recent) == 0
    connection = await caller.connect(served.address, pinned=None)
    assert (await connection.request(get("echo"))).code is Code.CONTENT
    await raw.close()


async def test_a_request_with_too_long_a_path_fails_with_advice(
    serve: Any, caller: CoapsClient, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    for path in (("a",) * 65, ("a" * 250,) * 5):
        with pytest.raises(Unreachable, match="rejected") as caught:
            await connection.request(get(*path))
        assert "64 options" in caught.value.advice
    assert (await connection.request(get(*("a",) * 64))).code is Code.NOT_FOUND
    assert connection.is_open
    assert not caplog.records


async def test_messages_from_a_device_are_bounded_too(
    serve: Any, caller: CoapsClient, read: list[bytes]
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    (remote,) = remotes_of(served.server)
    before = len(read)
    for number in range(10):
        head = b"\x50\x45" + number.to_bytes(2)
        remote.association.send(head + b"\x10" * 10_000)
    assert (await connection.request(get("echo"))).code is Code.CONTENT
    assert caller.counters["coap-too-large"] == 10
    assert len(read) - before == 2  # the request, and its answer


class CountedPath(tuple[str, ...]):  # noqa: SLOT001 - it has a counter
    """A path that counts how often a prefix of it is taken."""

    taken = 0

    def __getitem__(self, key: Any) -> Any:
        self.taken += 1
        return super().__getitem__(key)


async def test_a_lookup_tries_no_prefix_longer_than_the_deepest_subtree() -> None:
    site = GuardedSite(authorise=lambda *_: None, limits=DEFAULT_LIMITS)
    leaf = aiocoap.resource.Resource()
    site.add(("a", "b"), leaf, takes_rest=True)
    site.add(("a",), leaf, takes_rest=True)
    path, unknown = CountedPath(("a", "b", *["c"] * 1000)), CountedPath(("x",) * 1000)
    assert site.find(path) == (("a", "b"), leaf)
    assert site.find(unknown) == (("x",) * 1000, None)
    assert (path.taken, unknown.taken) == (1, 2)
    site.remove(("a", "b"))
    assert site.find(path) == (("a",), leaf)
    assert path.taken == 1 + 1
    site.remove(("a",))
    assert site.find(("a", "b")) == (("a", "b"), None)


async def test_a_long_problem_detail_is_cut_to_one_datagram(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        raise ProblemError("denied", "€" * 3_000, "€ and so on " * 500)

    served.echo.render_get = render_get
    connection = await caller.connect(served.address, pinned=None)
    answer = await connection.request(get("echo"), timeout=20)
    assert answer.code is Code.FORBIDDEN
    assert len(answer.payload) < 1_000
    error: Any = error_of(answer)
    assert str(error).startswith("€€€")
    assert error.advice.startswith("€ and so on")


# -- memory that a peer can allocate ---------------------------------------------------------------


def unknown_options(number: int) -> tuple[tuple[int, bytes], ...]:
    """Options with an unknown number and Content-Format."""
    return (
        (_CONTENT_FORMAT, (50_000 + number).to_bytes(2)),
        (30_000 + 2 * number, b"elective"),
    )


async def test_unknown_numbers_from_a_client_allocate_no_memory(serve: Any) -> None:
    served = await serve()
    raw = await RawClient.connect(served.address)
    before = known_numbers()
    messages = [
        message(
            GET,
            "echo",
            number=number,
            token=bytes([number]),
            options=((_ACCEPT, (40_000 + number).to_bytes(2)), *unknown_options(number)),
        )
        for number in range(200)
    ]
    messages += [
        message(
            GET,
            "echo",
            number=1000 + number,
            token=number.to_bytes(2),
            options=((40_001 + 2 * number, b""),),
        )
        for number in range(100)
    ]
    forget_all_but(before)
    for at in range(0, len(messages), 20):
        for one in messages[at : at + 20]:
            raw.send(one)
        await raw.until(at + 20)
    codes = [one.code for one in raw.received]
    assert codes == [Code.CONTENT] * 200 + [Code.BAD_OPTION] * 100
    assert known_numbers() == before
    await raw.close()


async def test_unknown_numbers_from_a_device_allocate_no_memory(
    serve: Any, caller: CoapsClient
) -> None:
    """A client that observes a hostile device."""
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    stream = connection.observe(get("value"))
    latest = (await anext(stream)).opt.observe or 0
    (remote,) = remotes_of(served.server)
    (token,) = remote.observing
    before = known_numbers()
    messages = [
        message(
            CONTENT,
            number=number,
            token=token,
            mtype=1,
            observe=latest + 1 + number,
            options=unknown_options(number),
            payload=b"%d" % number,
        )
        for number in range(100)
    ]
    forget_all_but(before)
    for at in range(0, 100, 20):
        for one in messages[at : at + 20]:
            remote.association.send(one)
        async with asyncio.timeout(20):
            while (await anext(stream)).payload != b"%d" % (at + 19):
                pass
    assert known_numbers() == before
    await stream.aclose()


async def test_option_numbers_defined_by_an_application_keep_their_format(
    serve: Any, caller: CoapsClient
) -> None:
    """Option numbers that an application defines keep their format, as aiocoap documents."""
    known = known_numbers()
    own = OptionNumber(65_000)
    own.format = UintOption
    try:
        served = await serve()
        seen: list[Any] = []

        async def render_get(request: aiocoap.Message) -> aiocoap.Message:
            seen.extend(one.value for one in request.opt.get_option(OptionNumber(65_000)))
            return aiocoap.Message()

        served.echo.render_get = render_get
        connection = await caller.connect(served.address, pinned=None)
        for value in (7, 8):
            asking = get("echo")
            asking.opt.add_option(own.create_option(value=value))
            await connection.request(asking)
        assert seen == [7, 8]
    finally:
        forget_all_but(known)


async def test_the_deduplication_cache_holds_bytes_up_to_its_limit(serve: Any) -> None:
    """Neither requests with many options nor their answers are kept as objects."""
    limits = Limits(dedup_bytes=20_000)
    served = await serve(limits=limits)
    raw = await RawClient.connect(served.address)
    options = tuple((15, b"q%07d" % number) for number in range(60))
    for number in range(100):
        raw.send(message(POST, "echo", number=number, options=options, payload=b"%d" % number * 20))
        await raw.until(number + 1)
    (remote,) = remotes_of(served.server)
    assert 0 < remote.recent.held_bytes <= limits.dedup_bytes
    assert 10 < len(remote.recent) < 100
    received = list(raw.received)
    raw.received.clear()
    gc.collect()
    kept = [one for one in gc.get_objects() if type(one) is aiocoap.Message]
    assert len(kept) < len(received) + 10, "message objects are kept"
    # A repeated request gets the same bytes again, and no handler runs.
    again = message(POST, "echo", number=99, options=options, payload=b"99" * 20)
    raw.send(again)
    raw.send(again)
    assert [one.payload for one in await raw.until(2)] == [b"99" * 20] * 2
    assert len(served.echo.bodies) == 100
    await raw.close()


async def test_a_repeated_request_is_answered_without_being_parsed(
    serve: Any, read: list[bytes]
) -> None:
    served = await serve()
    raw = await RawClient.connect(served.address)
    asking = message(POST, "echo", number=7, payload=b"once")
    raw.send(asking)
    await raw.until(1)
    for _ in range(29):
        raw.send(asking)
    await raw.until(30)
    assert len(read) == 1
    assert served.echo.bodies == [b"once"]
    await raw.close()


async def test_responses_queued_behind_an_acknowledgement_are_bounded(serve: Any) -> None:
    """With NSTART = 1, separate responses queue behind an unacknowledged one.

    A client whose queue is full is refused with 4.29.
    """
    served = await serve(limits=replace(PATIENT, requests_per_session=4))
    gate = asyncio.Event()

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        await gate.wait()
        return aiocoap.Message(payload=b"late")

    served.echo.render_get = render_get
    raw = await RawClient.connect(served.address)
    (remote,) = remotes_of(served.server)
    for number in range(40):
        gate.clear()
        before = len(raw.received)
        raw.send(message(GET, "echo", number=number, token=bytes([number])))
        # The request is refused, or acknowledged without a response.
        last = (await raw.until(before + 1))[before]
        assert last.code in (Code.EMPTY, Code.TOO_MANY_REQUESTS)
        gate.set()
        await raw.handled()
        assert len(backlogs_of(served.server).get(remote, ())) <= 4
    refused = [one for one in raw.received if one.code is Code.TOO_MANY_REQUESTS]
    assert len(refused) >= 30
    await raw.close()


# -- blocks ----------------------------------------------------------------------------------------


def request_block(number: int, *, more: bool, size: int, szx: int = 6) -> aiocoap.Message:
    made = aiocoap.Message(code=Code.POST, uri_path=("echo",), payload=bytes(size))
    made.opt.block1 = (number, more, szx)
    return made


@pytest.mark.parametrize(
    ("blocks", "code", "reason"),
    [
        ([(0, True, 1024), (2, True, 1024)], "4.08", "incomplete"),
        ([(0, True, 1024), (2, False, 1024)], "4.08", "incomplete"),
        ([(0, True, 1024), (1, True, 1024), (1, False, 5)], "4.08", "incomplete"),
        ([(5, True, 1024)], "4.08", "incomplete"),
        ([(0, True, 1024), (1, True, 100)], "4.00", "malformed"),
        ([(0, True, 1024, 7)], "4.00", "malformed"),
        ([(0, False, 10, 7)], "4.00", "malformed"),
    ],
)
async def test_invalid_blocks_are_refused_with_a_reason(
    serve: Any,
    caller: CoapsClient,
    caplog: pytest.LogCaptureFixture,
    blocks: list[tuple[Any, ...]],
    code: str,
    reason: str,
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    for number, more, size, *szx in blocks:
        answer = await request_by_hand(
            connection, request_block(number, more=more, size=size, szx=szx[0] if szx else 6)
        )
    error: Any = error_of(answer)
    assert (error.code, error.reason) == (code, reason)
    assert error.advice
    whole = await request_by_hand(connection, request_block(0, more=False, size=10))
    assert whole.code is Code.CHANGED
    assert served.echo.bodies == [bytes(10)]
    assert not caplog.records, "something was logged with a traceback"


async def test_only_existing_blocks_of_an_answer_are_served(
    serve: Any, caller: CoapsClient, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=bytes(3000))

    served.echo.render_get = render_get
    connection = await caller.connect(served.address, pinned=None)
    for number, szx, code in ((0, 6, "2.05"), (2, 6, "2.05"), (3, 6, "4.00"), (1, 7, "4.00")):
        asking = get("echo")
        asking.opt.block2 = (number, False, szx)
        answer = await request_by_hand(connection, asking)
        assert answer.code.dotted == code, (number, szx)
        if code == "4.00":
            error: Any = error_of(answer)
            assert error.reason == "malformed"
    assert not caplog.records


async def test_incomplete_bodies_and_answers_are_bounded_in_bytes(
    serve: Any, caller: CoapsClient
) -> None:
    limits = replace(DEFAULT_LIMITS, block_bytes=8_000)
    served = await serve(limits=limits)

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=bytes(3_000))

    served.echo.render_get = render_get
    connection = await caller.connect(served.address, pinned=None)
    for number in range(6):
        for block in range(3):
            half = request_block(block, more=True, size=1024)
            half.opt.uri_query = [str(number)]
            assert (await request_by_hand(connection, half)).code is Code.CONTINUE
        asking = get("echo")
        asking.opt.uri_query = [str(number)]
        answered = (await request_by_hand(connection, asking)).opt.block2
        assert answered is not None
        assert answered.more
    (remote,) = remotes_of(served.server)
    for kept in (remote.blocks.requests, remote.blocks.responses):
        assert 0 < kept.held_bytes <= limits.block_bytes


async def test_the_body_limit_of_the_sender_applies(serve: Any, device: Identity) -> None:
    """The limit for the key is read on each request, before any of the body is stored."""
    served = await serve(body_bytes=lambda _request: 100)
    async with CoapsClient(Identity.create()) as client:
        connection = await client.connect(served.address, pinned=device.fingerprint)
        assert (
            await request_by_hand(connection, request_block(0, more=True, size=64, szx=2))
        ).code is Code.CONTINUE
        refused = await request_by_hand(connection, request_block(1, more=True, size=64, szx=2))
        assert refused.code is Code.REQUEST_ENTITY_TOO_LARGE
        whole = await request_by_hand(connection, request_block(0, more=False, size=101))
        assert whole.code is Code.REQUEST_ENTITY_TOO_LARGE


async def test_invalid_blocks_from_a_device_raise_unreachable_or_malformed(
    serve: Any, caller: CoapsClient
) -> None:
    """A block shorter than its size, a reserved block size, and a wrong block number."""

    served = await serve()
    for block in ((0, True, 6), (0, True, 7), (3, True, 6)):

        async def render_get(
            _request: aiocoap.Message, block: tuple[int, bool, int] = block
        ) -> aiocoap.Message:
            answer = aiocoap.Message(payload=bytes(100))
            answer.opt.block2 = block
            return answer

        served.echo.render_get = render_get
        connection = await caller.connect(served.address, pinned=None)
        with pytest.raises((Unreachable, Malformed)):
            await connection.request(get("echo"), timeout=20)
