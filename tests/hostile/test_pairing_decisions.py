"""The decision of the device's user applies only to the client that was shown.

Between `pending` and the decision, another client can replace the first one. The device of these
tests uses the overlap rule `first-wins`, so a second client may start once the first has aborted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from device_app.console.control_client import call
from device_app.errors import AppError
from device_app.pairing.terms import PairingTerms
from peer.identity import Identity
from peer.pairing.ceremony import OverlapRule, State
from peer.pairing.methods import Method
from peer.terminal.exit_codes import ExitCode
from tests.kit.methods import Run, add_label

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit


@pytest.fixture
async def device(kit: Kit) -> Device:
    return await kit.device(terms=PairingTerms(role="user", overlap=OverlapRule.FIRST_WINS))


async def ask(device: Device, verb: str, **args: object) -> dict[str, Any]:
    """Send a request to the daemon over its control socket, as the command line does."""
    return await call(device.app.paths.socket, verb, args)


async def shown_ceremony(device: Device) -> dict[str, Any]:
    """The ceremony that `pending` shows to the device's user."""
    [shown] = (await ask(device, "pending"))["pending"]
    return dict(shown)


async def replaced_client(kit: Kit, device: Device) -> tuple[dict[str, Any], Caller]:
    """The device's user is shown anna; then anna aborts and eve waits for a decision."""
    anna, eve = kit.caller(device), kit.caller(device)
    await device.open()
    started = await anna.start("anna")
    shown = await shown_ceremony(device)
    assert (shown["name"], shown["fingerprint"]) == ("anna", anna.fingerprint)
    await anna.pair_ask("DELETE", f"/pair/{started.body['id']}")
    assert (await eve.start("anna")).code == "2.01"
    return shown, eve


@pytest.mark.parametrize("verb", ["accept", "refuse"])
@pytest.mark.parametrize("by", ["id", "fingerprint", "nothing", "null"])
async def test_a_decision_does_not_apply_to_a_client_that_started_meanwhile(
    kit: Kit, device: Device, verb: str, by: str
) -> None:
    shown, eve = await replaced_client(kit, device)
    args: dict[str, object] = {
        "id": {"id": shown["id"]},
        "fingerprint": {"id": shown["fingerprint"]},
        "nothing": {},
        "null": {"id": None},
    }[by]
    with pytest.raises(AppError) as caught:
        await ask(device, verb, **args)
    named = by in {"id", "fingerprint"}
    assert caught.value.code is (ExitCode.NOT_FOUND if named else ExitCode.USAGE)
    assert "handfast-device pending" in caught.value.advice
    assert device.pending().fingerprint.hex == eve.fingerprint
    assert device.pending().state is State.PENDING_USER_CONFIRMATION
    assert not device.users.users


@pytest.mark.parametrize("verb", ["accept", "refuse"])
@pytest.mark.parametrize("by", ["id", "hex", "grouped", "upper"])
async def test_a_decision_applies_to_the_client_that_it_names(
    kit: Kit, device: Device, verb: str, by: str
) -> None:
    anna = kit.caller(device)
    await device.open()
    started = await anna.start("anna")
    fingerprint = anna.identity.fingerprint
    forms = {
        "hex": fingerprint.hex,
        "grouped": fingerprint.grouped,
        "upper": anna.fingerprint.upper(),
    }
    done = (await ask(device, verb, id=forms.get(by, started.body["id"])))["ceremony"]
    assert done["fingerprint"] == anna.fingerprint
    accepted = State.PENDING_CLIENT_COMPLETION.value
    assert done["state"] == (accepted if verb == "accept" else State.REFUSED.value)
    if verb == "accept":
        assert (await anna.send_tag(started, anna.tags(started).client_tag)).code == "2.04"


async def test_a_decision_needs_the_id_of_the_ceremony_that_was_shown(
    kit: Kit, device: Device
) -> None:
    """In `sas` the same key can start again, and the number to compare has changed then."""
    labelled_device = add_label(device)
    await device.open()
    key = Identity.create()
    anna = kit.caller(device, key)
    first = await Run.of(anna, labelled_device, Method.SAS)
    await first.run_to_decision()
    old = await shown_ceremony(device)
    again = await Run.of(kit.caller(device, key), labelled_device, Method.SAS)
    await again.run_to_decision()
    new = await shown_ceremony(device)
    assert new["fingerprint"] == old["fingerprint"] == anna.fingerprint
    assert new["number"] != old["number"]
    for name in (old["id"], new["fingerprint"], new["number"]):
        with pytest.raises(AppError, match="another client does"):
            await ask(device, "accept", id=name)
    assert device.pending().id == new["id"]
    await ask(device, "accept", id=new["id"])
    assert (await again.confirm()).code == "2.04"


async def test_a_decision_is_rejected_if_no_client_waits(device: Device) -> None:
    for verb in ("accept", "refuse"):
        with pytest.raises(AppError, match="no client waits") as caught:
            await ask(device, verb, id="5f0c3a9e1b7d248866")
        assert caught.value.code is ExitCode.NOT_FOUND
