"""Pairing requires the extended master secret (RFC 7627 §1)."""

import asyncio
from typing import Any

import pytest

from peer.dtls import openssl
from peer.errors import HandshakeFailed
from peer.identity import Fingerprint
from tests.kit.waiting import TIMEOUT_SECONDS


async def test_pairing_requires_the_extended_master_secret(
    board: Any, new_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No library here can disable the extension, so the client's check is made to report none."""
    await board.open()
    client = new_client(board)
    is_there = openssl.has_extended_master_secret

    def only_at_the_device(connection: Any) -> bool:
        own = connection.get_certificate().to_cryptography().public_key()
        return Fingerprint.of_public_key(own) == board.fingerprint and is_there(connection)

    monkeypatch.setattr(openssl, "has_extended_master_secret", only_at_the_device)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        with pytest.raises(HandshakeFailed, match="extended master secret"):
            await client.pair(board.pairing_address, name="anna", expect=board.fingerprint)
    assert client.devices == []
    assert not board.users
