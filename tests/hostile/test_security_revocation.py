"""A session ticket that was issued before a revocation is invalid after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiocoap

from peer.net.address import Address
from peer.net.problem import error_of

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device


async def test_a_revoked_key_cannot_resume_a_session(
    device: Device, owner: Caller, guest: Caller
) -> None:
    address = Address("127.0.0.1", device.port(pairing=False))

    async def connect_and_ask() -> tuple[bool, str]:
        connection = await guest.client.connect(address, pinned=device.fingerprint)
        hello = aiocoap.Message(code=aiocoap.GET, uri_path=("hello",))
        error = error_of(await connection.request(hello, timeout=20))
        return connection.resumed, type(error).__name__ if error else ""

    assert await connect_and_ask() == (False, "")
    assert await connect_and_ask() == (True, "")
    gone = await owner.ask("DELETE", f"/iam/users/gustav/keys/{guest.fingerprint}")
    assert gone.code == "2.02"
    assert await connect_and_ask() == (False, "NotPaired")
