"""Authorization and resources on the regular port."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import aiocoap
import pytest

from device_app.access.bodies import UserPatch
from device_app.resources import board
from device_app.resources.board import OneReading, Readings, board_resources
from peer.limits import DEFAULT_LIMITS
from peer.net.admission import SessionPriority
from peer.net.problem import ProblemError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Caller, Device, Kit


@pytest.mark.parametrize("path", ["/hello", "/hello/", "/iam/me", "/iam/users/x", "/no/such", "/"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "iPATCH"])
async def test_an_unknown_client_gets_the_same_answer_on_every_path(
    kit: Kit, device: Device, path: str, method: str
) -> None:
    answer = await kit.caller(device).ask(method, path)
    assert (answer.code, answer.reason) == ("4.03", "not-paired")
    assert "handfast pair" in answer.text
    assert answer.text == (await kit.caller(device).ask("GET", "/unlikely")).text


async def test_a_paired_client_gets_the_resources_and_specific_errors(
    owner: Caller, device: Device
) -> None:
    hello = await owner.ask("GET", "/hello")
    device_id = device.fingerprint.device_id
    assert hello.body == f"Hello olga, you are owner of kitchen ({device_id})."
    assert (await owner.ask("GET", "/hello/")).body == hello.body
    assert (await owner.ask("GET", "/no/such")).code == "4.04"
    assert (await owner.ask("GET", "/iam/users/olga/nothing")).code == "4.04"
    assert (await owner.ask("PUT", "/hello", {})).code == "4.05"


async def test_a_denial_names_only_the_missing_right(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga")
    guest = await kit.paired(device, "gustav")
    denied = await guest.ask("GET", "/iam/users")
    assert (denied.code, denied.reason) == ("4.03", "denied")
    assert "Iam:ListUsers" in denied.text
    assert "olga" not in denied.text
    assert "admin" not in denied.text
    # A method that the resource does not have is also denied if the caller may use no other.
    assert (await guest.ask("PUT", "/iam/users", {})).reason == "denied"
    assert (await guest.ask("GET", "/iam/roles")).reason == "denied"


async def test_an_unknown_critical_option_and_a_request_to_a_proxy_are_refused(
    owner: Caller,
) -> None:
    unknown = await owner.ask("GET", "/hello", options={65_001: b"?"})
    assert (unknown.code, unknown.reason) == ("4.02", "bad-option")
    proxied = await owner.ask("GET", "/hello", proxy_scheme="coap")
    assert (proxied.code, proxied.reason) == ("5.05", "no-proxy")


async def test_an_unsupported_accept_option_is_refused(owner: Caller) -> None:
    connection = await owner.connect()
    for path, accept in (("hello", 60), ("board", 0)):
        message = aiocoap.Message(code=aiocoap.GET, uri_path=(path,), accept=accept)
        assert (await connection.request(message, timeout=60)).code.dotted == "4.06"


async def test_the_list_of_resources_contains_only_allowed_ones(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga", role="owner")
    guest = await kit.paired(device, "gustav")

    async def listing(path: str, caller: Caller) -> str:
        answer = await caller.ask("GET", path)
        assert answer.code == "2.05"
        return str(answer.message.payload.decode())

    core = "/.well-known/core"
    assert await listing(core, kit.caller(device)) == ""
    seen = await listing(core, guest)
    assert "</hello>" in seen
    assert "</board>" in seen
    assert "</iam/users>" not in seen
    filtered = await listing(core + "?rt=handfast.hello", guest)
    assert filtered == '</hello>;ct="0";rt="handfast.hello"'


async def test_the_board_reads_its_sensors_only_while_it_is_observed(
    owner: Caller, device: Device
) -> None:
    resource: Any = device.app.site.paths()["board",]
    assert not resource.is_ticking
    seen = []
    async with asyncio.timeout(60), aclosing(owner.observe("/board")) as readings:
        async for answer in readings:
            seen.append(answer.body)
            assert resource.is_ticking
            if len(seen) == 3:
                break
        stopped = asyncio.Event()
        count = resource.update_observation_count

        def counted(number: int) -> None:
            count(number)
            if not number:
                stopped.set()

        resource.update_observation_count = counted
    assert all(set(one) == {"load", "temperature", "uptime", "memory_available"} for one in seen)
    assert seen[-1]["uptime"] >= seen[0]["uptime"] > 0
    await owner.close()
    await asyncio.wait_for(stopped.wait(), 60)
    assert not resource.is_ticking


async def test_one_reading_is_available_as_text(owner: Caller) -> None:
    assert float((await owner.ask("GET", "/board/load")).body) >= 0


@pytest.mark.parametrize(("seconds", "max_age"), [(0.02, 1), (5.0, 5), (7.5, 8)])
def test_a_reading_is_fresh_until_the_next_notification(seconds: float, max_age: int) -> None:
    resources: list[Any] = list(board_resources(seconds=seconds).values())
    assert {resource.answer((), None).max_age for resource in resources} == {max_age}


async def test_unknown_clients_evict_each_other_but_no_owner(kit: Kit) -> None:
    limits = replace(DEFAULT_LIMITS, unpaired_sessions=4, unpaired_kept_seconds=0)
    device = await kit.device(limits=limits)
    owner = kit.known(device, "olga", "owner")
    await owner.ask("GET", "/hello")
    held = owner.connections[False]
    for _ in range(7):
        assert (await kit.caller(device).ask("GET", "/hello")).reason == "not-paired"
    priorities = [session.priority for session in device.app.server.sessions()]
    assert priorities.count(SessionPriority.LOW) == 4
    assert priorities.count(SessionPriority.HIGH) == 1
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert owner.connections[False] is held
    counters = device.app.status()["counters"]["regular"]
    assert counters["sessions-evicted"] == 3


def test_a_board_reports_its_sensors_and_omits_missing_ones(tmp_path: Path) -> None:
    assert Readings.read(tmp_path) == Readings(None, None, None, None)
    files = {
        "proc/loadavg": "0.52 0.58 0.59 1/467 1234\n",
        "proc/uptime": "1234.50 99.0\n",
        "proc/meminfo": "MemTotal: 100 kB\nMemAvailable:   2048 kB\n",
        "sys/class/thermal/thermal_zone0/temp": "41500\n",
        "sys/class/thermal/thermal_zone1/temp": "47250\n",
        "sys/class/thermal/thermal_zone2/temp": "asleep\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="ascii")
    assert Readings.read(tmp_path) == Readings((0.52, 0.58, 0.59), 47.25, 1234.5, 2_097_152)
    assert OneReading(lambda now: str(now.temperature), rt="t").ct == 0


@pytest.mark.parametrize("name", ["loadavg", "uptime", "meminfo"])
@pytest.mark.parametrize("text", ["", "\n", "none\n", "0.5 x y\n", "MemAvailable: ? kB\n"])
def test_a_reading_without_its_number_is_not_available(
    name: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / name).write_text(text, encoding="ascii")
    found = Readings.read(tmp_path)
    uptime = 0.5 if (name, text[:3]) == ("uptime", "0.5") else None
    assert found == Readings(None, None, uptime, None)


async def test_hidden_readings_are_null_and_have_no_path_of_their_own(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a sandbox that hides `/proc`."""
    hidden = partial(board_resources, read=partial(Readings.read, tmp_path))
    monkeypatch.setattr(board, "board_resources", hidden)
    device = await kit.device()
    owner = await kit.paired(device, "olga")
    assert (await owner.ask("GET", "/board")).body == {
        "load": None,
        "temperature": None,
        "uptime": None,
        "memory_available": None,
    }
    for name in ("load", "temperature"):
        assert (await owner.ask("GET", f"/board/{name}")).code == "4.04"
    assert b"/board/load" not in (await owner.ask("GET", "/.well-known/core")).payload


