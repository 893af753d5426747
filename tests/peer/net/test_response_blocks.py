"""The stored response to which a later block belongs (RFC 7959, RFC 8132 §2), on the wire."""

from functools import partial
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type
from aiocoap.resource import Resource

from peer.limits import BODY_PAUSE_SECONDS
from peer.net.site import admit_none
from tests.kit.encoded import (
    ACCEPT,
    BLOCK1,
    BLOCK2,
    CONTENT_FORMAT,
    FETCH,
    GET,
    POST,
    REQUEST_TAG,
    SIZE2,
    URI_QUERY,
    Option,
    block,
    encoded,
    sent_as,
    uint,
)
from tests.kit.raw_client import RawClient
from tests.kit.serve import admit_all
from tests.kit.waiting import skip_time, stop_time

CBOR: Option = (CONTENT_FORMAT, uint(60))
SIZE = 2500


@pytest.fixture(params=[admit_none, admit_all], ids=["aiocoap", "direct"])
def serve(serve: Any, request: pytest.FixtureRequest) -> Any:
    """A server that answers later blocks by aiocoap's path, or by the direct one."""
    return partial(serve, admit=request.param)


class Mirror(Resource):
    """Every response consists of what was asked: a letter, from the body, query or format."""

    def __init__(self) -> None:
        super().__init__()
        self.rendered = 0

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        self.rendered += 1
        accept = request.opt.accept
        said = request.payload or "".join(request.opt.uri_query).encode()
        if not said:
            said = b"?" if accept is None else b"%d" % int(accept)
        answer = aiocoap.Message(code=Code.CONTENT, payload=said * (SIZE // len(said)))
        answer.opt.content_format = accept
        return answer


class Client:
    """Asks for blocks of /mirror."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self._number = 0

    async def ask(self, code: int, *options: Option, payload: bytes = b"") -> aiocoap.Message:
        """Send a request, and return the response."""
        self._number += 1
        token = self._number.to_bytes(2)
        made = encoded(code, *options, path="mirror", token=token, payload=payload)
        self.raw.send(sent_as(made, Type.CON, self._number))
        return (await self.raw.until(self._number))[-1]

    async def begin(self, code: int, *options: Option, payload: bytes = b"") -> bytes:
        answer = await self.ask(code, *options, payload=payload)
        assert answer.opt.block2 == (0, True, 6)
        return answer.payload

    async def rest(self, code: int, *options: Option, payload: bytes = b"") -> bytes:
        """Ask for the later blocks."""
        body = b""
        for number in (1, 2):
            later = (BLOCK2, block(number))
            body += (await self.ask(code, *options, later, payload=payload)).payload
        return body


@pytest.fixture
async def mirror() -> Mirror:
    return Mirror()


@pytest.fixture
async def client(serve: Any, mirror: Mirror) -> Any:
    served = await serve(more={("mirror",): mirror})
    raw = await RawClient.connect(served.address)
    yield Client(raw)
    await raw.close()


@pytest.mark.parametrize("code", [FETCH, POST], ids=["FETCH", "POST"])
async def test_two_requests_with_different_bodies_have_two_responses(
    client: Client, code: int
) -> None:
    first = {body: await client.begin(code, payload=body) for body in (b"a", b"b")}
    for body in (b"a", b"b"):
        assert first[body] + await client.rest(code, payload=body) == body * SIZE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (((ACCEPT, b""),), ((ACCEPT, uint(60)),)),
        (((URI_QUERY, b"a"), (URI_QUERY, b"b")), ((URI_QUERY, b"b"), (URI_QUERY, b"a"))),
        (((URI_QUERY, b"ab"),), ((URI_QUERY, b"a"), (URI_QUERY, b"c"))),
    ],
    ids=["Accept", "order of the query", "division of the query"],
)
@pytest.mark.parametrize("code", [GET, FETCH], ids=["GET", "FETCH"])
async def test_requests_with_different_options_have_two_responses(
    client: Client, mirror: Mirror, code: int, one: tuple[Option, ...], other: tuple[Option, ...]
) -> None:
    bodies = [await client.begin(code, *options) for options in (one, other)]
    for number, options in enumerate((one, other)):
        bodies[number] += await client.rest(code, *options)
    assert bodies[0][:2] != bodies[1][:2]
    for body in bodies:
        assert body == body[:2] * (SIZE // 2)
    assert mirror.rendered == 2


async def test_the_format_of_the_body_is_a_part_of_the_request(
    client: Client, mirror: Mirror
) -> None:
    for options in ((CBOR,), ((CONTENT_FORMAT, b""),), ()):
        await client.begin(POST, *options, payload=b"a")
    for options in ((CBOR,), ((CONTENT_FORMAT, b""),), ()):
        assert len(await client.rest(POST, *options, payload=b"a")) == SIZE - 1024
    assert mirror.rendered == 3


async def test_request_tags_separate_responses_to_requests_without_a_body(client: Client) -> None:
    """RFC 9175 §3.3: a client that does not repeat the body tells them apart by a tag."""
    tags: dict[bytes, Option] = {b"a": (REQUEST_TAG, b"1"), b"b": (REQUEST_TAG, b"2")}
    for body, tag in tags.items():
        await client.begin(FETCH, tag, payload=body)
    for body, tag in tags.items():
        assert await client.rest(FETCH, tag) == body * (SIZE - 1024)


@pytest.mark.parametrize("code", [FETCH, POST], ids=["FETCH", "POST"])
@pytest.mark.parametrize("repeated", [(CBOR,), ()], ids=["with format", "without format"])
async def test_a_later_request_may_leave_out_the_body(
    client: Client, code: int, repeated: tuple[Option, ...]
) -> None:
    """As in RFC 7959, figure 11; one response after the other."""
    for body in (b"a", b"b", b"a"):
        await client.begin(code, CBOR, payload=body)
        assert await client.rest(code, *repeated) == body * (SIZE - 1024)


@pytest.mark.parametrize("code", [FETCH, POST], ids=["FETCH", "POST"])
async def test_a_request_that_means_two_responses_gets_neither(
    client: Client, mirror: Mirror, code: int
) -> None:
    stop_time()  # after a pause, a transfer counts as given up
    for body in (b"a", b"b"):
        await client.begin(code, payload=body)
    answer = await client.ask(code, (BLOCK2, block(1)))
    assert answer.code is Code.REQUEST_ENTITY_INCOMPLETE
    assert mirror.rendered == 2
    skip_time(BODY_PAUSE_SECONDS)
    await client.begin(code, payload=b"c")
    assert await client.rest(code) == b"c" * (SIZE - 1024)


async def test_a_body_in_blocks_counts_as_a_whole(client: Client, mirror: Mirror) -> None:
    for number, more in ((0, True), (1, False)):
        part = (BLOCK1, block(number, more=more, szx=0))
        answer = await client.ask(FETCH, part, payload=b"a" * 16)
    assert (answer.code, answer.opt.block2) == (Code.CONTENT, (0, True, 6))
    await client.begin(FETCH, payload=b"b" * 32)
    assert (await client.ask(FETCH, (BLOCK2, block(1)), payload=b"a" * 32)).payload == b"a" * 1024
    assert mirror.rendered == 2


async def test_a_response_that_is_not_stored_is_rendered_only_with_all_that_was_asked(
    client: Client, mirror: Mirror
) -> None:
    later = (BLOCK2, block(1))
    for code, options, body in ((FETCH, (CBOR,), b""), (POST, (), b"b"), (POST, (CBOR,), b"")):
        answer = await client.ask(code, *options, later, payload=body)
        assert answer.code is Code.REQUEST_ENTITY_INCOMPLETE
    assert mirror.rendered == 0
    assert (await client.ask(FETCH, later, payload=b"a")).payload == b"a" * 1024
    assert (await client.ask(GET, later)).payload == b"?" * 1024
    assert mirror.rendered == 2


async def test_options_that_do_not_change_the_response_may_differ(
    client: Client, mirror: Mirror
) -> None:
    await client.begin(GET, (SIZE2, b""))
    assert len(await client.rest(GET)) == SIZE - 1024
    assert mirror.rendered == 1
