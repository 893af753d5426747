"""Requests of one client at a time, with bodies or answers in blocks (RFC 9175 §3)."""

import asyncio
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.limits import DEFAULT_LIMITS
from peer.net.client import CoapsClient

COUNT = DEFAULT_LIMITS.block_assemblies  # bodies that a device assembles at a time


@pytest.mark.parametrize("size", [1, 500, 5000])
async def test_the_bodies_of_parallel_requests_are_never_mixed(
    serve: Any, caller: CoapsClient, size: int
) -> None:
    """/echo returns the body: 5000 bytes need blocks in both directions."""
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    bodies = [bytes([number]) * (size + number) for number in range(COUNT)]

    async def echoed(body: bytes) -> bytes:
        request = aiocoap.Message(code=Code.POST, uri_path=("echo",), payload=body)
        answer = await connection.request(request)
        assert answer.code is Code.CHANGED
        return answer.payload

    assert await asyncio.gather(*map(echoed, bodies)) == bodies
    assert sorted(served.echo.bodies) == sorted(bodies)


async def test_parallel_requests_with_small_bodies_get_their_own_long_answers(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()

    async def repeated(request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=Code.CHANGED, payload=request.payload * 3000)

    served.echo.render_post = repeated
    connection = await caller.connect(served.address, pinned=None)

    async def answer(letter: bytes) -> bytes:
        request = aiocoap.Message(code=Code.POST, uri_path=("echo",), payload=letter)
        return (await connection.request(request)).payload

    letters = [bytes([65 + number]) for number in range(COUNT)]
    answers = await asyncio.gather(*map(answer, letters))
    assert answers == [letter * 3000 for letter in letters]
