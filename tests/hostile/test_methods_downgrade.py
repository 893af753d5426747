"""A man in the middle who removes methods from the offer, or claims that all is settled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from client_app.client import Comparison
from client_app.errors import Declined
from client_app.pairing import ceremony
from client_app.pairing.method_choice import MethodInputs
from peer.errors import PinMismatch, RefusedByUser, UsageError
from peer.identity import Identity
from peer.net.address import Address
from peer.pairing.methods import Method
from tests.hostile.middle_checks import both_are_his, imposter, nobody_won, pairs, stored_at
from tests.kit.methods import WAYS, both_users, client_at, labelled, method_of, nobody
from tests.kit.middle import Middle, said, start_middle, with_methods, without_key

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The man in the middle does not notify, so the client looks again: here without a pause."""
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)


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
    middle = await start_middle(kit, device, with_methods(*left), way=Method.BUTTON)
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
    middle.change = with_methods("button")
    client = client_at(kit, tmp_path)
    await client.pair(middle.address, confirm=nobody, code="1234-5678")
    both_are_his(client, device, middle)


@pytest.mark.parametrize("method", [Method.CODE, Method.SAS, Method.COMPARE])
async def test_the_method_that_was_asked_for_is_not_replaced(
    kit: Kit, device: Device, tmp_path: Path, method: str
) -> None:
    others = [name for name in tuple(Method) if name != method]
    middle = await start_middle(kit, device, with_methods(*others))
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
    middle.change = with_methods("compare")
    client = client_at(kit, tmp_path)
    careful, looks = both_users(device, careful=True)
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
            return await self.relay(request)
        known = {"state": "REGISTERED", "user": "anna", "role": "owner"}
        return said(known)


def settled(identity: Identity, device: Address) -> Middle:
    return Settled(identity, device, without_key)


@pytest.mark.parametrize("way", [way for way in WAYS if way != Method.BUTTON])
async def test_that_all_was_settled_proves_nothing(
    kit: Kit, device: Device, tmp_path: Path, way: str
) -> None:
    """No ceremony took place, so the key has to be known otherwise, or be compared."""
    bearer = labelled(device)
    middle = await start_middle(kit, device, way=way, make=settled)
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
    middle = await start_middle(kit, device, way=way, make=settled)
    client = client_at(kit, tmp_path)
    await client.pair(middle.address, code=bearer.code_for(way))
    assert stored_at(client) == [middle.identity.fingerprint]