async def test_a_reading_that_is_lost_is_not_found_until_it_is_back(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    file = tmp_path / "proc" / "loadavg"
    file.write_text("0.52 0.58 0.59 1/467 1234\n", encoding="ascii")
    resource = board_resources(read=partial(Readings.read, tmp_path))["board", "load"]
    sender: Any = None
    assert resource.answer((), sender).payload == b"0.52"
    file.unlink()
    with pytest.raises(ProblemError) as lost:
        resource.answer((), sender)
    assert lost.value.to_message().code.dotted == "4.04"
    file.write_text("1.00 0.58 0.59 1/467 1234\n", encoding="ascii")
    assert resource.answer((), sender).payload == b"1.00"


async def test_iam_me_reports_end_of_access_path_and_actions(kit: Kit, device: Device) -> None:
    owner = await kit.paired(device, "olga")
    device.app.access.registry.set_user(None, "olga", UserPatch(display_name="Olga"))
    guest = await kit.paired(device, "gustav")
    until = device.app.access.clock.now() + 3600
    changed = await owner.ask("iPATCH", "/iam/users/gustav", {"not_after": until})
    assert changed.code == "2.04"
    me = await guest.ask("GET", "/iam/me")
    assert me.body["until"] == int(until)
    assert me.body["path"] == "local"
    assert me.body["actions"] == [
        "Board:Read",
        "Core:Discover",
        "Hello:Get",
        "Iam:Check",
        "Iam:GetMe",
        "Iam:RedeemInvite",
        "Remote:Connect",
        "Remote:GetSettings",
    ]
    assert "conditional" not in me.body


async def test_roles_and_policies_are_listed(owner: Caller) -> None:
    roles = (await owner.ask("GET", "/iam/roles")).body
    assert [role["id"] for role in roles] == ["unpaired", "guest", "user", "admin", "owner"]
    policies = {one["id"]: one for one in (await owner.ask("GET", "/iam/policies")).body}
    assert policies["core-unpaired"]["statements"] == [
        {"effect": "Allow", "actions": ["Core:Discover", "Iam:RedeemInvite"]}
    ]
