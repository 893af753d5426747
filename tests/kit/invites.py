"""Create and redeem invites, and decode their tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peer.pairing.invite import read_untrusted

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller

KEY = "ab" * 32
DAY = 86_400.0


async def redeemed(caller: Caller, token: str | bytes) -> Answer:
    signed = read_untrusted(token)[1] if isinstance(token, str) else token
    return await caller.ask("POST", "/iam/redeem", {"token": signed})


def signed(token: str) -> bytes:
    return read_untrusted(token)[1]


async def invited(inviter: Caller, name: str = "anna", **fields: object) -> dict[str, Any]:
    """Create an invite, and return the device's answer."""
    made = await inviter.ask("POST", "/iam/invites", {"name": name, **fields})
    assert made.code == "2.01", made
    assert tuple(made.message.opt.location_path) == ("iam", "invites", made.body["id"])
    found: dict[str, Any] = made.body
    return found
