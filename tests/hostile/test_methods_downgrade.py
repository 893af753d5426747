"""A man in the middle removes methods from the offer, or claims that the client is registered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from client_app.errors import Declined
from client_app.pairing import ceremony
from client_app.pairing.ceremony import Comparison
from client_app.pairing.method_choice import MethodInputs
from peer.errors import PinMismatch, RefusedByUser, UsageError
from peer.identity import Identity
from peer.net.address import Address
from peer.pairing.methods import Method
from tests.hostile.middle_checks import (
    assert_both_paired_with_attacker,
    assert_no_one_paired,
    impostor,
    pairs,
    stored_at,
)
from tests.kit.internals import without_comparison
from tests.kit.methods import WAYS, add_label, asked_in_error, both_users, client_at, method_of
from tests.kit.middle import Middle, response, start_middle, with_methods, without_key

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


@pytest.fixture(autouse=True)
def poll_without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The man in the middle sends no notifications, so the client polls; here with no interval."""
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)


# -- methods removed from the offer ---------------------------------------------------------------


async def code_of(text: str = "0000-0000") -> str:
    return text


INPUTS: dict[str, dict[str, Any]] = {
    "a confirmation callback": {"confirm": asked_in_error},
    "a code": {"code": "1234-5678"},
    "both": {"confirm": asked_in_error, "code": "1234-5678"},
    "a user to ask for a code": {"confirm": asked_in_error, "code": code_of},
}


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("offered", [(), ("button",), ("button", "label"), ("trust-me", "button")])
async def test_a_client_never_falls_back_to_the_button(
    kit: Kit, device: Device, tmp_path: Path, inputs: str, offered: tuple[str, ...]
) -> None:
    middle = await start_middle(kit, device, with_methods(*offered), way=Method.BUTTON)
    client = client_at(kit, tmp_path)
    with pytest.raises(UsageError):
        await client.pair(middle.address, **INPUTS[inputs])
    assert_no_one_paired(client, device)
    assert [code for code, _ in middle.relayed] == ["GET"], "a ceremony was started"


async def test_a_client_that_accepts_any_offered_method_pairs_with_the_attacker(
    kit: Kit, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The defence removed: this client accepts the first method of any offer."""
    monkeypatch.setattr(MethodInputs, "method_for", lambda _self, offer: Method(offer.methods[0]))
    labelled_device = add_label(device)
    middle = await impostor(kit, labelled_device, Method.BUTTON)
    middle.change = with_methods("button")
    client = client_at(kit, tmp_path)
    await client.pair(middle.address, confirm=asked_in_error, code="1234-5678")
    assert_both_paired_with_attacker(client, device, middle)


@pytest.mark.parametrize("method", [Method.CODE, Method.SAS, Method.COMPARE])
async def test_a_requested_method_is_not_replaced_by_another(
    kit: Kit, device: Device, tmp_path: Path, method: str
) -> None:
    others = [name for name in tuple(Method) if name != method]
    middle = await start_middle(kit, device, with_methods(*others))
    client = client_at(kit, tmp_path)
    with pytest.raises(UsageError, match=method):
        await client.pair(middle.address, method=method, confirm=asked_in_error, code="1234-5678")
    assert [code for code, _ in middle.relayed] == ["GET"]
    assert_no_one_paired(client, device)


async def test_a_downgrade_to_compare_shows_the_attackers_key_to_both_users(
    kit: Kit, device: Device, tmp_path: Path
) -> None:
    """The remaining method is secure by itself: the users see different fingerprints and refuse."""
    labelled_device = add_label(device)
    middle = await impostor(kit, labelled_device, Method.COMPARE)
    middle.change = with_methods("compare")
    client = client_at(kit, tmp_path)
    careful, shown = both_users(device, careful=True)
    with pytest.raises((Declined, RefusedByUser)):
        await client.pair(middle.address, confirm=careful, code=code_of)
    [(here, _)] = shown
    assert here == (middle.identity.fingerprint, client.identity.fingerprint), "a number was shown"
    assert_no_one_paired(client, device)


# -- a device that claims to know the client ------------------------------------------------------


class ClaimsRegistration(Middle):
    """Answers the start of a ceremony as a device does that has registered this client."""

    async def render(self, request: Any) -> Any:
        if not request.payload:
            return await self.relay(request)
        known = {"state": "REGISTERED", "user": "anna", "role": "owner"}
        return response(known)


def claims_registration(identity: Identity, device: Address) -> Middle:
    return ClaimsRegistration(identity, device, without_key)


@pytest.mark.parametrize("way", [way for way in WAYS if way != Method.BUTTON])
async def test_a_claim_of_an_earlier_registration_proves_no_key(
    kit: Kit, device: Device, tmp_path: Path, way: str
) -> None:
    """No ceremony took place, so the key has to be known already, or the users compare it."""
    labelled_device = add_label(device)
    middle = await start_middle(kit, device, way=way, make=claims_registration)
    client = client_at(kit, tmp_path)
    asked: list[Comparison] = []

    async def no(question: Comparison) -> bool:
        asked.append(question)
        return False

    with pytest.raises(PinMismatch if way == Method.LABEL else Declined):
        await pairs(client, labelled_device, middle, way, no)
    assert [one.device for one in asked] == [middle.identity.fingerprint] * (way != Method.LABEL)
    assert not any(one.number for one in asked)
    if method_of(way) == Method.CODE:
        with pytest.raises(UsageError, match="its key was not verified"):
            await client.pair(middle.address, code=labelled_device.code_for(way))
    assert_no_one_paired(client, device)


async def test_without_the_confirmation_prompt_any_key_is_stored(
    kit: Kit, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_comparison(monkeypatch)
    labelled_device = add_label(device)
    way = Method.CODE
    middle = await start_middle(kit, device, way=way, make=claims_registration)
    client = client_at(kit, tmp_path)
    await client.pair(middle.address, code=labelled_device.code_for(way))
    assert stored_at(client) == [middle.identity.fingerprint]
