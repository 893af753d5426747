"""Refused requests are recorded with the reason, and a flood of them displaces no other events."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_app.access.access_control import AccessControl
from device_app.access.change_events import RequestPath
from device_app.access.clock import SystemClocks
from device_app.access.event_budget import Rate, RefusalBudget, network_of
from device_app.access.event_kind import EventKind
from iam.access import Access
from iam.errors import InviteRefused
from iam.model import Key, State, Subject, User
from iam.store import Store
from tests.kit.internals import database_of, remembered_refusals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.device import Caller, Device, Kit

DAY = 86_400.0


@dataclass
class ClockedControl:
    """The access control of a device with a clock that a test sets."""

    access: AccessControl
    at: list[float]

    def passes(self, seconds: float) -> None:
        self.at[0] += seconds

    def trail(self) -> list[Any]:
        return [record.event for record in self.access.store.audit.iterate()]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.trail()]


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ClockedControl]:
    store = Store.open(tmp_path / "device.db", keep_events=500)
    at = [1000.0]
    clocks = SystemClocks(lambda: 2e9 + at[0], lambda: at[0], "b")
    yield ClockedControl(AccessControl.create(store, Access(), clocks), at)
    store.close()


def key(number: int) -> str:
    return f"{number:064x}"


def unknown_subject(number: int) -> Subject:
    return Subject(key(number), None, "unpaired")


# ----------------------------------------------------------------------------------- the flood


def test_5000_refused_requests_of_different_keys_displace_no_events(
    control: ClockedControl,
) -> None:
    audit, registry = control.access.audit, control.access.registry
    registry.add_user(None, User("olga", "owner", (Key("ab" * 32),)))
    for number in range(400):
        audit.append(audit.event(EventKind.KEY_ADDED, detail=str(number)))
    for number in range(5000):
        control.passes(0.1)
        address = f"[2001:db8:{number:x}::7]:5684"  # each from another network
        audit.append_denial(
            unknown_subject(number),
            f"Hello:Get{number}",
            "no user",
            address=address,
            interface="eth0",
        )
        far = audit.event(
            EventKind.NOT_LOCAL, fingerprint=key(number), address=address, detail="far"
        )
        audit.append_refusal(far)
        with pytest.raises(InviteRefused):
            registry.redeem(f"{number:032x}", fingerprint=key(number), path=RequestPath(address))
    kinds = control.kinds()
    assert kinds[0] == "user-added"
    assert kinds.count("key-added") == 400
    for kind in ("denied", "not-local", "invite-refused"):
        assert 20 <= kinds.count(kind) <= 20 + 500 * 20 / 3600 + 1
    assert control.access.store.audit.verify() is None


def test_refusals_of_a_whole_day_cause_a_bounded_number_of_events(control: ClockedControl) -> None:
    for number in range(5000):
        control.passes(DAY / 5000)
        address = f"[2001:db8:{number:x}::7]:5684"
        control.access.audit.append_denial(
            unknown_subject(number), "Hello:Get", "no user", address=address
        )
    assert control.kinds().count("denied") <= 20 + 24 * 20 + 1


def test_unknown_keys_do_not_use_up_the_budget_of_users(control: ClockedControl) -> None:
    user = control.access.registry.add_user(None, User("gustav", "guest", (Key("cd" * 32),)))
    for number in range(500):
        control.access.audit.append_denial(unknown_subject(number), "Hello:Get", "no user")
    gustav = Subject("cd" * 32, user, "guest")
    control.access.audit.append_denial(gustav, "Iam:AddUser", "no statement allows Iam:AddUser")
    last = control.trail()[-1]
    assert (last.kind, last.user, last.action) == ("denied", "gustav", "Iam:AddUser")


def test_refusals_of_one_user_do_not_use_up_the_budget_of_others(control: ClockedControl) -> None:
    """The refusals of one user or network do not use up the budgets of others."""
    audit, registry = control.access.audit, control.access.registry
    users = {
        name: registry.add_user(None, User(name, "guest", (Key(key(number)), Key(key(number + 9)))))
        for number, name in enumerate(("mallory", "gustav", "greta"), 1)
    }
    for number in range(2000):
        control.passes(1)
        mallory = Subject(key(1 if number % 2 else 10), users["mallory"], "guest")
        audit.append_denial(mallory, f"Iam:Try{number}", "no")
        near = f"192.0.2.{number % 250}:5684"
        audit.append_denial(unknown_subject(number + 50), f"Hello:Try{number}", "no", address=near)
    for number, name in ((2, "gustav"), (3, "greta")):
        audit.append_denial(Subject(key(number), users[name], "guest"), "Iam:AddUser", "no")
        last = control.trail()[-1]
        assert (last.user, last.action) == (name, "Iam:AddUser")
    # The omitted refusals are those of mallory; gustav's next event counts them as "of others".
    gustavs_events = [
        event for event in control.trail() if event.kind == "denied" and event.user == "gustav"
    ]
    assert re.fullmatch(r"\([0-9]{3} of others\)", gustavs_events[-1].detail)
    audit.append_denial(unknown_subject(9), "Hello:Get", "no", address="198.51.100.1:5684")
    assert control.trail()[-1].address == "198.51.100.1:5684"
    denied = [event for event in control.trail() if event.kind == "denied"]
    assert sum(event.user == "mallory" for event in denied) <= 5 + 2000 * 5 / 3600 + 1
    assert sum(event.address.startswith("192.0.2.") for event in denied) <= 5 + 2000 * 5 / 3600 + 1


def test_omitted_refusals_are_counted_in_the_next_event(control: ClockedControl) -> None:
    user = control.access.registry.add_user(None, User("gustav", "guest", (Key("cd" * 32),)))
    gustav = Subject("cd" * 32, user, "guest")
    for _ in range(8):
        control.access.audit.append_denial(gustav, "Iam:AddUser", "no")
    assert control.kinds().count("denied") == 1
    control.access.audit.append_denial(gustav, "Iam:SetUser", "no")
    assert control.trail()[-1].detail == "(and 7 more)"
    control.passes(11)
    control.access.audit.append_denial(gustav, "Iam:AddUser", "no")
    assert control.trail()[-1].detail == ""


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), st.floats(0, 2000)), max_size=300))
def test_every_refusal_is_recorded_or_counted(moves: list[tuple[int, int, float]]) -> None:
    budget = RefusalBudget(10.0, Rate(2, 10), Rate(5, 30), most=8)
    at, counted = 0.0, 0
    through: Counter[str] = Counter()
    for source, what, passed in moves:
        at += passed
        omitted = budget.admit(str(source), what, at)
        if omitted is not None:
            through[str(source)] += 1
            counted += omitted.own + omitted.others
    assert through.total() <= 5 + at * 30 / 3600 + 1
    if len({source for source, _, _ in moves}) <= 8:  # no source was evicted from the table
        assert all(one <= 2 + at * 10 / 3600 + 1 for one in through.values())
    assert through.total() + counted + budget.omitted == len(moves)
    assert max(remembered_refusals(budget)) <= 8


def test_addresses_of_one_network_are_one_source() -> None:
    assert network_of("192.0.2.7:5684") == network_of("192.0.2.200:1") == "192.0.2.0/24"
    assert network_of("192.0.3.7:5684") == "192.0.3.0/24"
    assert network_of("[2001:db8::1]:5684") == network_of("[2001:db8::f:1]:9") == "2001:db8::/64"
    assert network_of("[fe80::1%eth0]:5684") == "fe80::/64"
    assert network_of("") == ""


# ----------------------------------------------------------------------------- over the network


async def test_a_refusal_records_user_action_address_and_statement(
    kit: Kit, device: Device
) -> None:
    kit.known(device, "olga", "owner")
    guest = kit.known(device, "gustav", "guest")
    assert (await guest.ask("POST", "/iam/users", {"name": "x", "role": "guest"})).code == "4.03"
    [event] = device.events("denied")
    assert (event.user, event.role, event.action) == ("gustav", "guest", "Iam:AddUser")
    assert (event.fingerprint, event.interface) == (guest.fingerprint, "lo")
    assert event.address.startswith("127.0.0.1:")
    assert event.result == "role 'guest': no statement allows Iam:AddUser"


async def test_a_change_above_the_callers_rank_is_recorded_as_a_refusal(
    kit: Kit, device: Device
) -> None:
    kit.known(device, "olga", "owner")
    admin = kit.known(device, "adam", "admin")
    for method, path, body, action in (
        ("POST", "/iam/users", {"name": "eve", "role": "owner"}, "Iam:AddUser"),
        ("iPATCH", "/iam/users/adam", {"role": "owner"}, "Iam:SetUser"),
        ("DELETE", "/iam/users/olga", None, "Iam:RemoveUser"),
        ("PUT", f"/iam/users/olga/keys/{'5a' * 32}", None, "Iam:AddKey"),
        ("POST", "/iam/window", {"role": "owner"}, "Pairing:OpenWindow"),
    ):
        assert (await admin.ask(method, path, body)).code == "4.03"
        last = device.events("denied")[-1]
        assert (last.user, last.action) == ("adam", action)
        assert "ranks above you" in last.result


async def test_a_refused_unknown_key_is_recorded_and_gets_a_uniform_answer(
    kit: Kit, device: Device, owner: Caller
) -> None:
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    caller = kit.caller(device)
    answers = {(await caller.ask("GET", path)).text for path in ("/hello", "/iam/users", "/x")}
    assert len(answers) == 1
    assert "no statement" not in answers.pop()
    first = device.events("denied")[0]
    assert (first.user, first.role, first.fingerprint) == ("", "unpaired", caller.fingerprint)


async def test_an_allowed_request_causes_no_event(owner: Caller, device: Device) -> None:
    for path in ("/hello", "/iam/me", "/iam/users", "/iam/users/nobody", "/no/such"):
        await owner.ask("GET", path)
    assert (await owner.ask("PUT", "/hello", {})).code == "4.05"
    assert not device.events("denied")


async def test_a_refusal_is_answered_even_if_it_cannot_be_recorded(
    kit: Kit, device: Device
) -> None:
    kit.known(device, "olga", "owner")
    guest = kit.known(device, "gustav", "guest")
    db = database_of(device.app.access.store)
    db.execute("PRAGMA query_only = ON").fetchall()
    try:
        refused = await guest.ask("GET", "/iam/users")
    finally:
        db.execute("PRAGMA query_only = OFF").fetchall()
    assert (refused.code, refused.reason) == ("4.03", "denied")


# ------------------------------------------------------------------------------------ last seen


async def test_last_seen_is_stored_for_users_but_not_for_unknown_keys(
    kit: Kit, device: Device
) -> None:
    owner = kit.known(device, "olga", "owner")
    kit.known(device, "gustav", "guest")
    unknown_subject = kit.caller(device)
    await unknown_subject.ask("GET", "/hello")
    users = {user["name"]: user for user in (await owner.ask("GET", "/iam/users")).body}
    now = device.app.access.clock.now()
    assert users["olga"]["last_seen"] == pytest.approx(now, abs=60)
    assert users["olga"]["keys"][0]["last_seen"] == users["olga"]["last_seen"]
    assert "last_seen" not in users["gustav"]
    assert set(device.app.access.store.seen) == {owner.fingerprint}
    await device.app.close()
    again = await kit.device()
    assert again.app.access.store.seen[owner.fingerprint] == pytest.approx(now, abs=60)
    assert again.app.access.store.state == State.of(device.app.access.store.state.users.values())
