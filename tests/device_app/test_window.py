"""A window that was opened remotely is limited by the rights of its opener."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from device_app.access.bodies import UserPatch
from device_app.access.clock import SystemClocks
from device_app.pairing.events import PairingEventKind
from iam.limits import IamLimits
from peer.errors import Unreachable
from tests.kit.device import LINGERING
from tests.kit.internals import unwatched

if TYPE_CHECKING:
    from tests.kit.device import Answer, Caller, Device, Kit

INSTALLER = """
[[policy]]
id = "install"
[[policy.statement]]
effect = "Allow"
actions = ["Pairing:OpenWindow", "Iam:GetMe"]
[[role]]
id = "installer"
rank = 15
policies = ["install"]
"""
LOCAL_ONLY = INSTALLER.replace(
    '"Iam:GetMe"]', '"Iam:GetMe"]\nconditions = [{ Bool = { "Connection:IsLocal" = ["true"] } }]'
)
GUESTS = INSTALLER.replace(
    '"Iam:GetMe"]', '"Iam:GetMe"]\nconditions = [{ StringEquals = { "IAM:RoleId" = ["guest"] } }]'
)
BEFORE = '{ DateLessThan = { "Clock:Now" = ["2000000100"] } }'


@pytest.fixture
def admin(kit: Kit, device: Device) -> Caller:
    kit.known(device, "olga", "owner")
    return kit.known(device, "adam", "admin")


async def open_remotely(caller: Caller, **fields: Any) -> Answer:
    answer = await caller.ask("POST", "/iam/window", fields)
    assert answer.code == "2.04", answer
    return answer


async def test_a_window_is_opened_read_extended_and_closed_remotely(
    device: Device, admin: Caller
) -> None:
    assert (await admin.ask("GET", "/iam/window")).body == {"open": False}
    body = (await open_remotely(admin, seconds=60)).body
    assert body.pop("seconds_left") == pytest.approx(60, abs=25)
    assert body == {
        "open": True,
        "port": device.port(pairing=True),
        "role": "guest",
        "methods": ["code", "sas", "compare"],
    }
    extended = (await open_remotely(admin, seconds=90)).body
    assert extended["seconds_left"] == pytest.approx(90, abs=25)
    assert (await admin.ask("GET", "/iam/window")).body["open"] is True
    assert (await admin.ask("DELETE", "/iam/window")).code == "2.02"
    await device.port_closed()
    assert (await admin.ask("GET", "/iam/window")).body == {"open": False}
    assert (await admin.ask("DELETE", "/iam/window")).code == "2.02"
    kinds = [(e.kind, e.actor) for e in events_of(device) if e.kind.startswith("window")]
    assert kinds == [("window-opened", "adam"), ("window-closed", "adam")]


def events_of(device: Device) -> list[Any]:
    return [record.event for record in device.app.access.store.audit.iterate()]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"role": "owner"}, "4.03"),
        ({"role": "nonsense"}, "4.04"),
        ({"role": "unpaired"}, "4.04"),
        ({"role": 7}, "4.00"),
        ({"seconds": 0}, "4.00"),
        ({"seconds": 901}, "4.00"),
        ({"seconds": True}, "4.00"),
        ({"seconds": float("nan")}, "4.00"),
        ({"seconds": "long"}, "4.00"),
        ({"methods": ["telepathy"]}, "4.00"),
        ({"methods": "compare"}, "4.00"),
        ({"methods": [["compare"]]}, "4.00"),
        ({"crown": True}, "4.00"),
        ([], "4.00"),
    ],
)
async def test_an_invalid_request_opens_no_window(
    device: Device, admin: Caller, fields: object, code: str
) -> None:
    assert (await admin.ask("POST", "/iam/window", fields)).code == code
    assert not device.app.pairing.is_open
    assert device.app.pairing.window is None


async def test_a_user_without_the_right_cannot_use_the_window_resource(
    kit: Kit, device: Device, admin: Caller
) -> None:
    await open_remotely(admin)
    guest = kit.known(device, "gustav", "guest")
    for method, body in (("GET", None), ("POST", {}), ("DELETE", None)):
        assert (await guest.ask(method, "/iam/window", body)).reason == "denied"
        assert (await kit.caller(device).ask(method, "/iam/window", body)).reason == "not-paired"
    assert device.app.pairing.is_open


async def test_a_new_user_gets_the_role_of_the_window_and_its_opener_is_recorded(
    kit: Kit, device: Device, admin: Caller
) -> None:
    await open_remotely(admin, role="user")
    newcomer = kit.caller(device)
    started = await newcomer.start("nina")
    device.decide(accept=True)
    done = await newcomer.confirm(started)
    assert (done.code, done.body["role"]) == ("2.04", "user")
    [event] = device.events("paired")
    assert (event.actor, event.user, event.role) == ("adam", "nina", "user")


async def test_the_role_of_an_open_window_cannot_be_changed(device: Device, admin: Caller) -> None:
    await device.open(role="user")
    refused = await admin.ask("POST", "/iam/window", {"role": "guest"})
    assert (refused.code, refused.reason) == ("4.09", "busy")
    assert device.app.pairing.role_for(None) == "user"


async def test_a_user_cannot_extend_a_window_that_they_may_not_open(
    device: Device, admin: Caller
) -> None:
    await device.open(role="owner", seconds=20)
    for fields in ({}, {"role": "owner"}):
        refused = await admin.ask("POST", "/iam/window", {**fields, "seconds": 600})
        assert (refused.code, refused.reason) == ("4.03", "denied")
    assert device.app.pairing.seconds_left < 21
    assert device.events("denied")[-1].user == "adam"


async def test_opening_a_window_remotely_does_not_clear_the_failures(
    kit: Kit, device: Device, admin: Caller
) -> None:
    await device.open()
    await kit.caller(device).start("eve")
    device.decide(accept=False)
    failures = device.app.pairing.budget.failures
    assert failures == 1
    device.app.pairing.close_window()
    await open_remotely(admin)
    assert device.app.pairing.budget.failures == failures


# ------------------------------------------------------------------ the window and its opener


async def lose_rank(device: Device) -> None:
    device.app.access.registry.set_user(None, "adam", UserPatch(role="guest"))


async def lose_right(device: Device) -> None:
    """The role `user` ranks high enough to grant `guest`, but may not open windows."""
    device.app.access.registry.set_user(None, "adam", UserPatch(role="user"))


async def lose_key(device: Device) -> None:
    [key] = device.app.access.store.state.user("adam").keys
    device.app.access.registry.remove_key(None, "adam", key.fingerprint)


async def lose_user(device: Device) -> None:
    device.app.access.registry.remove_user(None, "adam")


async def lose_access_time(device: Device) -> None:
    device.app.access.registry.set_user(None, "adam", UserPatch(not_after=5.0))


LOSSES = [lose_rank, lose_right, lose_key, lose_user, lose_access_time]


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_window_closes_when_its_opener_loses_the_right(
    device: Device, admin: Caller, lose: Any
) -> None:
    await open_remotely(admin)
    await lose(device)
    assert not device.app.pairing.is_open
    [event] = device.events("window-withdrawn")
    assert event.role == "guest"
    await device.port_closed()


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_ceremony_fails_when_the_opener_loses_the_right(kit: Kit, lose: Any) -> None:
    device = await kit.device(limits=LINGERING)
    kit.known(device, "olga", "owner")
    await open_remotely(kit.known(device, "adam", "admin"))
    newcomer = kit.caller(device)
    started = await newcomer.start("nina")
    device.decide(accept=True)
    await lose(device)
    refused = await newcomer.confirm(started)
    assert refused.code == "4.03"
    assert "nina" not in device.app.access.store.state.users


async def test_a_rename_of_the_opener_does_not_close_the_window(
    kit: Kit, device: Device, admin: Caller
) -> None:
    await open_remotely(admin)
    device.app.access.registry.set_user(None, "adam", UserPatch(name="adi", display_name="Adi"))
    assert device.app.pairing.is_open
    newcomer = kit.caller(device)
    started = await newcomer.start("nina")
    device.decide(accept=True)
    assert (await newcomer.confirm(started)).code == "2.04"


async def test_a_window_extended_by_the_console_stays_open_without_its_opener(
    device: Device, admin: Caller
) -> None:
    await open_remotely(admin)
    await device.open(seconds=100)
    await lose_user(device)
    assert device.app.pairing.is_open
    assert not device.events("window-withdrawn")


async def test_a_policy_that_removes_the_right_closes_the_window(kit: Kit) -> None:
    kit.policy(INSTALLER)
    device = await kit.device()
    kit.known(device, "olga", "owner")
    installer = kit.known(device, "ines", "installer")
    await open_remotely(installer)
    assert (await installer.ask("POST", "/iam/window", {"role": "user"})).reason == "denied"
    kit.policy(INSTALLER.replace('"Pairing:OpenWindow", ', ""))
    await device.app.policies.reload()
    assert not device.app.pairing.is_open


async def test_the_end_of_the_openers_access_closes_the_window(kit: Kit) -> None:
    wall = [2_000_000_000.0]
    device = await kit.device(clocks=SystemClocks(lambda: wall[0], lambda: 0.0, "boot"))
    kit.known(device, "olga", "owner")
    admin = kit.known(device, "adam", "admin", not_after=wall[0] + 1000)
    await open_remotely(admin)
    wall[0] += 999.7
    # Any change makes the device compute the next end of access again.
    device.app.access.registry.set_user(None, "olga", UserPatch(display_name="Olga"))
    assert device.app.pairing.is_open
    wall[0] += 1
    await device.event(PairingEventKind.CLOSED)
    assert device.events("window-withdrawn")


async def test_a_new_user_has_access_no_longer_than_the_opener(kit: Kit) -> None:
    device = await kit.device()
    kit.known(device, "olga", "owner")
    until = device.app.access.clock.now() + 86_400
    admin = kit.known(device, "adam", "admin", not_after=until)
    await open_remotely(admin)
    newcomer = kit.caller(device)
    started = await newcomer.start("nina")
    device.decide(accept=True)
    assert (await newcomer.confirm(started)).code == "2.04"
    assert device.app.access.store.state.user("nina").not_after == until
    assert (await newcomer.ask("GET", "/iam/me")).body["until"] == int(until)


async def test_the_plain_form_checks_the_rights_of_the_opener(
    kit: Kit, device: Device, admin: Caller
) -> None:
    await open_remotely(admin)
    newcomer = kit.caller(device)
    asking = asyncio.create_task(newcomer.pair_ask("POST", "/pair?name=nina"))
    await device.event(PairingEventKind.PENDING)
    # The right is removed between the client's request and the decision, without a notification.
    with unwatched(device.app.access.store):
        device.app.access.registry.set_user(None, "adam", UserPatch(role="user"))
    with pytest.raises(Exception, match="lack the right"):
        device.decide(accept=True)
    assert (await asking).code == "4.03"
    assert "nina" not in device.app.access.store.state.users
    assert not device.app.pairing.is_open


async def test_a_condition_on_the_time_is_evaluated_again_for_each_ceremony(kit: Kit) -> None:
    """Only the time changes, so the next ceremony is the first to find that the right has ended."""
    wall = [2_000_000_000.0]
    kit.policy(INSTALLER.replace('"Iam:GetMe"]', f'"Iam:GetMe"]\nconditions = [{BEFORE}]'))
    device = await kit.device(clocks=SystemClocks(wall=lambda: wall[0]))
    kit.known(device, "olga", "owner")
    installer = kit.known(device, "ines", "installer")
    await open_remotely(installer)
    wall[0] += 3600
    refused = await kit.caller(device).start("nina")
    assert (refused.code, refused.reason) == ("4.03", "denied")
    assert not device.app.pairing.is_open
    assert device.app.pairing.budget.failures == 0


async def test_a_window_whose_port_is_in_use_is_refused(
    device: Device, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken() -> None:
        raise Unreachable("the port is in use")

    monkeypatch.setattr(device.app.pairing.port, "reconcile", taken)
    refused = await admin.ask("POST", "/iam/window", {})
    assert (refused.code, refused.reason) == ("5.03", "busy")
    assert not device.app.pairing.is_open


# ----------------------------------------------------------------------------------- conditions


@pytest.mark.parametrize("near", [True, False])
async def test_a_condition_can_limit_opening_to_local_clients(kit: Kit, *, near: bool) -> None:
    kit.policy(LOCAL_ONLY)
    device = await kit.device(allow_loopback=near)
    kit.known(device, "olga", "owner")
    installer = kit.known(device, "ines", "installer")
    answer = await installer.ask("POST", "/iam/window", {"role": "guest"})
    assert (answer.code == "2.04") is near
    assert device.app.pairing.is_open is near


async def test_the_role_of_the_window_is_the_target_of_the_decision(kit: Kit) -> None:
    kit.policy(GUESTS.replace("rank = 15", "rank = 39"))
    device = await kit.device()
    kit.known(device, "olga", "owner")
    installer = kit.known(device, "ines", "installer")
    for role in ("user", "admin", "installer", "nonsense"):
        refused = await installer.ask("POST", "/iam/window", {"role": role})
        assert (refused.code, refused.reason) == ("4.03", "denied"), role
    await device.open(role="user")
    for method, body in (("GET", None), ("DELETE", None), ("POST", {})):
        assert (await installer.ask(method, "/iam/window", body)).reason == "denied", method
    device.app.pairing.close_window()
    await open_remotely(installer)
    assert (await installer.ask("GET", "/iam/window")).body["role"] == "guest"


async def test_a_full_device_refuses_a_ceremony(kit: Kit) -> None:
    device = await kit.device(iam_limits=IamLimits(users=2))
    kit.known(device, "olga", "owner")
    admin = kit.known(device, "adam", "admin")
    await open_remotely(admin)
    refused = await kit.caller(device).start("nina")
    assert (refused.code, refused.reason) == ("4.09", "limit")
