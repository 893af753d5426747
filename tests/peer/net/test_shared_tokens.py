"""Requests with the token of an observation (RFC 7641 §4.1, RFC 7959 §3.4), raw over real UDP.

A client should not use one token for both. CoAPthon3 asks for the other blocks of a notification
like that, and a client with one fixed token does it with every request.
"""

import asyncio
from dataclasses import replace
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type

from tests.kit.encoded import (
    BLOCK2,
    DELETE,
    FETCH,
    GET,
    OBSERVE,
    POST,
    PUT,
    URI_QUERY,
    Option,
    block,
    encoded,
    sent_as,
    uint,
)
from tests.kit.internals import incoming_requests, observations_of, remotes_of
from tests.kit.raw_client import RawClient
from tests.kit.serve import PATIENT
from tests.kit.waiting import until

TOKEN = b"ab"
REGISTER: Option = (OBSERVE, b"")
DEREGISTER: Option = (OBSERVE, uint(1))


class Client:
    """A raw client that uses one token for everything."""

    def __init__(self, served: Any, raw: RawClient) -> None:
        self.served = served
        self.raw = raw
        self._number = 0

    def send(self, code: int, *options: Option, path: str = "value", payload: bytes = b"") -> int:
        """Send a request; return its Message ID."""
        self._number += 1
        message = encoded(code, *options, path=path, token=TOKEN, payload=payload)
        self.raw.send(sent_as(message, Type.CON, self._number))
        return self._number

    async def ask(self, code: int, *options: Option, path: str = "value") -> aiocoap.Message:
        """Send a request; return the acknowledgement with its response."""
        number, before = self.send(code, *options, path=path), len(self.raw.received)
        answer = (await self.raw.until(before + 1))[before]
        assert (answer.mid, answer.mtype, answer.token) == (number, Type.ACK, TOKEN)
        return answer

    async def notified(self) -> aiocoap.Message:
        """Return the next message, a notification, and acknowledge it."""
        before = len(self.raw.received)
        self.served.value.updated_state()
        notification = (await self.raw.until(before + 1))[before]
        assert (notification.mtype, notification.token) == (Type.CON, TOKEN)
        assert notification.opt.observe is not None
        self.raw.acknowledge(notification.mid)
        return notification


async def observing(served: Any, size: int = 1) -> Client:
    """A client that observes /value, whose state has this size."""

    async def render_get(request: aiocoap.Message) -> aiocoap.Message:
        query = "".join(request.opt.uri_query)
        return aiocoap.Message(payload=query.encode() or bytes(size))

    served.value.render_get = render_get
    client = Client(served, await RawClient.connect(served.address))
    answer = await client.ask(GET, REGISTER)
    assert answer.opt.observe is not None
    return client


@pytest.mark.parametrize("more", [(), (REGISTER,)], ids=["without Observe", "with Observe"])
async def test_the_blocks_of_a_notification_can_be_fetched_with_its_token(
    serve: Any, more: tuple[Option, ...]
) -> None:
    client = await observing(await serve(), 2500)
    for _ in range(3):
        body = (await client.notified()).payload
        for number in (1, 2):
            answer = await client.ask(GET, *more, (BLOCK2, block(number)))
            assert (answer.code, answer.opt.observe) == (Code.CONTENT, None)
            body += answer.payload
        assert body == bytes(2500)
    assert len(observations_of(client.served.value)) == 1
    await client.raw.close()


@pytest.mark.parametrize(
    ("code", "options", "path"),
    [
        (GET, (), "value"),
        (GET, (), "echo"),
        (GET, (), "missing"),
        (GET, ((URI_QUERY, b"other"),), "value"),
        (GET, ((BLOCK2, block(0, szx=2)),), "value"),
        (GET, ((BLOCK2, block(9)),), "value"),
        (GET, ((OBSERVE, uint(2)),), "value"),
        (POST, (), "echo"),
        (PUT, (), "value"),
        (DELETE, (), "value"),
        (FETCH, (REGISTER,), "value"),
        (POST, (DEREGISTER,), "echo"),
    ],
)
async def test_no_request_ends_the_observation_with_its_token(
    serve: Any, code: int, options: tuple[Option, ...], path: str
) -> None:
    client = await observing(await serve())
    answer = await client.ask(code, *options, path=path)
    assert answer.opt.observe is None
    assert (await client.notified()).code is Code.CONTENT
    assert len(observations_of(client.served.value)) == 1
    await client.raw.close()
    await until(lambda: not incoming_requests(client.served.server))


@pytest.mark.parametrize("path", ["value", "echo", "missing"])
async def test_observe_1_ends_the_observation_with_its_token(serve: Any, path: str) -> None:
    client = await observing(await serve())
    assert (await client.ask(GET, DEREGISTER, path=path)).opt.observe is None
    assert not observations_of(client.served.value)
    (remote,) = remotes_of(client.served.server)
    assert not remote.observing
    assert not incoming_requests(client.served.server)
    await client.raw.close()


async def test_observe_1_with_another_token_ends_nothing(serve: Any) -> None:
    client = await observing(await serve())
    client.raw.send(sent_as(encoded(GET, DEREGISTER, path="value", token=b"x"), Type.CON, 99))
    await client.raw.until(2)
    assert len(observations_of(client.served.value)) == 1
    await client.notified()
    await client.raw.close()


async def test_a_notification_does_not_take_the_acknowledgement_of_a_request(serve: Any) -> None:
    """The response to the request is a message of its own then, with the request's token."""
    served = await serve()
    client = await observing(served)
    number = client.send(GET, path="late")
    await client.raw.handled()
    served.value.updated_state()
    _, acknowledgement, notification = await client.raw.until(3)
    assert (acknowledgement.mid, acknowledgement.code) == (number, Code.EMPTY)
    assert notification.mtype is Type.CON
    assert notification.opt.observe is not None
    client.raw.acknowledge(notification.mid)
    served.late.due.set()
    response = (await client.raw.until(4))[3]
    assert (response.payload, response.opt.observe) == (b"better late", None)
    client.raw.acknowledge(response.mid)
    await client.notified()
    await client.raw.close()


async def test_a_reset_of_the_response_to_a_request_ends_no_observation(serve: Any) -> None:
    served = await serve()
    client = await observing(served)
    client.send(GET, path="late")
    await client.raw.until(2)
    served.late.due.set()
    response = (await client.raw.until(3))[2]
    client.raw.send(b"\x70\x00" + response.mid.to_bytes(2))
    await client.raw.handled()
    assert len(observations_of(served.value)) == 1
    await client.notified()
    await client.raw.close()


async def test_requests_beside_observations_are_bounded_like_others(serve: Any) -> None:
    served = await serve(limits=replace(PATIENT, requests_per_session=1))
    client = await observing(served)
    other = encoded(GET, path="late", token=b"other")
    client.raw.send(sent_as(other, Type.CON, 99))
    await client.raw.until(2)  # the request is acknowledged, and has no answer
    assert (await client.ask(GET)).code is Code.TOO_MANY_REQUESTS
    await client.notified()
    await client.raw.close()


async def test_the_end_of_a_session_ends_both_requests_with_one_token(serve: Any) -> None:
    served = await serve()
    client = await observing(served)
    client.send(GET, path="late")
    async with asyncio.timeout(20):
        await client.raw.handled()
    assert len(incoming_requests(served.server)) == 2
    await client.raw.close()
    await until(lambda: not incoming_requests(served.server))
    await until(lambda: not observations_of(served.value))
