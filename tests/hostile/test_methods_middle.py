"""A man in the middle of client and device, with a real DTLS session to each, in every method.

He carries over what they say, or is a whole device to the one and a whole client to the other; he
takes methods out of the offer; he says that all was settled long ago. Each attack is made twice: on
our code, and on our code without the defence that it is about, where he has to win.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from client_app import client as client_module
from client_app.errors import Declined
from client_app.pairing import arguments, ceremony, method_choice
from client_app.pairing.method_choice import MethodInputs
from peer.errors import PinMismatch, RefusedByUser, WrongCode
from peer.identity import Identity
from peer.net.address import Address
from peer.pairing import code, sas, typed
from peer.pairing.binding import Channel, Confirmation
from peer.pairing.errors import Mismatch
from peer.pairing.jpake import EcJpake
from peer.pairing.label import Label, LabelClient
from peer.pairing.methods import Method, MethodSpec
from peer.pairing.sas import SasClient, SasDevice
from peer.pairing.sides import Session
from tests.hostile.middle_checks import DIGITS, both_are_his, imposter, nobody_won, pairs, stored_at
from tests.kit.methods import PRINTED, WAYS, both_users, client_at, labelled, nobody
from tests.kit.middle import Imposter, Middle, TokenCollector, start_middle, without_key

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit
Remove = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The man in the middle does not notify, so the client looks again: here without a pause."""
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)


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
    middle = await start_middle(kit, device, without_key, way=way)
    client = client_at(kit, tmp_path)
    careless, _ = both_users(device, careful=False)
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
    middle = await start_middle(kit, device, without_key, way=way)
    without_pin(middle, monkeypatch)
    client = client_at(kit, tmp_path)
    careful, looks = both_users(device, careful=way != Method.COMPARE)
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
        careless, _ = both_users(device, careful=False)
        if weak:
            await pairs(client, bearer, middle, way, careless)
            assert stored_at(client) == [middle.identity.fingerprint]
        else:
            with pytest.raises(WrongCode):
                await pairs(client, bearer, middle, way, careless)
            assert not client.devices
            for name in list(device.users.users):
                device.app.access.registry.remove_user(None, name)


async def test_users_who_compare_do_not_take_him_for_the_other(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """With two whole ceremonies of his, nothing but the users is left of `compare`."""
    for careful in (True, False):
        bearer = labelled(device)
        middle = await imposter(kit, bearer, Method.COMPARE)
        client = client_at(kit, tmp_path)
        confirm, looks = both_users(device, careful=careful)
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
    careful, looks = both_users(device, careful=True)
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
    careful, looks = both_users(device, careful=True)
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
    assert middle.code_mismatch is not None
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
        assert isinstance(middle.board, TokenCollector)
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
        board=middle.make_board,
        half=middle.make_half,
    )
    await middle.start()
    kit.at_end(middle.close)
    client = client_at(kit, tmp_path)
    await pairs(client, bearer, middle, Method.BUTTON, nobody)
    [user] = device.users.users.values()
    [key] = user.keys
    assert user.fingerprints == {middle.identity.fingerprint.hex}
    assert (user.role, key.verified) == (("owner", True) if weak else ("guest", False))
