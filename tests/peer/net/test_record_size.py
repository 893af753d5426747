"""Sessions whose records are small, as max_fragment_length makes them (RFC 6066 §4)."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber

from peer.dtls.server_session import ServerSession
from peer.errors import MessageNotSent
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.problem import ProblemError, error_of
from tests.kit.internals import association_of, endpoint_of, observations_of, request_by_hand
from tests.kit.serve import PATIENT, Served, Servers

LONG = bytes(number % 251 for number in range(5000))
REFUSAL = ProblemError("denied", "title " * 70, "detail " * 60)


class Long(aiocoap.resource.Resource):
    """GET returns 5000 bytes, POST its body."""

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=LONG)

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=Code.CHANGED, payload=request.payload)


class Wide(aiocoap.resource.ObservableResource):
    """Each response has options of 2000 bytes, unless it is `narrow`."""

    narrow = False

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        answer = aiocoap.Message(payload=b"wide")
        for _ in range(0 if self.narrow else 8):
            query = OptionNumber(20).create_option(decode=b"x" * 250)
            answer.opt.add_option(query)
        return answer


class Refused(aiocoap.resource.Resource):
    """GET is refused with long texts."""

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        raise REFUSAL


class Scene:
    """A server, and a session with small records in one or both directions."""

    def __init__(self, served: Served, wide: Wide, connection: CoapsConnection) -> None:
        self.served, self.wide, self.connection = served, wide, connection

    async def get(self, path: str, *, szx: int | None = None) -> aiocoap.Message:
        message = aiocoap.Message(code=Code.GET, uri_path=tuple(path.split("/")))
        if szx is not None:
            message.opt.block2 = (0, False, szx)
        return await self.connection.request(message, timeout=10)

    def limit(self, size: int, *, ours: bool = False) -> None:
        """Limit the records of the server, or with `ours` those of the client."""
        (theirs,) = endpoint_of(self.served.server).associations()
        one = association_of(self.connection) if ours else theirs
        one.session.record_bytes = one.session.message_bytes = size


Begin = Callable[[], Awaitable[Scene]]


@pytest.fixture
async def scene(device: Identity, client: Identity) -> AsyncIterator[Scene]:
    servers, wide = Servers(device), Wide()
    async with CoapsClient(client, limits=PATIENT) as caller:
        served = await servers.start(
            limits=PATIENT, more={("long",): Long(), ("wide",): wide, ("no",): Refused()}
        )
        yield Scene(served, wide, await caller.connect(served.address, pinned=None))
    await servers.close()


@pytest.mark.parametrize("size", [256, 512, 1024, 2048])
async def test_a_long_answer_comes_in_blocks_that_fit(
    scene: Scene, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.limit(size)
    sent: list[int] = []
    (theirs,) = endpoint_of(scene.served.server).associations()
    session = type(theirs.session)
    send = session.send

    def note_size(self: ServerSession, plaintext: bytes) -> None:
        sent.append(len(plaintext))
        send(self, plaintext)

    monkeypatch.setattr(session, "send", note_size)
    assert (await scene.get("long")).payload == LONG
    assert size / 4 < max(sent) <= size


@pytest.mark.parametrize("asked", [6, 5, 2])
async def test_a_request_for_larger_blocks_gets_smaller_ones(scene: Scene, asked: int) -> None:
    scene.limit(512)
    assert (await scene.get("long", szx=asked)).payload == LONG


async def test_a_later_block_of_a_larger_size_comes_as_its_first_part(scene: Scene) -> None:
    scene.limit(512)
    first = aiocoap.Message(code=Code.GET, uri_path=("long",), block2=(0, False, 6))
    await scene.connection.request(first, timeout=10)
    message = aiocoap.Message(code=Code.GET, uri_path=("long",), block2=(2, False, 6))
    answer = await request_by_hand(scene.connection, message)
    assert answer.opt.block2 is not None
    assert answer.opt.block2.start == 2048
    assert answer.payload == LONG[2048 : 2048 + 256]


async def test_a_long_request_goes_in_blocks_that_fit(scene: Scene) -> None:
    scene.limit(512)
    scene.limit(512, ours=True)
    message = aiocoap.Message(code=Code.POST, uri_path=("long",), payload=LONG)
    assert (await scene.connection.request(message, timeout=10)).payload == LONG


async def test_the_texts_of_an_error_are_shortened_to_fit(scene: Scene) -> None:
    whole = error_of(await scene.get("no"))
    scene.limit(512)
    short = error_of(await scene.get("no"))
    assert whole is not None
    assert short is not None
    assert len(str(short)) > 100
    assert str(whole).startswith(str(short))
    assert whole.advice.startswith(short.advice)
    assert type(short) is type(whole)


async def test_an_answer_that_cannot_be_sent_fails_alone(scene: Scene) -> None:
    scene.limit(512)
    assert (await scene.get("wide")).code is Code.INTERNAL_SERVER_ERROR
    assert (await scene.get("long")).payload == LONG


async def test_an_observation_that_cannot_be_sent_ends_alone(scene: Scene) -> None:
    scene.limit(512)
    scene.wide.narrow = True
    stream = scene.connection.observe(aiocoap.Message(code=Code.GET, uri_path=("wide",)))
    assert (await anext(stream)).payload == b"wide"
    scene.wide.narrow = False
    scene.wide.updated_state()
    last = await anext(stream)
    assert last.code is Code.INTERNAL_SERVER_ERROR
    assert last.opt.observe is None
    assert [one async for one in stream] == []
    assert (await scene.get("long")).payload == LONG
    assert not observations_of(scene.wide)


async def test_a_request_that_cannot_be_sent_fails_alone(scene: Scene) -> None:
    scene.limit(512, ours=True)
    with pytest.raises(MessageNotSent, match="512"):
        await scene.get("/".join(["x" * 200] * 3))
    assert (await scene.get("long")).payload == LONG
    assert DEFAULT_LIMITS.message_option_bytes > 600, "the path is not too long for a device"


async def test_a_message_that_openssl_refuses_does_not_end_the_session(scene: Scene) -> None:
    """The session checks each message again, after the checks above."""
    (theirs,) = endpoint_of(scene.served.server).associations()
    theirs.session.record_bytes = 512
    with pytest.raises(MessageNotSent):
        theirs.session.send(bytes(513))
    with pytest.raises(MessageNotSent):
        theirs.session.send(b"")  # OpenSSL reports this as an error of the system
    theirs.session.record_bytes = 1 << 14
    assert (await scene.get("long")).payload == LONG
