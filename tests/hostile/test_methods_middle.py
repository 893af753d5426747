"""A man in the middle with a DTLS session to the client and one to the device, for every method.

The attacker relays the messages, or runs a complete ceremony with each side. Each attack runs
twice: on the real code, and on the same code without the defence against it, where it has to
succeed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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
from tests.hostile.middle_checks import (
    DIGITS,
    assert_both_paired_with_attacker,
    assert_no_one_paired,
    impostor,
    pairs,
    stored_at,
)
from tests.kit.internals import replace_code_tags
from tests.kit.methods import PRINTED, WAYS, add_label, asked_in_error, both_users, client_at
from tests.kit.middle import Middle, MiddleImpostor, TokenCollector, start_middle, without_key

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit
Remove = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def poll_without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The man in the middle sends no notifications, so the client polls; here with no interval."""
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)


# -- removal of defences --------------------------------------------------------------------------


def without_pin(middle: Middle, patch: pytest.MonkeyPatch) -> None:
    """Make the client accept the attacker's key instead of the key on the label."""
    real = arguments.parse_label

    def any_device(text: str) -> Label | None:
        label = real(text)
        return label and Label(middle.identity.fingerprint, label.token)

    patch.setattr(arguments, "parse_label", any_device)


def without_binding(patch: pytest.MonkeyPatch) -> None:
    """Bind proofs and tags to no session, key, method or role."""
    derived = Confirmation.derive.__func__  # type: ignore[attr-defined]

    def derive_unbound(
        cls: type[Confirmation], _ekm: bytes, salt: bytes, method: str, *, transcript: bytes = b""
    ) -> Confirmation:
        made: Confirmation = derived(cls, bytes(32), salt, method, transcript=transcript)
        return made

    def unbound(role: str, secret: bytes, *, random_bytes: Any, **_: Any) -> EcJpake:
        return EcJpake(role, secret, profile="handfast", random_bytes=random_bytes)

    patch.setattr(Confirmation, "derive", classmethod(derive_unbound))
    patch.setattr(Channel, "binding", lambda _self, **_: bytes(32))
    patch.setattr(code, "EcJpake", unbound)
    patch.setattr(code, "identities", lambda *_: {"client": b"C", "server": b"D"})
    patch.setattr(typed, "printed_secret", lambda symbols, _device: symbols.encode())


def without_roles(patch: pytest.MonkeyPatch) -> None:
    """Make both sides compute the same tag."""
    derived = Confirmation.derive.__func__  # type: ignore[attr-defined]

    def same_tags(tags: Confirmation) -> Confirmation:
        return Confirmation(tags.client_tag, tags.client_tag)

    patch.setattr(
        Confirmation,
        "derive",
        classmethod(lambda *args, **named: same_tags(derived(*args, **named))),
    )
    replace_code_tags(patch, lambda _exchange, _terms, tags: same_tags(tags))


class NoCommitment(SasClient):
    """A client half that accepts any nonce of the device."""

    def _is_committed(self, _device_nonce: bytes) -> bool:
        return True


# -- attacks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_relaying_the_messages_pairs_with_neither_side(
    kit: Kit, device: Device, tmp_path: Path, way: str
) -> None:
    """Both users accept everything and type the right code."""
    labelled_device = add_label(device)
    middle = await start_middle(kit, device, without_key, way=way)
    client = client_at(kit, tmp_path)
    careless, _ = both_users(device, careful=False)
    with pytest.raises(PinMismatch if way == Method.LABEL else WrongCode):
        await pairs(client, labelled_device, middle, way, careless)
    assert_no_one_paired(client, device)
    if way == Method.LABEL:
        assert not middle.relayed, "the attacker got a message of the client"


