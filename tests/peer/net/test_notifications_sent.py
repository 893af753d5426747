"""The device's side of Observe over real UDP: the newest state, in blocks, until it is rejected."""

from functools import partial
from typing import Any

import aiocoap
import pytest
from aiocoap.error import NotFound
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber

from peer.identity import Identity
from peer.limits import Limits
from peer.net import site
from peer.net.aiocoap_seam import response_blocks
from peer.net.client import CoapsClient
from peer.net.remote import ObserveNumbers
from peer.net.site import admit_none
from tests.kit.internals import observations_of, remotes_of, unacknowledged
from tests.kit.raw_client import GET, RawClient, message
from tests.kit.serve import admit_all
from tests.kit.waiting import skip_time, until

POST, FETCH = 2, 5
CON, NON, ACK = 0, 1, 2
LOCATION_QUERY, BLOCK2 = 20, 23
UNLIMITED = 600.0  # seconds; no retransmission takes place, except after `pass_timeout`
RANDOM_FACTOR = 1.5  # ACK_RANDOM_FACTOR, the longest (RFC 7252 §4.2)


@pytest.fixture(params=[admit_none, admit_all], ids=["aiocoap", "direct"])
def serve(serve: Any, request: pytest.FixtureRequest) -> Any:
    """A server that answers later blocks by aiocoap's path, or by the direct one."""
    return partial(serve, admit=request.param)


async def observing(served: Any, *, mtype: int = CON, token: bytes = b"t") -> RawClient:
    """A client that has the first answer to its registration."""
    raw = await RawClient.connect(served.address)
    raw.send(message(GET, "value", number=1, token=token, observe=0, mtype=mtype))
    await raw.until(1)
    return raw


def reset(number: int) -> bytes:
    return b"\x70\x00" + number.to_bytes(2)


async def replace_by(raw: RawClient, served: Any, value: int) -> None:
    """Change the value; the device has its new state for the next transmission."""
    served.value.set(value)
    await raw.handled()


def pass_timeout(repeats: int = 0) -> None:
    """Let the time pass after which a message is repeated that has been repeated so often."""
    skip_time(UNLIMITED * RANDOM_FACTOR * 2**repeats)


def show(served: Any, body: bytes) -> None:
    """Change the state of /value to `body`, and notify."""

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=body)

    served.value.render_get = render_get
    served.value.updated_state()


async def block(raw: RawClient, number: int) -> aiocoap.Message:
    """Request a block of 1024 bytes of /value."""
    before = len(raw.received)
    options = ((BLOCK2, (number << 4 | 6).to_bytes(2)),)
    raw.send(message(GET, "value", number=100 + before, token=b"b", options=options))
    return (await raw.until(before + 1))[before]


# -- the newest state -----------------------------------------------------------------------------


async def test_a_retransmission_is_replaced_by_the_newest_state(serve: Any) -> None:
    """The new state has the attempts that were left, and is the only message in flight."""
    served = await serve(limits=Limits(ack_timeout_seconds=UNLIMITED, max_retransmit=3))
    raw = await observing(served)
    served.value.set(1)
    for repeats, value in enumerate((2, 3, 4)):
        await raw.until(value)
        assert unacknowledged(served.server) == 1
        await replace_by(raw, served, value)
        pass_timeout(repeats)
    await raw.until(5)
    pass_timeout(3)
    await until(lambda: not observations_of(served.value))
    first, *sent = raw.received
    assert [one.payload for one in sent] == [b"1", b"2", b"3", b"4"]
    assert len({one.mid for one in sent}) == 4
    numbers = [one.opt.observe or 0 for one in (first, *sent)]
    assert numbers == sorted(set(numbers))
    assert not unacknowledged(served.server)
    await raw.close()


async def test_the_acknowledgement_of_a_replacement_ends_the_attempts(serve: Any) -> None:
    served = await serve(limits=Limits(ack_timeout_seconds=UNLIMITED))
    raw = await observing(served)
    served.value.set(1)
    old = (await raw.until(2))[1]
    await replace_by(raw, served, 2)
    pass_timeout()
    new = (await raw.until(3))[2]
    raw.acknowledge(old.mid)  # late; the new one is still to be acknowledged
    raw.acknowledge(new.mid)
    await raw.handled()
    assert not unacknowledged(served.server)
    served.value.set(3)
    assert (await raw.until(4))[3].payload == b"3"
    await raw.close()


