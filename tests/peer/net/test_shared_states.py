"""A state that is the same for all observers: rendered once, authorized and numbered for each."""

import asyncio
from typing import Any, cast

import aiocoap
from aiocoap.numbers.codes import Code

from peer.identity import Identity
from peer.limits import SHARED_STATES, Limits
from peer.net.aiocoap_seam.shared_messages import SharedMessage
from peer.net.problem import ProblemError
from peer.net.remote import peer_of
from peer.net.shared_states import SharedStates
from tests.kit.internals import observations_of, unacknowledged
from tests.kit.raw_client import GET, RawClient, message
from tests.kit.waiting import until

OBSERVERS = 5
URI_QUERY = 15
NO_RESPONSE = 258
PATIENT = Limits(ack_timeout_seconds=600)


class Asked:
    """Counts the renderings of a resource by query, and can make each one wait."""

    def __init__(self, resource: Any) -> None:
        self.queries: list[tuple[str, ...]] = []
        self.gates: dict[int, asyncio.Event] = {}
        self._resource = resource
        resource.render_get = self

    async def __call__(self, request: aiocoap.Message) -> aiocoap.Message:
        query = tuple(request.opt.uri_query)
        self.queries.append(query)
        found = f"{self._resource.value}{query}"
        if gate := self.gates.get(len(self.queries)):
            await gate.wait()
        return aiocoap.Message(payload=found.encode(), content_format=0)


async def registered(served: Any, number: int, *, query: str = "", **options: Any) -> RawClient:
    """A client that has asked to observe the value."""
    raw = await RawClient.connect(served.address, **options)
    asking = ((URI_QUERY, query.encode()),) if query else ()
    token = bytes([number])
    raw.send(message(GET, "value", number=1, token=token, observe=0, options=asking))
    return raw


async def observer(served: Any, number: int, *, query: str = "", **options: Any) -> RawClient:
    """A client that observes the value."""
    raw = await registered(served, number, query=query, **options)
    await raw.until(1)
    return raw


async def notified(raws: list[RawClient], number: int) -> list[aiocoap.Message]:
    """The message of this number that each observer has got, after it was acknowledged."""
    found = []
    for raw in raws:
        found.append((await raw.until(number))[number - 1])
        raw.acknowledge(found[-1].mid)
        await raw.handled()
    return found


async def end(raws: list[RawClient]) -> None:
    for raw in raws:
        await raw.close()


async def test_a_change_is_rendered_once_for_all_observers(serve: Any) -> None:
    served = await serve(same_for_all=True, limits=PATIENT)
    asked = Asked(served.value)
    raws = [await observer(served, number) for number in range(OBSERVERS)]
    assert len(asked.queries) == OBSERVERS  # the answer to a registration is always a new one
    for change in (1, 2, 3):
        served.value.set(change)
        found = await notified(raws, change + 1)
        assert {one.payload for one in found} == {f"{change}()".encode()}
        assert [one.token for one in found] == [bytes([number]) for number in range(OBSERVERS)]
        assert len(asked.queries) == OBSERVERS + change
    for raw in raws:
        numbers = [one.opt.observe or 0 for one in raw.received]
        assert numbers == sorted(set(numbers))
    await end(raws)


async def test_by_default_each_observer_is_asked_for(serve: Any) -> None:
    served = await serve(limits=PATIENT)
    asked = Asked(served.value)
    raws = [await observer(served, number) for number in range(OBSERVERS)]
    served.value.set(1)
    await notified(raws, 2)
    assert len(asked.queries) == 2 * OBSERVERS
    await end(raws)


async def test_each_observer_is_authorized_by_itself(serve: Any) -> None:
    """One of them loses its right between the rendering and its turn, and gets no state."""
    refused: set[str] = set()

    def authorise(request: aiocoap.Message, *_more: object) -> None:
        if peer_of(request).fingerprint.hex in refused:
            raise ProblemError("denied", "no", "Ask.")

    served = await serve(same_for_all=True, limits=PATIENT, authorise=authorise)
    asked = Asked(served.value)
    keys = [Identity.create() for _ in range(OBSERVERS)]
    raws = [await observer(served, n, identity=key) for n, key in enumerate(keys)]
    refused.add(keys[2].fingerprint.hex)
    served.value.set(1)
    found = await notified(raws, 2)
    codes = [one.code for one in found]
    assert codes == [Code.CONTENT] * 2 + [Code.FORBIDDEN] + [Code.CONTENT] * 2
    assert found[2].payload != found[0].payload
    assert found[2].opt.observe is None
    assert len(asked.queries) == OBSERVERS + 1
    assert len(observations_of(served.value)) == OBSERVERS - 1
    await end(raws)


async def test_requests_that_differ_share_nothing(serve: Any) -> None:
    served = await serve(same_for_all=True, limits=PATIENT)
    asked = Asked(served.value)
    raws = [await observer(served, n, query=f"q={n % 2}") for n in range(4)]
    served.value.set(1)
    found = await notified(raws, 2)
    assert [one.payload for one in found] == [f"1('q={n % 2}',)".encode() for n in range(4)]
    assert sorted(asked.queries[4:]) == [("q=0",), ("q=1",)]
    await end(raws)


async def test_many_different_requests_keep_a_bounded_number_of_states(serve: Any) -> None:
    served = await serve(same_for_all=True, limits=PATIENT)
    asked = Asked(served.value)
    raws = [await observer(served, n, query=f"q={n}") for n in range(SHARED_STATES + 3)]
    raws += [await observer(served, n, query=f"q={n}") for n in range(SHARED_STATES + 3)]
    before = len(asked.queries)
    served.value.set(1)
    await notified(raws, 2)
    assert len(asked.queries) - before == SHARED_STATES + 2 * 3
    await end(raws)