@pytest.mark.parametrize("way", WAYS)
async def test_without_binding_to_the_session_relaying_pairs_with_both_sides(
    kit: Kit, device: Device, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_binding(monkeypatch)
    labelled_device = add_label(device)
    middle = await start_middle(kit, device, without_key, way=way)
    without_pin(middle, monkeypatch)
    client = client_at(kit, tmp_path)
    careful, shown = both_users(device, careful=way != Method.COMPARE)
    await pairs(client, labelled_device, middle, way, careful)
    assert_both_paired_with_attacker(client, device, middle)
    if way == Method.SAS:
        [(here, there)] = shown
        assert here == there, "the users saw different numbers"


@pytest.mark.parametrize("way", [way for way in WAYS if way != Method.LABEL])
async def test_a_reflected_client_tag_is_not_accepted_as_the_device_tag(
    kit: Kit, device: Device, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker acts as the device and reflects the client's last message. Even a known code
    does not help, unless both sides compute the same tag."""
    for weak in (False, True):
        if weak:
            without_roles(monkeypatch)
        labelled_device = add_label(device)
        middle = await impostor(
            kit, labelled_device, way, guess=partial(labelled_device.code_for, way), reflects=True
        )
        client = client_at(kit, tmp_path)
        careless, _ = both_users(device, careful=False)
        if weak:
            await pairs(client, labelled_device, middle, way, careless)
            assert stored_at(client) == [middle.identity.fingerprint]
        else:
            with pytest.raises(WrongCode):
                await pairs(client, labelled_device, middle, way, careless)
            assert not client.devices
            for name in list(device.users.users):
                device.app.access.registry.remove_user(None, name)


async def test_users_who_compare_fingerprints_detect_the_man_in_the_middle(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """The attacker runs a ceremony with each side, so only the users can detect it."""
    for careful in (True, False):
        labelled_device = add_label(device)
        middle = await impostor(kit, labelled_device, Method.COMPARE)
        client = client_at(kit, tmp_path)
        confirm, shown = both_users(device, careful=careful)
        if careful:
            with pytest.raises((Declined, RefusedByUser)):
                await pairs(client, labelled_device, middle, Method.COMPARE, confirm)
            assert_no_one_paired(client, device)
        else:
            await pairs(client, labelled_device, middle, Method.COMPARE, confirm)
            assert_both_paired_with_attacker(client, device, middle)
        [(here, there)] = shown
        assert here != there


async def test_the_numbers_of_two_ceremonies_differ(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """The attacker follows the protocol on both sides; the numbers are equal once in 10^6."""
    labelled_device = add_label(device)
    middle = await impostor(kit, labelled_device, Method.SAS)
    client = client_at(kit, tmp_path)
    careful, shown = both_users(device, careful=True)
    with pytest.raises((Declined, RefusedByUser)):
        await pairs(client, labelled_device, middle, Method.SAS, careful)
    [(here, there)] = shown
    assert here != there
    assert_no_one_paired(client, device)


@pytest.mark.parametrize("weak", [False, True], ids=["with defence", "without defence"])
async def test_a_nonce_that_breaks_the_commitment_is_rejected(
    kit: Kit, device: Device, tmp_path: Path, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker knows the device's number before it sends its nonce, and searches for a match.

    A client that does not check the commitment shows the same number as the device: users who
    compare every digit accept, and both sides store the attacker's key.
    """
    labelled_device = add_label(device)
    client_side = NoCommitment if weak else SasClient
    monkeypatch.setattr(method_choice, "SasClient", partial(client_side, digits=DIGITS))
    monkeypatch.setattr("tests.kit.methods.SasClient", partial(SasClient, digits=DIGITS))
    monkeypatch.setattr(sas, "SasDevice", partial(SasDevice, digits=DIGITS))
    middle = await impostor(kit, labelled_device, Method.SAS, searches=True)
    client = client_at(kit, tmp_path)
    careful, shown = both_users(device, careful=True)
    if weak:
        await pairs(client, labelled_device, middle, Method.SAS, careful)
        [(here, there)] = shown
        assert here == there
        assert_both_paired_with_attacker(client, device, middle)
    else:
        with pytest.raises(WrongCode, match="commitment"):
            await pairs(client, labelled_device, middle, Method.SAS, careful)
        assert not shown, "no number was shown"
        assert_no_one_paired(client, device)


@pytest.mark.parametrize("knows", [False, True], ids=["wrong guess", "right guess"])
@pytest.mark.parametrize("way", [Method.CODE, PRINTED])
async def test_a_man_in_the_middle_has_one_guess_of_the_code_per_side(
    kit: Kit, device: Device, tmp_path: Path, way: str, knows: bool
) -> None:
    """The attacker runs a ceremony with each side with one guess. A right guess pairs with both
    sides; a wrong one fails, counts as an attempt, and the code changes."""
    labelled_device = add_label(device)
    guess = partial(labelled_device.code_for if knows else labelled_device.wrong_code_for, way)
    middle = await impostor(kit, labelled_device, way, guess=guess)
    client = client_at(kit, tmp_path)
    if knows:
        await pairs(client, labelled_device, middle, way, asked_in_error)
        assert_both_paired_with_attacker(client, device, middle)
        return
    before = labelled_device.shown
    with pytest.raises(WrongCode):
        await pairs(client, labelled_device, middle, way, asked_in_error)
    assert_no_one_paired(client, device)
    assert middle.code_mismatch is not None
    assert device.app.pairing.budget.failures == 1
    assert labelled_device.shown not in {before, ""}


@pytest.mark.parametrize("weak", [False, True], ids=["with defence", "without defence"])
async def test_the_token_of_a_label_is_not_sent_to_another_device(
    kit: Kit, device: Device, tmp_path: Path, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled_device = add_label(device)
    middle = await impostor(kit, labelled_device, Method.LABEL)
    client = client_at(kit, tmp_path)
    if weak:
        without_pin(middle, monkeypatch)
        await pairs(client, labelled_device, middle, Method.LABEL, asked_in_error)
        assert isinstance(middle.board, TokenCollector)
        assert middle.board.token == labelled_device.label.token
        assert_both_paired_with_attacker(client, device, middle)
    else:
        with pytest.raises(PinMismatch):
            await pairs(client, labelled_device, middle, Method.LABEL, asked_in_error)
        assert not middle.relayed
        assert_no_one_paired(client, device)
    assert Label.parse_untrusted(labelled_device.label.text) == labelled_device.label


async def test_two_further_checks_protect_the_token_without_the_pin(device: Device) -> None:
    """Two further checks compare the key with the label, in case the pin check is missing."""
    labelled_device = add_label(device)
    session = Session(bytes(32), Identity.create().fingerprint, Identity.create().fingerprint)
    with pytest.raises(PinMismatch):
        (await MethodInputs(label=labelled_device.label).side_maker(Method.LABEL))(session)
    with pytest.raises(Mismatch):
        LabelClient(session, labelled_device.label)


@pytest.mark.parametrize("weak", [False, True], ids=["with defence", "without defence"])
async def test_the_button_gives_an_attacker_only_an_unverified_guest(
    kit: Kit, device: Device, tmp_path: Path, weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker can always be first, so the role is `guest` and the key unverified in any window.

    If `button` were treated as a method that verifies keys, the attacker would be an owner.
    """
    if weak:
        monkeypatch.setattr(Method, "spec", MethodSpec())
    labelled_device = add_label(device)
    middle = await impostor(kit, labelled_device, Method.BUTTON)
    await device.closed()
    await device.open(role="owner", pressed=True)
    await middle.close()
    middle = MiddleImpostor(
        middle.identity,
        Address("127.0.0.1", device.port(pairing=True)),
        method=Method.BUTTON,
        board=middle.make_board,
        half=middle.make_half,
    )
    await middle.start()
    kit.at_end(middle.close)
    client = client_at(kit, tmp_path)
    await pairs(client, labelled_device, middle, Method.BUTTON, asked_in_error)
    [user] = device.users.users.values()
    [key] = user.keys
    assert user.fingerprints == {middle.identity.fingerprint.hex}
    assert (user.role, key.verified) == (("owner", True) if weak else ("guest", False))
