"""A man in the middle of client and device, with a real DTLS session to each, in every method.

He carries over what they say, or is a whole device to the one and a whole client to the other; he
takes methods out of the offer; he says that all was settled long ago. Each attack is made twice: on
our code, and on our code without the defence that it is about, where he has to win.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from client_app import client as client_module
from client_app.client import Comparison
from client_app.errors import Declined
from client_app.pairing import arguments, ceremony, method_choice
from client_app.pairing.method_choice import MethodInputs
from peer.errors import PinMismatch, RefusedByUser, UsageError, WrongCode
from peer.identity import Fingerprint, Identity
from peer.net.address import Address
from peer.pairing import code, sas, typed
from peer.pairing.binding import Channel, Confirmation
from peer.pairing.ceremony import Fields
from peer.pairing.errors import Mismatch
from peer.pairing.jpake import EcJpake
from peer.pairing.label import Label, LabelClient
from peer.pairing.methods import Method, MethodSpec
from peer.pairing.sas import SasClient, SasDevice
from peer.pairing.sides import ClientSide, DeviceSide, Session, Terms, bytes_field
from tests.kit.methods import (
    PRINTED,
    WAYS,
    Bearer,
    Imposter,
    Middle,
    Taking,
    between,
    client_at,
    half_of,
    hiding,
    labelled,
    method_named,
    method_of,
    nobody,
    offering,
    said,
    two_people,
)

if TYPE_CHECKING:
    from client_app.client import Client
    from tests.kit.device import Device, Kit
    from tests.kit.methods import Board, Confirm

DIGITS = 3
Remove = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The man in the middle does not notify, so the client looks again: here without a pause."""
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)


async def pairs(client: Client, bearer: Bearer, middle: Middle, way: str, confirm: Confirm) -> Any:
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


# -- defences, to be taken out --------------------------------------------------------------------


def without_pin(middle: Middle, patch: pytest.MonkeyPatch) -> None:
    """A client that accepts any device in place of the labelled one."""
    real = arguments.parse_label

    def any_device(text: str) -> Label | None:
        label = real(text)
        return label and Label(middle.identity.fingerprint, label.token)

    patch.setattr(client_module, "parse_label", any_device)


def without_binding(patch: pytest.MonkeyPatch) -> None:
    """Nothing says any more which session, keys, method and role are meant."""
    derived = Confirmation.derive.__func__  # type: ignore[attr-defined]

    def anywhere(
        cls: type[Confirmation], _ekm: bytes, salt: bytes, method: str, *, transcript: bytes = b""
    ) -> Confirmation:
        made: Confirmation = derived(cls, bytes(32), salt, method, transcript=transcript)
        return made

    def unbound(role: str, secret: bytes, *, random_bytes: Any, **_: Any) -> EcJpake:
        return EcJpake(role, secret, profile="handfast", random_bytes=random_bytes)

    patch.setattr(Confirmation, "derive", classmethod(anywhere))
    patch.setattr(Channel, "binding", lambda _self, **_: bytes(32))
    patch.setattr(code, "EcJpake", unbound)
    patch.setattr(code, "identities", lambda *_: {"client": b"C", "server": b"D"})
    patch.setattr(typed, "printed_secret", lambda symbols, _device: symbols.encode())


def without_sides(patch: pytest.MonkeyPatch) -> None:
    """Both sides' tags are the same."""
    derived = Confirmation.derive.__func__  # type: ignore[attr-defined]
    code_tags = code._derive_tags

    def alike(tags: Confirmation) -> Confirmation:
        return Confirmation(tags.client_tag, tags.client_tag)

    patch.setattr(
        Confirmation,
        "derive",
        classmethod(lambda *args, **named: alike(derived(*args, **named))),
    )
    patch.setattr(code, "_derive_tags", lambda *args: alike(code_tags(*args)))


class NoCommitment(SasClient):
    """Takes any nonce of the device."""

    def _is_committed(self, _device_nonce: bytes) -> bool:
        return True


# -- who carries over -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_carrying_over_what_they_say_wins_neither(
    kit: Kit, device: Device, tmp_path: Path, way: str
) -> None:
    """Not even if both users say yes to anything, and type the right code."""
    bearer = labelled(device)
    middle = await between(kit, device, hiding, way=way)
    client = client_at(kit, tmp_path)
    careless, _ = two_people(device, careful=False)
    with pytest.raises(PinMismatch if way == Method.LABEL else WrongCode):
        await pairs(client, bearer, middle, way, careless)
    nobody_won(client, device)
    if way == Method.LABEL:
        assert not middle.relayed, "he heard something"


