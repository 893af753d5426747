"""Pairing over real UDP and DTLS, with proofs (protocol §§4, 5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from device_app.access.clock import SystemClocks
from device_app.pairing.events import PairingEventKind
from device_app.pairing.terms import PairingTerms
from peer.errors import Unreachable
from peer.limits import DEFAULT_LIMITS
from peer.pairing.ceremony import OverlapRule
from peer.pairing.errors import CeremonyError
from peer.pairing.sides import bytes_field
from tests.kit.device import fixed_port
from tests.kit.waiting import skip_time, stop_time

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit

FAST = replace(DEFAULT_LIMITS, window_linger_seconds=0.3)
LINGERING = replace(DEFAULT_LIMITS, window_linger_seconds=3600)  # longer than any test takes


async def test_the_first_user_becomes_the_owner_after_both_sides_accept(
    kit: Kit, device: Device
) -> None:
    caller = kit.caller(device)
    await device.open()
    offer = await caller.pair_ask("GET", "/pair")
    assert offer.code == "2.05"
    assert offer.body["fingerprint"] == device.fingerprint.hex
    assert offer.body["methods"] == ["code", "sas", "compare"]
    assert 0 < offer.body["seconds"] <= 120

    started = await caller.start("anna")
    assert started.code == "2.01"
    assert started.message.opt.location_path == ("pair", started.body["id"])
    assert started.body["role"] == "owner"
    assert device.decide(accept=True).state == "PENDING_CLIENT_COMPLETION"
    done = await caller.confirm(started)
    assert (done.code, done.body["user"], done.body["role"]) == ("2.04", "anna", "owner")

    me = await caller.ask("GET", "/iam/me")
    assert (me.body["user"], me.body["role"], me.body["path"]) == ("anna", "owner", "local")
    assert me.body["fingerprint"] == caller.fingerprint
    [event] = device.events("paired")
    assert (event.user, event.fingerprint) == ("anna", caller.fingerprint)


async def test_a_pairing_is_stored_in_two_commits(kit: Kit, device: Device) -> None:
    """One counts the attempt, before the first answer; the other has all of the success."""
    caller = kit.caller(device)
    await device.open()
    store = device.app.access.store
    commits: list[list[str]] = []
    seen = store.audit.head[0]

    def note(_newest: int) -> None:
        nonlocal seen
        commits.append([record.event.kind for record in store.audit.iterate(seen)])
        seen = store.audit.head[0]

    store.on_events(note)
    started = await caller.start("anna")
    assert commits == [["ceremony-started"]]
    device.decide(accept=True)
    assert (await caller.confirm(started)).code == "2.04"
    assert commits[1:] == [["paired", "registered", "window-closed"]]
    await device.port_closed()
    assert len(commits) == 2
    [closed] = device.events("window-closed")
    assert (closed.actor, closed.result) == ("", "success")


async def test_the_second_user_becomes_a_guest(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga")
    assert (await device.pair(kit.caller(device), "gustav")).body["role"] == "guest"


async def test_no_port_is_open_while_the_window_is_closed(kit: Kit, device: Device) -> None:
    await device.open()
    port = device.app.pairing.port.number
    assert port
    device.app.pairing.close_window()
    await device.port_closed()
    caller = kit.caller(device)
    caller.port = fixed_port(port)
    with pytest.raises(Unreachable) as caught:
        await caller.connect(pairing=True)
    assert caught.value.refused
    assert not device.app.access.store.state.users


async def test_the_regular_port_only_says_where_pairing_is(kit: Kit, device: Device) -> None:
    """To unknown keys, paired ones, and for each method; it starts no ceremony."""
    start = {"method": "compare", "name": "eve"}
    unknown = kit.caller(device)
    await device.open()
    for method, body in (("GET", None), ("POST", start), ("POST", None), ("DELETE", None)):
        answer = await unknown.ask(method, "/pair", body)
        assert (answer.code, answer.reason) == ("4.03", "pairing-port")
        assert answer.body["handfast:problem"]["port"] == device.app.pairing.port.number
    assert (await unknown.ask("GET", "/pair/abc")).reason == "pairing-port"
    assert device.app.pairing.budget.failures == 0
    owner = await kit.paired(device, "olga")
    for caller in (owner, unknown):
        assert (await caller.ask("GET", "/pair")).reason == "window-closed"
    assert (await unknown.ask("GET", "/pairs")).reason == "not-paired"


async def test_success_closes_the_window_and_then_the_port(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga")
    assert not device.app.pairing.is_open
    assert (await device.event(PairingEventKind.CLOSED)).reason == "success"
    await device.port_closed()
    assert device.app.pairing.port.number == 0


async def test_a_lingering_port_refuses_new_ceremonies(kit: Kit) -> None:
    device = await kit.device(limits=LINGERING)
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("olga")
    device.decide(accept=True)
    await caller.confirm(started)
    assert device.app.pairing.port.number
    late = await kit.caller(device).start("eve")
    assert (late.code, late.reason) == ("4.03", "window-closed")


async def test_pairing_again_with_the_same_key_and_name_changes_nothing(
    kit: Kit, device: Device
) -> None:
    owner = await kit.paired(device, "olga")
    before = device.app.access.store.state
    await device.open()
    again = await owner.start("olga")
    assert again.code == "2.04"
    assert again.body == {"state": "REGISTERED", "user": "olga", "role": "owner"}
    plain = await owner.pair_ask("POST", "/pair?name=olga")
    assert (plain.code, plain.body) == ("2.04", "paired as olga with role owner")
    assert device.app.access.store.state is before


@pytest.mark.parametrize(("known_key", "name"), [(True, "other"), (False, "olga")])
async def test_a_known_key_or_name_with_another_counterpart_is_a_conflict(
    kit: Kit, device: Device, *, known_key: bool, name: str
) -> None:
    owner = await kit.paired(device, "olga")
    before = device.app.access.store.state
    await device.open()
    caller = owner if known_key else kit.caller(device)
    refused = await caller.start(name)
    assert (refused.code, refused.reason) == ("4.09", "taken")
    assert device.app.access.store.state is before
    assert device.app.pairing.budget.failures == 0


@pytest.mark.parametrize(
    "name",
    ["", "_((;;.::)", "a\x00b", "a\u202eb", "a  b", "x" * 65, "\ue000", "a/b", "-a"],
)
async def test_an_invalid_name_is_refused_with_a_reason(
    kit: Kit, device: Device, name: str
) -> None:
    caller = kit.caller(device)
    await device.open()
    refused = await caller.start(name)
    assert (refused.code, refused.reason) == ("4.00", "malformed")
    assert "name" in refused.text
    assert device.app.pairing.ceremonies.pending() is None


async def test_names_are_normalized_to_nfc(kit: Kit, device: Device) -> None:
    done = await device.pair(kit.caller(device), "zoe\u0308")
    assert done.body["user"] == "zo\u00eb"


@pytest.mark.parametrize(
    ("raw", "ct", "code"),
    [
        (b"{}", 50, "4.15"),
        (b"anna", 0, "4.15"),
        (b"anna", None, "4.15"),
        (b"\xa1", 60, "4.00"),
        (b"\x81" * 1000 + b"\x00", 60, "4.00"),
        (b"\xa0\x00", 60, "4.00"),
        (b"\x60", 60, "4.00"),
        (b"\xa2dname\x01fmethod\x01", 60, "4.00"),
        (b"\xa1dnameaa", 60, "4.00"),
        (b"\xa1fmethodgcompare", 60, "4.00"),
        (b"\xff" * 40, 60, "4.00"),
        (b"\xa1dname" + b"\x59\x14\x00" + bytes(5120), 60, "4.13"),
    ],
)
async def test_a_malformed_body_gets_an_error_and_leaves_no_state(
    kit: Kit,
    device: Device,
    caplog: pytest.LogCaptureFixture,
    raw: bytes,
    ct: int | None,
    code: str,
) -> None:
    caller = kit.caller(device)
    await device.open()
    answer = await caller.pair_ask("POST", "/pair", raw=raw, ct=ct)
    assert answer.code == code
    assert "Traceback" not in caplog.text
    assert device.app.pairing.ceremonies.pending() is None
    assert device.app.pairing.budget.failures == 0
    assert (await caller.start("anna")).code == "2.01"


async def test_unsupported_methods_paths_and_queries_are_refused(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open()
    assert (await caller.pair_ask("PUT", "/pair", {})).code == "4.05"
    assert (await caller.pair_ask("DELETE", "/pair")).code == "4.05"
    assert (await caller.pair_ask("GET", "/nothing")).code == "4.04"
    assert (await caller.pair_ask("GET", "/pair/")).code == "2.05"
    assert (await caller.pair_ask("POST", "/pair?nane=x")).code == "4.00"
    unknown = await caller.pair_ask("POST", "/pair", {"method": "telepathy", "name": "anna"})
    assert (unknown.code, unknown.reason) == ("4.03", "denied")


async def test_a_role_above_that_of_the_window_is_refused(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga")
    await device.open(role="user")
    caller = kit.caller(device)
    for requested in ("owner", "admin", "unpaired", "king"):
        assert (await caller.start("eve", role=requested)).code == "4.03"
    assert (await caller.start("eve", role="guest")).body["role"] == "guest"


async def test_a_ceremony_is_visible_only_to_the_session_that_started_it(
    kit: Kit, device: Device
) -> None:
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("anna")
    path = f"/pair/{started.body['id']}"
    assert (await caller.pair_ask("GET", path)).body == {"state": "PENDING_USER_CONFIRMATION"}
    for other in (kit.caller(device), kit.caller(device, caller.identity)):
        for method in ("GET", "DELETE"):
            assert (await other.pair_ask(method, path)).code == "4.04"
        assert (await other.pair_ask("POST", path, {"confirm": bytes(32)})).code == "4.04"
    assert device.app.pairing.ceremonies.pending() is not None


async def test_an_observer_of_a_ceremony_gets_each_state(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("anna")
    states: list[str] = []
    async with (
        asyncio.timeout(60),
        aclosing(caller.observe(f"/pair/{started.body['id']}", pairing=True)) as seen,
    ):
        async for answer in seen:
            state = answer.body["state"]
            if states[-1:] != [state]:
                states.append(state)
            if state == "PENDING_USER_CONFIRMATION":
                device.decide(accept=True)
            elif state == "PENDING_CLIENT_COMPLETION":
                assert (await caller.confirm(started)).code == "2.04"
            else:
                assert answer.body["user"] == "anna"
                break
    assert states == ["PENDING_USER_CONFIRMATION", "PENDING_CLIENT_COMPLETION", "REGISTERED"]


async def test_a_tag_is_refused_until_the_devices_user_accepts(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("anna")
    early = await caller.confirm(started)
    assert (early.code, early.reason) == ("4.09", "busy")
    assert not device.app.access.store.state.users
    device.decide(accept=True)
    assert (await caller.confirm(started)).code == "2.04"


@pytest.mark.parametrize("tag", [bytes(32), b"", "text", None, 7])
async def test_a_wrong_tag_registers_no_user(kit: Kit, device: Device, tag: object) -> None:
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("anna")
    device.decide(accept=True)
    answer = await caller.pair_ask("POST", f"/pair/{started.body['id']}", {"confirm": tag})
    expected = ("4.03", "wrong-code") if isinstance(tag, bytes) else ("4.00", "malformed")
    assert (answer.code, answer.reason) == expected
    assert not device.app.access.store.state.users


async def test_a_refusal_by_the_devices_user_registers_no_user(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("anna")
    device.decide(accept=False)
    path = f"/pair/{started.body['id']}"
    assert (await caller.pair_ask("GET", path)).body == {"state": "REFUSED"}
    answer = await caller.confirm(started)
    assert (answer.code, answer.reason) == ("4.03", "refused")
    assert not device.app.access.store.state.users
    assert (await caller.ask("GET", "/iam/me")).reason == "not-paired"


async def test_a_client_can_abort_and_start_again(kit: Kit, device: Device) -> None:
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("anna")
    gone = await caller.pair_ask("DELETE", f"/pair/{started.body['id']}")
    assert (gone.code, gone.body) == ("2.02", {"state": "REVOKED"})
    assert device.app.pairing.ceremonies.pending() is None
    assert device.app.pairing.budget.failures == 1
    assert (await caller.start("anna")).code == "2.01"


@pytest.mark.parametrize("plain", [False, True])
async def test_a_client_that_crashes_leaves_no_ceremony(
    kit: Kit, device: Device, *, plain: bool
) -> None:
    caller = kit.caller(device)
    await device.open()
    if plain:
        asking = asyncio.create_task(caller.pair_ask("POST", "/pair"))
    else:
        await caller.start("anna")
    await device.event(PairingEventKind.PENDING)
    await caller.connections[True].close()
    ended = await device.event(PairingEventKind.ENDED)
    assert ended.ceremony is not None
    assert ended.ceremony.state == "REVOKED"
    if plain:
        with pytest.raises(Unreachable):
            await asking
    assert device.app.pairing.ceremonies.pending() is None
    assert (await caller.start("anna")).code == "2.01"


async def test_a_ceremony_expires_without_a_decision(kit: Kit) -> None:
    device = await kit.device(limits=replace(FAST, person_seconds=0.3))
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("anna")
    ended = await device.event(PairingEventKind.ENDED)
    assert ended.reason == "too-late"
    answer = await caller.pair_ask("GET", f"/pair/{started.body['id']}")
    assert answer.body == {"state": "EXPIRED"}
    assert (await caller.start("anna")).code == "2.01"


async def test_two_keys_in_one_window_are_both_refused(kit: Kit) -> None:
    device = await kit.device(limits=LINGERING)
    first, second = kit.caller(device), kit.caller(device)
    await device.open()
    started = await first.start("anna")
    refused = await second.start("eve")
    assert (refused.code, refused.reason) == ("4.03", "refused")
    assert "two different clients" in refused.text
    answer = await first.pair_ask("GET", f"/pair/{started.body['id']}")
    assert answer.body == {"state": "REFUSED"}
    assert not device.app.access.store.state.users
    assert not device.app.pairing.is_open
    [event] = device.events("overlap")
    assert event.fingerprint == first.fingerprint
    assert second.fingerprint in event.detail


@pytest.mark.parametrize("step", ["decide", "exchange", "complete", "abort"])
async def test_a_step_after_the_expiry_records_that_the_ceremony_expired(
    kit: Kit, device: Device, step: str
) -> None:
    """The step is refused, and the trail records immediately that the ceremony has expired."""
    service, caller = device.app.pairing.ceremonies, kit.caller(device)
    await device.open(seconds=900)
    started = (await caller.start("anna")).body["id"]
    peer = (await caller.connect(pairing=True)).peer
    pending = service.pending()
    assert pending is not None
    seen = replace(peer, session_id=pending.session_id)
    steps: dict[str, Callable[[], object]] = {
        "decide": lambda: service.decide(started, accept=True),
        "exchange": lambda: service.exchange(started, {"nonce": bytes(32)}, seen),
        "complete": lambda: service.complete(started, {"confirm": bytes(32)}, seen),
        "abort": lambda: service.abort(started, seen),
    }
    skip_time(device.app.settings.limits.person_seconds + 1)  # before its timer can fire
    with pytest.raises(CeremonyError):
        steps[step]()
    assert [event.user for event in device.events("expired")] == ["anna"]


async def test_simultaneous_first_pairings_register_no_owner(kit: Kit) -> None:
    device = await kit.device(limits=LINGERING)
    racers = [kit.caller(device) for _ in range(4)]
    await device.open()
    await asyncio.gather(*(racer.connect(pairing=True) for racer in racers))
    answers = await asyncio.gather(
        *(racer.start(f"racer-{number}") for number, racer in enumerate(racers))
    )
    assert [answer.code for answer in answers].count("2.01") == 1
    assert device.app.pairing.ceremonies.pending() is None
    assert not device.app.access.store.state.users


async def test_a_jump_of_the_wall_clock_does_not_change_the_window(kit: Kit) -> None:
    wall = [1e9]
    device = await kit.device(clocks=SystemClocks(wall=lambda: wall[0]))
    stop_time()
    await device.open(seconds=100)
    for year in (31e6, -62e6):
        wall[0] += year
        assert device.app.pairing.seconds_left == pytest.approx(100)
        await device.open(seconds=50)
        assert device.app.pairing.seconds_left == pytest.approx(100)
    await device.pair(kit.caller(device), "anna")
    assert [event.wall for event in device.events("paired")] == [wall[0]]


async def test_no_secret_in_logs_events_or_the_state_file(
    kit: Kit, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caller = kit.caller(device)
    await device.open()
    started = await caller.start("anna")
    exporter = (await caller.connect(pairing=True)).peer.exporter
    side = await caller.compare_side(started)
    tag = bytes_field(side.confirm(), "confirm")
    path = f"/pair/{started.body['id']}"
    await caller.pair_ask("POST", path, {"confirm": tag})  # too early
    device.decide(accept=True)
    done = await caller.pair_ask("POST", path, {"confirm": tag})
    assert done.code == "2.04"
    key = device.app.identity.key_pem().splitlines()[1]
    text = caplog.text + repr([*device.app.access.store.audit.iterate()])
    text += repr(device.app.status()) + repr(device.pairing_events)
    disk = b"".join(file.read_bytes() for file in kit.home.glob("device.db*"))
    for secret in (exporter, tag, done.body["confirm"]):
        for form in (secret.hex(), repr(secret)[2:-1]):
            assert form not in text
        assert secret not in disk
    assert key.decode() not in text
    assert key not in disk


async def test_with_first_wins_the_first_client_pairs_and_the_second_waits(kit: Kit) -> None:
    device = await kit.device(limits=LINGERING, terms=PairingTerms(overlap=OverlapRule.FIRST_WINS))
    first, second = kit.caller(device), kit.caller(device)
    await device.open()
    started = await first.start("anna")
    busy = await second.start("eve")
    assert (busy.code, busy.reason) == ("5.03", "busy")
    assert busy.message.opt.max_age
    device.decide(accept=True)
    assert (await first.confirm(started)).code == "2.04"
    assert (await second.start("eve")).reason == "window-closed"
    assert list(device.app.access.store.state.users) == ["anna"]
