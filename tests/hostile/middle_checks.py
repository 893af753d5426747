"""Pair a client through a man in the middle, and check which keys each side has stored."""

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
from tests.kit.middle import Middle, MiddleImpostor, TokenCollector, method_named, start_middle

if TYPE_CHECKING:
    from client_app.client import Client
    from tests.kit.device import Device, Kit
    from tests.kit.methods import Confirm
    from tests.kit.middle import Board

DIGITS = 3


async def pairs(
    client: Client, labelled_device: LabelledDevice, middle: Middle, way: str, confirm: Confirm
) -> Any:
    """Pair the client by the method `way`, with the man in the middle instead of the device."""
    if way == Method.LABEL:
        return await client.pair(labelled_device.label.text, at=middle.address, name="anna")
    return await client.pair(
        middle.address,
        name="anna",
        method=method_of(way),
        code=labelled_device.code_for(way),
        confirm=confirm,
    )


def stored_at(client: Client) -> list[Fingerprint]:
    return [one.fingerprint for one in client.devices]


def stored_on(device: Device) -> list[str]:
    return [key for user in device.users.users.values() for key in user.fingerprints]


def assert_no_one_paired(client: Client, device: Device) -> None:
    assert not client.devices
    assert not device.users.users


def assert_both_paired_with_attacker(client: Client, device: Device, middle: Middle) -> None:
    assert stored_at(client) == [middle.identity.fingerprint]
    assert stored_on(device) == [middle.identity.fingerprint.hex]


# -- a man in the middle that runs both halves of the ceremony ------------------------------------


class SearchingDevice(SasDevice):
    """A device half without a binding commitment: it picks its nonce last, to match the number."""

    def __init__(self, terms: Terms, attacker: MiddleImpostor) -> None:
        super().__init__(terms, random_bytes=secrets.token_bytes, digits=DIGITS)
        self._attacker = attacker

    def exchange_untrusted(self, message: Fields) -> Fields:
        client_nonce = bytes_field(message, "nonce")
        assert self._attacker.half is not None
        wanted, committed = self._attacker.half.number, self._nonce
        # The nonce of the commitment may match by chance; the attack is to open it with another.
        while self._nonce == committed or (
            sas.number(self._binding, client_nonce, self._nonce, digits=DIGITS) != wanted
        ):
            self._nonce = secrets.token_bytes(sas.NONCE_BYTES)
        return super().exchange_untrusted(message)


class _Board:
    """The real device half; with `reflects` it sends the client's tag back as its own."""

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


async def impostor(
    kit: Kit,
    labelled_device: LabelledDevice,
    way: str,
    *,
    guess: Callable[[], str] = str,
    searches: bool = False,
    reflects: bool = False,
) -> MiddleImpostor:
    """A man in the middle that runs a real half with each side. `guess` is the code it uses."""

    def board(terms: Terms, attacker: MiddleImpostor) -> Board:
        if way == Method.LABEL:
            return TokenCollector(terms)
        if searches:
            return _Board(SearchingDevice(terms, attacker), reflects=reflects)
        made = method_named(way, terms.channel.device, guess=guess()).create_side(terms)
        return _Board(made, reflects=reflects)

    def half(session: Session, attacker: MiddleImpostor) -> ClientSide:
        label = None
        if way == Method.LABEL:
            assert isinstance(attacker.board, TokenCollector)
            label = Label(session.device, attacker.board.token)
        return client_side_of(way, session, code=guess(), label=label)

    def make(identity: Identity, address: Address) -> Middle:
        return MiddleImpostor(identity, address, method=method_of(way), board=board, half=half)

    made = await start_middle(kit, labelled_device.device, way=way, make=make)
    assert isinstance(made, MiddleImpostor)
    return made