@pytest.mark.parametrize("way", WAYS)
async def test_carrying_over_wins_both_where_nothing_names_the_session(
    kit: Kit, device: Device, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_binding(monkeypatch)
    bearer = labelled(device)
    middle = await between(kit, device, hiding, way=way)
    without_pin(middle, monkeypatch)
    client = client_at(kit, tmp_path)
    careful, looks = two_people(device, careful=way != Method.COMPARE)
    await pairs(client, bearer, middle, way, careful)
    both_are_his(client, device, middle)
    if way == Method.SAS:
        [(here, there)] = looks
        assert here == there, "the users saw the same number"


@pytest.mark.parametrize("way", [way for way in WAYS if way != Method.LABEL])
async def test_the_clients_own_tag_sent_back_is_not_the_devices(
    kit: Kit, device: Device, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He plays the device and reflects the last message; for a code, he may even know it. Where
    both tags are the same, he needs no key for that."""
    for weak in (False, True):
        if weak:
            without_sides(monkeypatch)
        bearer = labelled(device)
        middle = await imposter(
            kit, bearer, way, guess=partial(bearer.code_for, way), reflects=True
        )
        client = client_at(kit, tmp_path)
        careless, _ = two_people(device, careful=False)
        if weak:
            await pairs(client, bearer, middle, way, careless)
            assert stored_at(client) == [middle.identity.fingerprint]
        else:
            with pytest.raises(WrongCode):
                await pairs(client, bearer, middle, way, careless)
            assert not client.devices
            for name in list(device.users.users):
                device.app.access.registry.remove_user(None, name)


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
    bearer: Bearer,
    way: str,
    *,
    guess: Callable[[], str] = str,
    searches: bool = False,
    reflects: bool = False,
) -> Imposter:
    """An attacker with both ceremonies, by the product's halves. `guess` is his code at each."""

    def board(terms: Terms, him: Imposter) -> Board:
        if way == Method.LABEL:
            return Taking(terms)
        if searches:
            return _Board(Searching(terms, him), reflects=reflects)
        made = method_named(way, terms.channel.device, guess=guess()).create_side(terms)
        return _Board(made, reflects=reflects)

    def half(session: Session, him: Imposter) -> ClientSide:
        label = None
        if way == Method.LABEL:
            assert isinstance(him.board, Taking)
            label = Label(session.device, him.board.token)
        return half_of(way, session, code=guess(), label=label)

    def make(identity: Identity, address: Address) -> Middle:
        return Imposter(identity, address, method=method_of(way), board=board, half=half)

    made = await between(kit, bearer.device, way=way, make=make)
    assert isinstance(made, Imposter)
    return made


async def test_users_who_compare_do_not_take_him_for_the_other(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """With two whole ceremonies of his, nothing but the users is left of `compare`."""
    for careful in (True, False):
        bearer = labelled(device)
        middle = await imposter(kit, bearer, Method.COMPARE)
        client = client_at(kit, tmp_path)
        confirm, looks = two_people(device, careful=careful)
        if careful:
            with pytest.raises((Declined, RefusedByUser)):
                await pairs(client, bearer, middle, Method.COMPARE, confirm)
            nobody_won(client, device)
        else:
            await pairs(client, bearer, middle, Method.COMPARE, confirm)
            both_are_his(client, device, middle)
        [(here, there)] = looks
        assert here != there


async def test_six_digits_differ_if_there_are_two_ceremonies(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """He does all as he should, and hopes: one chance in a million."""
    bearer = labelled(device)
    middle = await imposter(kit, bearer, Method.SAS)
    client = client_at(kit, tmp_path)
    careful, looks = two_people(device, careful=True)
    with pytest.raises((Declined, RefusedByUser)):
        await pairs(client, bearer, middle, Method.SAS, careful)
    [(here, there)] = looks
    assert here != there
    nobody_won(client, device)


@pytest.mark.parametrize("weak", [False, True])
async def test_breaking_the_commitment_over_the_wire(
    kit: Kit, device: Device, tmp_path: Path, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He knows the device's number before he shows the client a nonce, and searches one that fits.

    A client that does not look at the commitment shows what the device shows: users who compare
    every digit say yes, and both are his.
    """
    bearer = labelled(device)
    client_side = NoCommitment if weak else SasClient
    monkeypatch.setattr(method_choice, "SasClient", partial(client_side, digits=DIGITS))
    monkeypatch.setattr("tests.kit.methods.SasClient", partial(SasClient, digits=DIGITS))
    monkeypatch.setattr(sas, "SasDevice", partial(SasDevice, digits=DIGITS))
    middle = await imposter(kit, bearer, Method.SAS, searches=True)
    client = client_at(kit, tmp_path)
    careful, looks = two_people(device, careful=True)
    if weak:
        await pairs(client, bearer, middle, Method.SAS, careful)
        [(here, there)] = looks
        assert here == there
        both_are_his(client, device, middle)
    else:
        with pytest.raises(WrongCode, match="commitment"):
            await pairs(client, bearer, middle, Method.SAS, careful)
        assert not looks, "no number was shown"
        nobody_won(client, device)


@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize("way", [Method.CODE, PRINTED])
async def test_a_code_lets_him_guess_once_at_each_side(
    kit: Kit, device: Device, tmp_path: Path, way: str, knows: bool
) -> None:
    """Two ceremonies with a guess of his. With the code itself, as if he had guessed right, he has
    both; with another he has nothing, and his guess is spent."""
    bearer = labelled(device)
    guess = partial(bearer.code_for if knows else bearer.wrong_code_for, way)
    middle = await imposter(kit, bearer, way, guess=guess)
    client = client_at(kit, tmp_path)
    if knows:
        await pairs(client, bearer, middle, way, nobody)
        both_are_his(client, device, middle)
        return
    before = bearer.shown
    with pytest.raises(WrongCode):
        await pairs(client, bearer, middle, way, nobody)
    nobody_won(client, device)
    assert middle.learned is not None
    assert device.app.pairing.budget.failures == 1
    assert bearer.shown not in {before, ""}


@pytest.mark.parametrize("weak", [False, True])
async def test_the_token_of_a_label_is_not_shown_to_another_device(
    kit: Kit, device: Device, tmp_path: Path, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bearer = labelled(device)
    middle = await imposter(kit, bearer, Method.LABEL)
    client = client_at(kit, tmp_path)
    if weak:
        without_pin(middle, monkeypatch)
        await pairs(client, bearer, middle, Method.LABEL, nobody)
        assert isinstance(middle.board, Taking)
        assert middle.board.token == bearer.label.token
        both_are_his(client, device, middle)
    else:
        with pytest.raises(PinMismatch):
            await pairs(client, bearer, middle, Method.LABEL, nobody)
        assert not middle.relayed
        nobody_won(client, device)
    assert arguments.parse_label(bearer.label.text) == bearer.label


async def test_behind_the_pin_the_token_has_two_more_guards(device: Device) -> None:
    """Each looks at the key once more, should the one in front of it be lost."""
    bearer = labelled(device)
    session = Session(bytes(32), Identity.create().fingerprint, Identity.create().fingerprint)
    with pytest.raises(PinMismatch):
        (await MethodInputs(label=bearer.label).side_maker(Method.LABEL))(session)
    with pytest.raises(Mismatch):
        LabelClient(session, bearer.label)


@pytest.mark.parametrize("weak", [False, True])
async def test_the_button_proves_nothing_and_gives_next_to_nothing(
    kit: Kit, device: Device, tmp_path: Path, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He can always be first; so he is an unverified guest, whatever the window gives.
    Where the method passes for one that proves a key, he is an owner."""
    if weak:
        monkeypatch.setattr(Method, "spec", MethodSpec())
    bearer = labelled(device)
    middle = await imposter(kit, bearer, Method.BUTTON)
    await device.closed()
    await device.open(role="owner", pressed=True)
    await middle.close()
    middle = Imposter(
        middle.identity,
        Address("127.0.0.1", device.port(pairing=True)),
        method=Method.BUTTON,
        board=middle._make_board,
        half=middle._make_half,
    )
    await middle.start()
    kit.at_end(middle.close)
    client = client_at(kit, tmp_path)
    await pairs(client, bearer, middle, Method.BUTTON, nobody)
    [user] = device.users.users.values()
    [key] = user.keys
    assert user.fingerprints == {middle.identity.fingerprint.hex}
    assert (user.role, key.verified) == (("owner", True) if weak else ("guest", False))


# -- who takes methods out of the offer -----------------------------------------------------------


async def code_of(text: str = "0000-0000") -> str:
    return text


BROUGHT: dict[str, dict[str, Any]] = {
    "eyes": {"confirm": nobody},
    "a code": {"code": "1234-5678"},
    "both": {"confirm": nobody, "code": "1234-5678"},
    "a user to ask for a code": {"confirm": nobody, "code": code_of},
}


@pytest.mark.parametrize("brought", BROUGHT)
@pytest.mark.parametrize("left", [(), ("button",), ("button", "label"), ("trust-me", "button")])
async def test_a_client_whose_methods_are_taken_away_does_not_take_the_button(
    kit: Kit, device: Device, tmp_path: Path, brought: str, left: tuple[str, ...]
) -> None:
    middle = await between(kit, device, offering(*left), way=Method.BUTTON)
    client = client_at(kit, tmp_path)
    with pytest.raises(UsageError):
        await client.pair(middle.address, **BROUGHT[brought])
    nobody_won(client, device)
    assert [code for code, _ in middle.relayed] == ["GET"], "no ceremony was started"


async def test_a_client_that_takes_what_comes_first_is_his(
    kit: Kit, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with a client that would rather use any method than none."""
    monkeypatch.setattr(MethodInputs, "method_for", lambda _self, offer: Method(offer.methods[0]))
    bearer = labelled(device)
    middle = await imposter(kit, bearer, Method.BUTTON)
    middle._change = offering("button")
    client = client_at(kit, tmp_path)
    await client.pair(middle.address, confirm=nobody, code="1234-5678")
    both_are_his(client, device, middle)


@pytest.mark.parametrize("method", [Method.CODE, Method.SAS, Method.COMPARE])
async def test_the_method_that_was_asked_for_is_not_replaced(
    kit: Kit, device: Device, tmp_path: Path, method: str
) -> None:
    others = [name for name in tuple(Method) if name != method]
    middle = await between(kit, device, offering(*others))
    client = client_at(kit, tmp_path)
    with pytest.raises(UsageError, match=method):
        await client.pair(middle.address, method=method, confirm=nobody, code="1234-5678")
    assert [code for code, _ in middle.relayed] == ["GET"]
    nobody_won(client, device)


async def test_with_everything_but_compare_taken_away_the_users_see_his_key(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """Each remaining method is secure by itself: the user gets another question, and refuses."""
    bearer = labelled(device)
    middle = await imposter(kit, bearer, Method.COMPARE)
    middle._change = offering("compare")
    client = client_at(kit, tmp_path)
    careful, looks = two_people(device, careful=True)
    with pytest.raises((Declined, RefusedByUser)):
        await client.pair(middle.address, confirm=careful, code=code_of)
    [(here, _)] = looks
    assert here == (middle.identity.fingerprint, client.identity.fingerprint), "no digits"
    nobody_won(client, device)


# -- who says that all was settled long ago -------------------------------------------------------


class Settled(Middle):
    """Answers the start as a device does that knows this client."""

    async def render(self, request: Any) -> Any:
        if not request.payload:
            return await self.carried_over(request)
        known = {"state": "REGISTERED", "user": "anna", "role": "owner"}
        return said(known)


def settled(identity: Identity, device: Address) -> Middle:
    return Settled(identity, device, hiding)


@pytest.mark.parametrize("way", [way for way in WAYS if way != Method.BUTTON])
async def test_that_all_was_settled_proves_nothing(
    kit: Kit, device: Device, tmp_path: Path, way: str
) -> None:
    """No ceremony took place, so the key has to be known otherwise, or be compared."""
    bearer = labelled(device)
    middle = await between(kit, device, way=way, make=settled)
    client = client_at(kit, tmp_path)
    asked: list[Comparison] = []

    async def no(question: Comparison) -> bool:
        asked.append(question)
        return False

    with pytest.raises(PinMismatch if way == Method.LABEL else Declined):
        await pairs(client, bearer, middle, way, no)
    assert [one.device for one in asked] == [middle.identity.fingerprint] * (way != Method.LABEL)
    assert not any(one.number for one in asked)
    if method_of(way) == Method.CODE:
        with pytest.raises(UsageError, match="its key was not verified"):
            await client.pair(middle.address, code=bearer.code_for(way))
    nobody_won(client, device)


async def test_without_that_question_anybody_is_stored(
    kit: Kit, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr("client_app.pairing.attempt.PairingAttempt._compare", nothing)
    bearer = labelled(device)
    way = Method.CODE
    middle = await between(kit, device, way=way, make=settled)
    client = client_at(kit, tmp_path)
    await client.pair(middle.address, code=bearer.code_for(way))
    assert stored_at(client) == [middle.identity.fingerprint]
