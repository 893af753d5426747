"""A client that pairs through a man in the middle, and checks of who has paired with whom."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from peer.identity import Fingerprint, Identity
from peer.net.address import Address
from peer.pairing import sas
from peer.pairing.ceremony import Fields
from peer.pairing.label import Label
from peer.pairing.methods import Method
from peer.pairing.sas import SasDevice
from peer.pairing.sides import ClientSide, DeviceSide, Session, Terms, bytes_field
from tests.kit.methods import LabelledDevice, client_side_of, method_of
from tests.kit.middle import Imposter, Middle, TokenCollector, method_named, start_middle

if TYPE_CHECKING:
    from client_app.client import Client
    from tests.kit.device import Device, Kit
    from tests.kit.methods import Confirm
    from tests.kit.middle import Board

DIGITS = 3


async def pairs(
    client: Client, bearer: LabelledDevice, middle: Middle, way: str, confirm: Confirm
) -> Any:
    """The client's user does what the way asks, and meets the man in the middle."""
    if way == Method.LABEL:
        return await client.pair(bearer.label.text, at=middle.address, name="anna")
    return await client.pair(
        middle.address,
        name="anna",
        method=method_of(way),
        code=bearer.code_for(way),
        confirm=confirm,
    )


def stored_at(client: Client) -> list[Fingerprint]:
    return [one.fingerprint for one in client.devices]


def stored_on(device: Device) -> list[str]:
    return [key for user in device.users.users.values() for key in user.fingerprints]


def nobody_won(client: Client, device: Device) -> None:
    assert not client.devices
    assert not device.users.users


def both_are_his(client: Client, device: Device, middle: Middle) -> None:
    assert stored_at(client) == [middle.identity.fingerprint]
    assert stored_on(device) == [middle.identity.fingerprint.hex]


# -- who is a device to the one and a client to the other -----------------------------------------


class Searching(SasDevice):
    """Promises nothing: once all else is known, the nonce that makes the numbers equal."""

    def __init__(self, terms: Terms, him: Imposter) -> None:
        super().__init__(terms, random_bytes=secrets.token_bytes, digits=DIGITS)
        self._him = him

    def exchange_untrusted(self, message: Fields) -> Fields:
        client_nonce = bytes_field(message, "nonce")
        assert self._him.half is not None
        wanted = self._him.half.number
        while sas.number(self._binding, client_nonce, self._nonce, digits=DIGITS) != wanted:
            self._nonce = secrets.token_bytes(sas.NONCE_BYTES)
        return super().exchange_untrusted(message)


class _Board:
    """The product's device, or with a part of it that does something else."""

    def __init__(self, side: DeviceSide, *, reflects: bool = False) -> None:
        self.side, self._reflects, self._tag = side, reflects, b""

    def begin_untrusted(self, message: Fields) -> Fields:
        return self.side.begin_untrusted(message)

    def exchange_untrusted(self, message: Fields) -> Fields:
        return self.side.exchange_untrusted(message)

    def check_untrusted(self, message: Fields) -> None:
        self.side.check_untrusted(message)
        self._tag = bytes_field(message, "confirm")

    def device_tag(self) -> bytes:
        tag = self.side.device_tag()
        return self._tag if self._reflects else tag


async def imposter(
    kit: Kit,
    bearer: LabelledDevice,
    way: str,
    *,
    guess: Callable[[], str] = str,
    searches: bool = False,
    reflects: bool = False,
) -> Imposter:
    """An attacker with both ceremonies, by the product's halves. `guess` is his code at each."""

    def board(terms: Terms, him: Imposter) -> Board:
        if way == Method.LABEL:
            return TokenCollector(terms)
        if searches:
            return _Board(Searching(terms, him), reflects=reflects)
        made = method_named(way, terms.channel.device, guess=guess()).create_side(terms)
        return _Board(made, reflects=reflects)

    def half(session: Session, him: Imposter) -> ClientSide:
        label = None
        if way == Method.LABEL:
            assert isinstance(him.board, TokenCollector)
            label = Label(session.device, him.board.token)
        return client_side_of(way, session, code=guess(), label=label)

    def make(identity: Identity, address: Address) -> Middle:
        return Imposter(identity, address, method=method_of(way), board=board, half=half)

    made = await start_middle(kit, bearer.device, way=way, make=make)
    assert isinstance(made, Imposter)
    return made
