"""CoAP over DTLS on real UDP: aiocoap's features work, and each response reaches its request."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import ACK

from peer.errors import ObservationEnded, PinMismatch, RequestFailed, TimedOut, Unreachable
from peer.identity import Identity
from peer.limits import Limits
from peer.net.address import Address
from peer.net.admission import SessionPriority
from peer.net.client import CoapsClient
from peer.net.problem import ProblemError, error_of
from peer.testing import Impairment, Proxy
from tests.kit.internals import (
    association_of,
    layer_of,
    messages_of,
    remotes_of,
    repeats_kept_by_aiocoap,
)
from tests.kit.waiting import until

HASTY = Limits(ack_timeout_seconds=0.05, max_retransmit=10)


def get(*path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=path)


def post(*path: str, payload: bytes) -> aiocoap.Message:
    return aiocoap.Message(code=Code.POST, uri_path=path, payload=payload)


async def next_payload(stream: AsyncIterator[aiocoap.Message]) -> bytes:
    """The payload of the next notification."""
    async with asyncio.timeout(20):
        return bytes((await anext(stream)).payload)


async def test_a_handler_sees_the_key_of_the_client(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=served.identity.fingerprint)
    answer = await connection.request(get("echo"))
    assert answer.payload.decode() == client.fingerprint.hex
    (session,) = served.server.sessions()
    assert (session.fingerprint, session.is_local) == (client.fingerprint, True)


async def test_large_bodies_are_sent_in_blocks_both_ways(serve: Any, caller: CoapsClient) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    body = bytes(range(256)) * 200
    answer = await connection.request(post("echo", payload=body))
    assert answer.payload == body
    assert served.echo.bodies == [body]


async def test_a_body_over_the_limit_is_refused_during_its_transfer(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve(limits=Limits(request_body_bytes=5000))
    connection = await caller.connect(served.address, pinned=None)
    assert (await connection.request(post("echo", payload=bytes(5000)))).code is Code.CHANGED
    refused = await connection.request(post("echo", payload=bytes(5001)))
    assert refused.code is Code.REQUEST_ENTITY_TOO_LARGE
    assert len(served.echo.bodies) == 1


async def test_a_slow_answer_is_sent_as_a_separate_response(
    serve: Any, caller: CoapsClient
) -> None:
    """RFC 7252 §5.2.2. The handler waits until the empty acknowledgement has been sent."""
    served = await serve()
    acknowledged = asyncio.Event()
    layer = layer_of(served.server)
    send = layer.send

    def send_and_notify(message: aiocoap.Message) -> None:
        send(message)
        if message.mtype is ACK and message.code is Code.EMPTY:
            acknowledged.set()

    layer.send = send_and_notify  # type: ignore[method-assign]

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        await asyncio.wait_for(acknowledged.wait(), 20)
        return aiocoap.Message(payload=b"late")

    served.echo.render_get = render_get
    connection = await caller.connect(served.address, pinned=None)
    assert (await connection.request(get("echo"))).payload == b"late"


async def test_observe_delivers_each_change(serve: Any, caller: CoapsClient) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    stream = connection.observe(get("value"))
    assert await next_payload(stream) == b"0"
    for number in (1, 2, 3):
        served.value.set(number)
        assert await next_payload(stream) == str(number).encode()
    await stream.aclose()


async def test_ending_the_sessions_of_a_key_ends_only_its_observations(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    own = await caller.connect(served.address, pinned=None)
    async with CoapsClient(Identity.create()) as another:
        other = await another.connect(served.address, pinned=None)
        own_stream, other_stream = own.observe(get("value")), other.observe(get("value"))
        await next_payload(own_stream)
        await next_payload(other_stream)
        assert served.server.end_sessions(lambda key: key == client.fingerprint) == 1
        with pytest.raises(ObservationEnded):
            await next_payload(own_stream)
        assert not own.is_open
        with pytest.raises(Unreachable):
            await own.request(get("echo"))
        served.value.set(5)
        assert await next_payload(other_stream) == b"5"
        assert other.is_open


async def test_ending_the_sessions_of_a_key_ends_resumption(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    pinned = served.identity.fingerprint
    await caller.connect(served.address, pinned=pinned)
    again = await caller.connect(served.address, pinned=pinned)
    assert again.resumed
    served.server.end_sessions(lambda key: key == client.fingerprint)
    after = await caller.connect(served.address, pinned=pinned)
    assert not after.resumed


async def test_the_pairing_port_never_resumes_a_session(serve: Any, caller: CoapsClient) -> None:
    served = await serve(pairing=True)
    pinned = served.identity.fingerprint
    await caller.connect(served.address, pinned=pinned)
    assert not (await caller.connect(served.address, pinned=pinned)).resumed


async def test_with_a_wrong_pin_no_application_data_is_sent(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    proxy = await Proxy.start(served.address)
    with pytest.raises(PinMismatch):
        await caller.connect(proxy.address, pinned=Identity.create().fingerprint)
    assert all(datagram[0] != 23 for datagram in proxy.towards_device())
    assert served.server.sessions() == []
    proxy.close()


async def test_a_closed_port_is_reported_immediately(caller: CoapsClient, serve: Any) -> None:
    served = await serve()
    address = served.address
    await served.server.close()
    with pytest.raises(Unreachable) as caught:
        await caller.connect(address, pinned=None)
    assert caught.value.refused


async def test_a_device_that_does_not_answer_raises_timed_out(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    proxy = await Proxy.start(served.address, Impairment(loss=1.0))
    with pytest.raises(TimedOut):
        await caller.connect(proxy.address, pinned=None, timeout=0.2)
    proxy.close()


async def test_a_reused_message_id_gets_its_own_answer(serve: Any, caller: CoapsClient) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    messages = messages_of(caller)
    for number in range(40):
        messages.message_id = 1000 + number % 2
        body = f"request {number}".encode()
        answer = await connection.request(post("echo", payload=body), timeout=10)
        assert answer.payload == body
    assert len(served.echo.bodies) == 40


async def test_a_repeated_request_runs_once_and_is_answered_again(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    layer = layer_of(caller)
    sent: list[bytes] = []
    send = layer.send

    def send_three_times(message: aiocoap.Message) -> None:
        sent.append(message.encode())
        for _ in range(3):
            send(message)

    layer.send = send_three_times  # type: ignore[method-assign]
    assert (await connection.request(post("echo", payload=b"once"))).payload == b"once"
    assert (await connection.request(post("echo", payload=b"twice"))).payload == b"twice"
    assert served.echo.bodies == [b"once", b"twice"]


async def test_the_deduplication_cache_is_bounded_in_requests(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve(limits=Limits(dedup_window=16))
    connection = await caller.connect(served.address, pinned=None)
    for number in range(64):
        await connection.request(post("echo", payload=str(number).encode()))
    (remote,) = remotes_of(served.server)
    assert len(remote.recent) == 16
    assert not repeats_kept_by_aiocoap(served.server)


async def test_observations_of_one_session_are_bounded(serve: Any, caller: CoapsClient) -> None:
    served = await serve(limits=Limits(observations_per_session=3))
    connection = await caller.connect(served.address, pinned=None)
    streams = [connection.observe(get("value")) for _ in range(3)]
    for stream in streams:
        await next_payload(stream)
    refused = await anext(connection.observe(get("value")))
    assert refused.code is Code.TOO_MANY_REQUESTS
    assert refused.opt.max_age == 5
    for _ in range(5):  # requests have a bound of their own
        assert (await connection.request(get("echo"))).code is Code.CONTENT
    for stream in streams:
        await stream.aclose()


async def test_requests_in_progress_of_one_session_are_bounded(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve(limits=Limits(requests_per_session=3))
    connection = await caller.connect(served.address, pinned=None)
    waiting = [asyncio.ensure_future(connection.request(get("late"))) for _ in range(3)]
    await until(lambda: served.late.asked == 3)
    refused = await connection.request(get("echo"))
    assert (refused.code, refused.opt.max_age) == (Code.TOO_MANY_REQUESTS, 5)
    stream = connection.observe(get("value"))  # observations have a bound of their own
    assert (await anext(stream)).code is Code.CONTENT
    served.late.due.set()
    for one in waiting:
        assert (await one).payload == b"better late"
    await stream.aclose()


async def test_bytes_that_are_not_coap_are_dropped_and_counted(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    association = association_of(connection)
    for garbage in (b"\x00", b"\xff" * 40, b"\x40\x01\x00\x01\xf0", b"\x4f" + bytes(20)):
        association.send(garbage)
    assert (await connection.request(get("echo"))).code is Code.CONTENT
    assert served.server.counters["coap-malformed"] >= 3


async def test_a_failing_handler_answers_5_00_without_a_payload(
    serve: Any, caller: CoapsClient, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        raise RuntimeError("a secret of the handler")

    served.echo.render_get = render_get
    connection = await caller.connect(served.address, pinned=None)
    answer = await connection.request(get("echo"))
    assert (answer.code, answer.payload) == (Code.INTERNAL_SERVER_ERROR, b"")
    assert sum("a secret of the handler" in str(record.exc_info) for record in caplog.records) == 1
    assert (await connection.request(post("echo", payload=b"alive"))).payload == b"alive"


async def test_a_trailing_slash_is_ignored_and_unsupported_requests_are_refused(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    assert (await connection.request(get("echo", ""))).code is Code.CONTENT
    assert (await connection.request(get("nowhere"))).code is Code.NOT_FOUND
    put = aiocoap.Message(code=Code.PUT, uri_path=("echo",))
    not_allowed = error_of(await connection.request(put))
    assert isinstance(not_allowed, RequestFailed)
    assert (not_allowed.code, not_allowed.reason) == ("4.05", "method-not-allowed")
    late = post("echo", payload=b"")
    late.opt.block2 = (3, False, 6)
    incomplete = error_of(await connection.request(late))
    assert isinstance(incomplete, RequestFailed)
    assert (incomplete.code, incomplete.reason) == ("4.08", "incomplete")
    critical = get("echo")
    critical.opt.add_option(OptionNumber(2049).create_option(b"x"))
    bad = await connection.request(critical)
    assert bad.code is Code.BAD_OPTION
    error = error_of(bad)
    assert isinstance(error, RequestFailed)
    assert error.code == "4.02"


async def test_a_repeated_non_repeatable_option_counts_as_unrecognized(
    serve: Any, caller: CoapsClient
) -> None:
    """RFC 7252 §5.4.5: 4.02 if the option is critical; otherwise only the first one counts."""
    served = await serve()
    seen: list[Any] = []

    async def render_get(request: aiocoap.Message) -> aiocoap.Message:
        seen.append((request.opt.content_format, request.opt.size1))
        return aiocoap.Message(payload=b"seen")

    served.echo.render_get = render_get
    connection = await caller.connect(served.address, pinned=None)
    numbers = OptionNumber
    for number, values, code in (
        (numbers.ACCEPT, (b"", b"\x3c"), "4.02"),
        (numbers.BLOCK2, (b"\x06", b"\x06"), "4.02"),
        (numbers.CONTENT_FORMAT, (b"\x3c", b"\x00"), "2.05"),
        (numbers.SIZE1, (b"\x07", b"\xff\xff\xff\xff"), "2.05"),
        (numbers.URI_QUERY, (b"a", b"b"), "2.05"),
    ):
        asking = get("echo")
        for value in values:
            asking.opt.add_option(number.create_option(decode=value))
        assert (await connection.request(asking)).code.dotted == code, number
    assert seen == [(60, None), (None, 7), (None, None)]


async def test_authorization_precedes_resource_lookup_and_block_assembly(
    serve: Any, caller: CoapsClient
) -> None:
    def refuse(*_args: object) -> None:
        raise ProblemError("not-paired", "this device does not know you", "Pair.")

    served = await serve(authorise=refuse)
    connection = await caller.connect(served.address, pinned=None)
    known = await connection.request(get("echo"))
    unknown = await connection.request(get("nowhere"))
    assert (known.code, known.payload) == (unknown.code, unknown.payload)
    body = await connection.request(post("echo", payload=bytes(20_000)))
    assert body.code is Code.FORBIDDEN
    assert all(remote.blocks is None for remote in remotes_of(served.server))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 3])
async def test_every_request_is_answered_once_on_a_lossy_path(
    serve: Any, client: Identity, seed: int
) -> None:
    """With 30 % loss, duplicates and reordering both ways, each handler runs once per request."""
    served = await serve(limits=HASTY)
    impairment = Impairment(loss=0.3, duplicate=0.2, reorder=0.2, seed=seed)
    proxy = await Proxy.start(served.address, impairment)
    bodies = [f"{number}".encode() for number in range(5)]
    async with CoapsClient(client, limits=HASTY) as caller:
        connection = await caller.connect(
            proxy.address, pinned=served.identity.fingerprint, timeout=200
        )
        answers = await asyncio.gather(
            *(connection.request(post("echo", payload=body)) for body in bodies)
        )
    assert [answer.payload for answer in answers] == bodies
    assert sorted(served.echo.bodies) == bodies
    proxy.close()


async def test_unpaired_sessions_are_evicted_and_the_owners_session_is_kept(
    serve: Any, device: Identity
) -> None:
    served = await serve(
        limits=Limits(unpaired_sessions=2, unpaired_kept_seconds=0, sessions=6, session_reserve=2)
    )
    owner, other_clients = Identity.create(), [Identity.create() for _ in range(4)]
    served.priorities[owner.fingerprint] = SessionPriority.HIGH
    unpaired = [Identity.create() for _ in range(5)]
    for identity in unpaired:
        served.priorities[identity.fingerprint] = SessionPriority.LOW
    clients: list[CoapsClient] = []

    async def enter(identity: Identity) -> None:
        clients.append(CoapsClient(identity))
        await clients[-1].connect(served.address, pinned=device.fingerprint)

    await enter(owner)
    for identity in unpaired:
        await enter(identity)
    keys = [session.fingerprint for session in served.server.sessions()]
    assert [keys[0], keys[-1]] == [owner.fingerprint, unpaired[4].fingerprint]
    assert len(keys) == 3
    for identity in other_clients:
        await enter(identity)
    keys = [session.fingerprint for session in served.server.sessions()]
    assert owner.fingerprint in keys
    assert not {one.fingerprint for one in unpaired} & set(keys)
    assert len(keys) == 4  # two of the six sessions are reserved for the owner
    for one in clients:
        await one.close()


async def test_the_server_reports_its_bound_address_and_port(serve: Any) -> None:
    served = await serve()
    assert served.server.addresses == [Address("127.0.0.1", served.server.port)]


async def test_an_answer_over_the_limit_ends_the_session(serve: Any, client: Identity) -> None:
    served = await serve()

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=bytes(20_000))

    served.echo.render_get = render_get
    async with CoapsClient(client, limits=Limits(answer_body_bytes=5_000)) as modest:
        connection = await modest.connect(served.address, pinned=None)
        with pytest.raises(Unreachable, match="too large"):
            await connection.request(get("echo"))
        assert not connection.is_open


async def test_requests_with_one_token_in_one_loop_turn_leave_no_warning(
    serve: Any, caller: CoapsClient
) -> None:
    """A coroutine that is never awaited would raise a warning, which is an error in these tests."""
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    for number in range(4):
        message = get("echo")
        message.mtype, message.mid, message.token = aiocoap.CON, number, b"t"
        association_of(connection).send(message.encode())
    assert (await connection.request(get("echo"))).code is Code.CONTENT
    gc.collect()
