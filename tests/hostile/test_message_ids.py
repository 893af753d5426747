"""A request with a reused message ID or token never gets the answer to another request.

`make soak` covers 200,000 requests. Here the message IDs wrap around early: inside the
deduplication window, and just outside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiocoap
import aiocoap.resource
import pytest

from tests.kit.device import HASTY, Caller, Device, Kit
from tests.kit.internals import messages_of, remotes_of, reuse_token
from tests.kit.waiting import TIMEOUT_SECONDS

REQUESTS = 1000


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    """No request is repeated: with one ID and token, the second answer is that of the next one."""
    made = Kit(tmp_path / "home", limits=replace(HASTY, ack_timeout_seconds=TIMEOUT_SECONDS))
    yield made
    await made.close()


class Echo(aiocoap.resource.Resource):
    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        self.bodies.append(bytes(request.payload))
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload, content_format=0)


@pytest.mark.parametrize("different", [1, 40, 300])
@pytest.mark.parametrize("same_token", [False, True])
async def test_a_reused_message_id_gets_the_answer_to_its_own_request(
    device: Device, owner: Caller, different: int, same_token: bool
) -> None:
    echo = Echo()
    device.app.site.add(("echo",), echo)
    device.app.guard.rules.add(("echo",), {"POST": "Hello:Get"})
    await owner.connect()
    messages = messages_of(owner.client)
    for number in range(REQUESTS):
        messages.message_id = 5000 + number % different
        if same_token:
            reuse_token(owner.client, 7)
        body = b"request %d" % number
        answer = await owner.ask("POST", "/echo", raw=body, ct=0)
        assert answer.payload == body
    assert len(echo.bodies) == REQUESTS
    [remote] = [
        one
        for one in remotes_of(device.app.server)
        if one.peer.fingerprint.hex == owner.fingerprint
    ]
    assert len(remote.recent) <= min(different, device.app.settings.limits.dedup_window) + 1