async def test_a_notification_that_waits_behind_a_response_has_the_newest_state(
    serve: Any,
) -> None:
    served = await serve(limits=Limits(ack_timeout_seconds=UNLIMITED))
    raw = await observing(served)
    raw.send(message(GET, "late", number=2, token=b"l"))
    await raw.until(2)  # the request is acknowledged
    served.late.due.set()
    response = (await raw.until(3))[2]
    for value in (1, 2, 3):
        served.value.set(value)
        await raw.handled()
    raw.acknowledge(response.mid)
    notification = (await raw.until(4))[3]
    assert notification.payload == b"3"
    raw.acknowledge(notification.mid)
    await raw.handled()
    assert len(raw.received) == 4
    await raw.close()


async def test_registering_again_ends_the_retransmission_of_old_states(serve: Any) -> None:
    """The number also increases, and the old Message ID no longer ends the observation."""
    served = await serve(limits=Limits(ack_timeout_seconds=UNLIMITED))
    raw = await observing(served)
    served.value.set(1)
    old = (await raw.until(2))[1]
    raw.send(message(GET, "value", number=2, token=b"t", observe=0))
    again = (await raw.until(3))[2]
    assert again.mtype == ACK
    assert (again.opt.observe or 0) > (old.opt.observe or 0)
    assert not unacknowledged(served.server)
    pass_timeout()
    raw.send(reset(old.mid))
    await raw.handled()
    assert len(observations_of(served.value)) == 1
    served.value.set(2)
    new = (await raw.until(4))[3]
    assert (new.payload, len(raw.received)) == (b"2", 4)
    await raw.close()


async def test_deregistration_ends_the_retransmission(serve: Any) -> None:
    served = await serve(limits=Limits(ack_timeout_seconds=UNLIMITED))
    raw = await observing(served)
    served.value.set(1)
    await raw.until(2)
    raw.send(message(GET, "value", number=2, token=b"t", observe=1))
    answer = (await raw.until(3))[2]
    assert (answer.payload, answer.opt.observe) == (b"1", None)
    assert not unacknowledged(served.server)
    assert not observations_of(served.value)
    await raw.close()


async def test_numbers_increase_from_one_session_to_the_next(serve: Any) -> None:
    served = await serve()
    numbers = []
    for _ in range(3):
        raw = await observing(served)
        for value in range(1, 4):
            served.value.set(value)
            raw.acknowledge((await raw.until(1 + value))[value].mid)
        numbers += [one.opt.observe or 0 for one in raw.received]
        await raw.close()
    assert numbers == sorted(set(numbers))


def test_numbers_follow_a_clock_and_never_repeat() -> None:
    now = 1000.0
    numbers = ObserveNumbers(lambda: now)
    burst = [numbers.next() for _ in range(5)]
    assert burst == list(range(1_000_000, 1_000_005))
    now += 256
    assert 0 < numbers.next() - burst[-1] < 1 << 23  # newer by RFC 7641 §3.4
    assert ObserveNumbers(lambda: now + 1).next() > burst[-1]  # after a restart
    now = (1 << 24) / 1000
    assert numbers.next() == 0


# -- the end --------------------------------------------------------------------------------------


async def test_a_reset_of_the_answer_to_a_non_confirmable_request_ends_the_observation(
    serve: Any,
) -> None:
    served = await serve()
    raw = await observing(served, mtype=NON)
    (first,) = raw.received
    assert first.mtype is aiocoap.NON
    raw.send(reset(first.mid))
    await raw.handled()
    assert not observations_of(served.value)
    (remote,) = remotes_of(served.server)
    assert not remote.observing
    await raw.close()


async def test_a_reset_of_an_acknowledged_notification_ends_the_observation(serve: Any) -> None:
    served = await serve()
    raw = await observing(served)
    served.value.set(1)
    notification = (await raw.until(2))[1]
    raw.acknowledge(notification.mid)
    raw.send(reset(notification.mid + 1))  # of another message
    await raw.handled()
    assert len(observations_of(served.value)) == 1
    raw.send(reset(notification.mid))
    await raw.handled()
    assert not observations_of(served.value)
    await raw.close()