async def test_a_change_during_a_rendering_reaches_every_observer(serve: Any) -> None:
    """A state that was rendered before the change is not kept for later observers."""
    served = await serve(same_for_all=True, limits=PATIENT)
    asked = Asked(served.value)
    raws = [await observer(served, number) for number in range(2)]
    gate = asked.gates[3] = asyncio.Event()
    served.value.set(1)
    # One observer's state is rendered while that of the other one waits.
    await until(lambda: sum(len(raw.received) for raw in raws) == 3)
    raws.sort(key=lambda raw: len(raw.received), reverse=True)  # that one is next
    served.value.set(2)
    gate.set()
    for raw in raws:
        answered = (await raw.until(2))[1]
        assert answered.payload == b"1()"
        raw.acknowledge(answered.mid)
        assert (await raw.until(3))[2].payload == b"2()"
        numbers = [one.opt.observe or 0 for one in raw.received]
        assert numbers == sorted(set(numbers))
    await end(raws)


async def test_no_observer_gets_a_state_with_an_older_number_than_its_last(serve: Any) -> None:
    """It registers before a change, and gets the answer after others were notified of that."""
    served = await serve(same_for_all=True, limits=PATIENT)
    asked = Asked(served.value)
    early = await observer(served, 0)
    gate = asked.gates[2] = asyncio.Event()
    late = await registered(served, 1)
    await late.handled()
    served.value.set(1)
    await early.until(2)
    gate.set()
    answer, state = (await late.until(2))[-2:]
    if not answer.code.is_response():  # the acknowledgement of the registration
        answer, state = (await late.until(3))[-2:]
    assert (answer.payload, state.payload) == (b"0()", b"1()")
    assert (answer.opt.observe or 0) < (state.opt.observe or 0)
    await end([early, late])


async def test_a_shared_state_is_retransmitted_to_each_with_its_own_token(serve: Any) -> None:
    served = await serve(same_for_all=True, limits=Limits(ack_timeout_seconds=0.05))
    Asked(served.value)
    raws = [await observer(served, number) for number in range(2)]
    served.value.set(1)
    for number, raw in enumerate(raws):
        _, first, again = await raw.until(3)
        assert (first.mid, first.token, first.payload) == (again.mid, again.token, again.payload)
        assert first.token == bytes([number])
    await end(raws)


async def shared_by_two(served: Any) -> list[RawClient]:
    """Two observers. Each state is rendered for one of them, and the other gets the same."""
    return [await observer(served, number) for number in range(2)]


async def test_a_shared_state_waits_behind_a_response_that_is_not_acknowledged(serve: Any) -> None:
    """One confirmable message at a time (NSTART, RFC 7252 §4.7)."""
    served = await serve(same_for_all=True, limits=PATIENT)
    raws = await shared_by_two(served)
    for raw in raws:
        raw.send(message(GET, "late", number=2, token=b"l"))
        await raw.until(2)  # the request is acknowledged
    served.late.due.set()
    for raw in raws:
        await raw.until(3)
    served.value.set(1)
    for raw in raws:
        await raw.handled()
        assert len(raw.received) == 3
    for raw in raws:
        raw.acknowledge(raw.received[2].mid)
        assert (await raw.until(4))[3].payload == b"1"
    await end(raws)


async def test_a_reset_of_a_shared_state_ends_that_observation_alone(serve: Any) -> None:
    """Also if it was acknowledged before."""
    served = await serve(same_for_all=True, limits=PATIENT)
    raws = await shared_by_two(served)
    served.value.set(1)
    for left, raw in ((1, raws[0]), (0, raws[1])):
        number = (await raw.until(2))[1].mid
        raw.acknowledge(number)
        raw.send(b"\x70\x00" + number.to_bytes(2))
        await raw.handled()
        assert len(observations_of(served.value)) == left
        assert unacknowledged(served.server) == left
    await end(raws)


async def test_the_acknowledgement_of_another_session_has_no_effect(serve: Any) -> None:
    served = await serve(same_for_all=True, limits=PATIENT)
    first, second = await shared_by_two(served)
    served.value.set(1)
    found = (await first.until(2))[1], (await second.until(2))[1]
    first.acknowledge(found[1].mid)
    second.acknowledge(found[1].mid + 1)
    await first.handled()
    await second.handled()
    assert unacknowledged(served.server) == 2
    second.acknowledge(found[1].mid)
    await second.handled()
    assert unacknowledged(served.server) == 1
    await end([first, second])


async def test_an_observer_that_wants_no_response_gets_no_shared_state(serve: Any) -> None:
    """It asks for none of class 2 (RFC 7967 §2.1); its registration is acknowledged at most."""
    served = await serve(same_for_all=True, limits=PATIENT)
    first, *silent = [await observer(served, 0)] + [
        await RawClient.connect(served.address) for _ in range(3)
    ]
    option = ((NO_RESPONSE, b"\x02"),)
    for raw in silent:
        raw.send(message(GET, "value", number=1, token=b"s", observe=0, options=option))
    await until(lambda: len(observations_of(served.value)) == 4)
    for change in (1, 2):
        served.value.set(change)
        await notified([first], change + 1)
    for raw in silent:
        await raw.handled()
        assert not [one for one in raw.received if one.code.is_response()]
    await end([first, *silent])


def test_a_change_forgets_each_rendering() -> None:
    """An observer that has not been notified of the state before must not get that one instead."""
    states, kept = SharedStates(), cast(SharedMessage, object())
    states.keep("key", kept, version=states.version)
    assert states.find("key") is kept
    states.changed()
    assert states.find("key") is None
    states.keep("key", kept, version=states.version - 1)
    assert states.find("key") is None, "it was rendered before the change"