async def test_a_reset_of_a_replaced_notification_ends_the_observation(serve: Any) -> None:
    served = await serve(limits=Limits(ack_timeout_seconds=UNLIMITED))
    raw = await observing(served)
    served.value.set(1)
    old = (await raw.until(2))[1]
    await replace_by(raw, served, 2)
    pass_timeout()
    assert (await raw.until(3))[2].mid != old.mid
    raw.send(reset(old.mid))
    await raw.handled()
    assert not observations_of(served.value)
    assert not unacknowledged(served.server)
    await raw.close()


async def test_a_token_can_register_again_at_the_bound(serve: Any) -> None:
    served = await serve(limits=Limits(observations_per_session=2, observations_per_key=2))
    raw = await observing(served, token=b"a")
    for number, token in enumerate((b"b", b"a", b"b", b"a"), start=2):
        raw.send(message(GET, "value", number=number, token=token, observe=0))
        assert (await raw.until(number))[-1].code is Code.CONTENT
    raw.send(message(GET, "value", number=9, token=b"c", observe=0))
    assert (await raw.until(6))[-1].code is Code.TOO_MANY_REQUESTS
    assert len(observations_of(served.value)) == 2
    await raw.close()


async def test_observations_of_a_silent_session_give_way_to_those_of_its_successor(
    serve: Any, client: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that lost its path comes back while the device still has the old session."""
    served = await serve(limits=Limits(observations_per_key=1))
    old, new = [await RawClient.connect(served.address, client) for _ in range(2)]
    old.send(message(GET, "value", number=1, token=b"t", observe=0))
    await old.until(1)
    new.send(message(GET, "value", number=1, token=b"t", observe=0))
    assert (await new.until(1))[0].code is Code.TOO_MANY_REQUESTS
    assert old.is_open
    monkeypatch.setattr(site, "OBSERVER_SILENT_SECONDS", 0.0)
    new.send(message(GET, "value", number=2, token=b"t", observe=0))
    assert (await new.until(2))[1].code is Code.TOO_MANY_REQUESTS
    await until(lambda: not old.is_open)
    new.send(message(GET, "value", number=3, token=b"t", observe=0))
    assert (await new.until(3))[2].code is Code.CONTENT
    for raw in (old, new):
        await raw.close()


@pytest.mark.parametrize("code", [POST, FETCH], ids=["post", "fetch"])
async def test_other_methods_than_get_are_answered_once_without_observe(
    serve: Any, code: int
) -> None:
    served = await serve()

    async def answered(_request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=b"once")

    served.value.render_post = served.value.render_fetch = answered
    raw = await RawClient.connect(served.address)
    raw.send(message(code, "value", number=1, token=b"t", observe=0, payload=b"?"))
    answer = (await raw.until(1))[0]
    assert (answer.payload, answer.opt.observe) == (b"once", None)
    served.value.set(1)
    await raw.handled()
    assert len(raw.received) == 1
    assert not observations_of(served.value)
    await raw.close()


# -- what cannot be sent --------------------------------------------------------------------------


async def test_a_state_that_is_too_large_ends_its_observation_alone(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve(limits=Limits(answer_body_bytes=20_000))
    connection = await caller.connect(served.address, pinned=None)
    stream = connection.observe(aiocoap.Message(code=Code.GET, uri_path=("value",)))
    assert (await anext(stream)).payload == b"0"
    show(served, bytes(20_000))
    assert (await anext(stream)).payload == bytes(20_000)
    show(served, bytes(20_001))
    last = await anext(stream)
    assert (last.code, last.opt.observe) == (Code.INTERNAL_SERVER_ERROR, None)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert not observations_of(served.value)
    request = aiocoap.Message(code=Code.GET, uri_path=("value",))
    assert (await connection.request(request)).code is Code.INTERNAL_SERVER_ERROR
    assert connection.is_open


async def test_options_that_fit_no_datagram_end_an_observation_and_not_its_session(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    stream = connection.observe(aiocoap.Message(code=Code.GET, uri_path=("value",)))
    assert (await anext(stream)).payload == b"0"

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        answer = aiocoap.Message(payload=b"with options")
        for _ in range(5):
            option = OptionNumber(LOCATION_QUERY)
            answer.opt.add_option(option.create_option(decode=b"x" * 250))
        return answer

    served.value.render_get = render_get
    for _ in range(2):
        served.value.updated_state()
        assert (await anext(stream)).code is Code.INTERNAL_SERVER_ERROR
        await until(lambda: not observations_of(served.value))
        stream = connection.observe(aiocoap.Message(code=Code.GET, uri_path=("value",)))
        assert (await anext(stream)).code is Code.INTERNAL_SERVER_ERROR  # the registration too
        show(served, b"small again")
        stream = connection.observe(aiocoap.Message(code=Code.GET, uri_path=("value",)))
        assert (await anext(stream)).payload == b"small again"
        served.value.render_get = render_get
    assert connection.is_open


# -- blocks ---------------------------------------------------------------------------------------


async def test_the_blocks_of_a_notification_have_one_etag_and_no_observe(serve: Any) -> None:
    served = await serve()
    raw = await observing(served)
    tags = []
    for fill in (b"a", b"b"):
        show(served, fill * 2500)
        first = (await raw.until(len(raw.received) + 1))[-1]
        raw.acknowledge(first.mid)
        rest = [await block(raw, number) for number in (1, 2)]
        assert first.payload + rest[0].payload + rest[1].payload == fill * 2500
        assert (first.opt.block2, rest[1].opt.block2) == ((0, True, 6), (2, False, 6))
        assert first.opt.observe is not None
        assert [one.opt.observe for one in rest] == [None, None]
        (tag,) = {one.opt.etag for one in (first, *rest)}
        tags.append(tag)
    assert None not in tags
    assert tags[0] != tags[1]
    await raw.close()


async def test_a_body_that_is_being_fetched_is_not_replaced(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a body that changes faster than it is transferred would never arrive."""
    monkeypatch.setattr(response_blocks, "BODY_BEGIN_SECONDS", UNLIMITED)
    monkeypatch.setattr(response_blocks, "BODY_PAUSE_SECONDS", UNLIMITED)
    served = await serve()
    raw = await observing(served)
    show(served, b"a" * 2500)
    first = (await raw.until(2))[1]
    show(served, b"b" * 2500)
    raw.acknowledge(first.mid)
    assert (await block(raw, 1)).payload == b"a" * 1024
    show(served, b"c" * 2500)
    assert (await block(raw, 2)).payload == b"a" * 452
    assert (await raw.until(5))[4].payload == b"c" * 1024
    await raw.close()


async def test_a_body_that_is_not_fetched_delays_the_next_state_only_briefly(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as its second block may take, and not as long as a later one."""
    monkeypatch.setattr(response_blocks, "BODY_PAUSE_SECONDS", UNLIMITED)
    served = await serve()
    raw = await observing(served)
    for count, fill in enumerate((b"a", b"b", b"c"), start=2):
        show(served, fill * 2500)
        notification = (await raw.until(count))[-1]
        assert notification.payload == fill * 1024
        raw.acknowledge(notification.mid)
    await raw.close()


async def test_the_numbers_of_a_client_on_two_sessions_are_shared(
    serve: Any, client: Identity
) -> None:
    served = await serve()
    raws = [await RawClient.connect(served.address, client) for _ in range(2)]
    for raw in raws:
        raw.send(message(GET, "value", number=1, token=b"t", observe=0))
        await raw.until(1)
    first, second = (raw.received[0].opt.observe or 0 for raw in raws)
    assert second > first
    assert not unacknowledged(served.server)
    for raw in raws:
        await raw.close()


@pytest.mark.parametrize("failure", [NotFound(), RuntimeError("no reason")], ids=["4.04", "5.00"])
async def test_an_error_that_ends_an_observation_is_confirmable(
    serve: Any, failure: Exception
) -> None:
    """Also if the registration was not: a client that misses it would keep an old state."""
    served = await serve(limits=Limits(ack_timeout_seconds=0.05))
    raw = await observing(served, mtype=NON)

    async def render_get(_request: aiocoap.Message) -> aiocoap.Message:
        raise failure

    served.value.render_get = render_get
    served.value.updated_state()
    first, *sent = await raw.until(3)
    assert first.mtype == NON
    assert {one.mid for one in sent} == {sent[0].mid}
    assert sent[0].mtype == CON
    assert sent[0].opt.observe is None
    assert not observations_of(served.value)
    await raw.close()
