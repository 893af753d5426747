"""Policy files are validated at the start and can be reloaded, which affects only changed roles."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING
from weakref import ref

import pytest

from device_app.access.policies import PolicySet, check
from device_app.console.status import health_of
from device_app.errors import ConfigError
from device_app.pairing.terms import PairingTerms
from iam.store import Store
from peer.errors import ObservationEnded
from peer.net import endpoint
from tests.kit.daemon import run, run_process
from tests.kit.device import SETTINGS
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.kit.device import Caller, Device, Kit

READER = """
[[policy]]
id = "reading"
[[policy.statement]]
effect = "Allow"
actions = ["Board:Read", "Iam:GetMe"]
[[role]]
id = "reader"
rank = 5
policies = ["reading"]
"""
GREETED = READER.replace('"Iam:GetMe"', '"Iam:GetMe", "Hello:Get"')
INVALID = READER + '[[role]]\nid = "x"\nrank = 3\npolicies = ["no-such"]\n'
WRONG = [
    ('effect = "Permit"', 'effect = "Allow"', 5, "Permit"),
    ('actions = "Board:Read"', 'actions = ["Board:Read", "Iam:GetMe"]', 6, "list"),
    ("rank = 40", "rank = 5", 9, "rank"),
    ('rank = "5"', "rank = 5", 9, "rank"),
    ('policies = ["reading", "lost"]', 'policies = ["reading"]', 10, "lost"),
    ("colour = 1", 'id = "reading"', 3, "colour"),
]


@pytest.mark.parametrize(("new", "old", "line", "word"), WRONG)
async def test_an_invalid_policy_prevents_the_start_and_names_the_line(
    kit: Kit, new: str, old: str, line: int, word: str
) -> None:
    path = kit.policy(READER.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        await kit.device()
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert word in str(caught.value)
    with pytest.raises(ConfigError, match=word):
        check([path])
    kit.policy(READER)
    device = await kit.device()  # the failed start released all resources
    assert device.app.policies.current.files == (str(path),)
    assert [event.kind for event in device.events("policy-loaded")] == ["policy-loaded"]


async def test_unreadable_policy_files_prevent_the_start(kit: Kit) -> None:
    path = kit.policy(READER)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"test\.toml: not UTF-8"):
        await kit.device()
    path.unlink()
    path.symlink_to(path)  # a loop, which a mount may explain
    with pytest.raises(ConfigError, match=r"test\.toml: cannot be read"):
        await kit.device()
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text(READER)  # ignoring these policies could extend rights
    with pytest.raises(ConfigError, match=r"policy\.d: cannot be read"):
        await kit.device()
    path.parent.unlink()
    device = await kit.device()
    assert not device.events("policy-loaded")


async def start_observing(caller: Caller, path: str) -> asyncio.Task[None]:
    """A task that ends when the device ends the session under an observation."""
    observing = asyncio.Event()

    async def watch() -> None:
        with pytest.raises(ObservationEnded):  # noqa: PT012  # the loop raises
            async with aclosing(caller.observe(path)) as readings:
                async for answer in readings:
                    assert answer.code == "2.05"
                    observing.set()

    task = asyncio.create_task(watch())
    await asyncio.wait_for(observing.wait(), 60)
    return task


async def test_a_reload_ends_only_the_sessions_of_changed_roles(kit: Kit) -> None:
    kit.policy(READER)
    device = await kit.device()
    owner = kit.known(device, "olga", "owner")
    reader = kit.known(device, "rita", "reader")
    unknown_client = kit.caller(device)
    assert (await reader.ask("GET", "/hello")).reason == "denied"
    assert (await unknown_client.ask("GET", "/hello")).reason == "not-paired"
    ends = await start_observing(reader, "/board")
    stays = await start_observing(owner, "/board")
    before = {session.session_id: session for session in device.app.server.sessions()}
    kit.policy(GREETED)
    view = await device.app.policies.reload()
    assert view["changed_roles"] == ["reader"]
    await asyncio.wait_for(ends, 60)
    after = {session.session_id for session in device.app.server.sessions()}
    gone = {before[number].fingerprint.hex for number in before.keys() - after}
    assert gone == {reader.fingerprint}
    assert not stays.done()
    assert (await reader.ask("GET", "/hello")).code == "2.05"
    # A removed right takes effect immediately, too.
    kit.policy(READER)
    await device.app.policies.reload()
    await reader.disconnect()
    assert (await reader.ask("GET", "/hello")).reason == "denied"
    stays.cancel()
    loaded = device.events("policy-loaded")
    assert [event.result for event in loaded] == [
        loaded[0].result,
        view["digest"],
        loaded[0].result,
    ]


async def test_a_reload_that_changes_no_rights_ends_no_session(kit: Kit) -> None:
    kit.policy(READER)
    device = await kit.device()
    reader = kit.known(device, "rita", "reader")
    await reader.ask("GET", "/iam/me")
    held = reader.connections[False]
    kit.policy("# a remark\n" + READER)
    kit.policy("", "other.toml")
    assert (await device.app.policies.reload())["changed_roles"] == []
    assert (await reader.ask("GET", "/iam/me")).code == "2.05"
    assert reader.connections[False] is held
    assert held.is_open


async def test_built_in_roles_can_be_restricted_and_unpaired_gets_no_rights(kit: Kit) -> None:
    device = await kit.device()
    guest = kit.known(device, "gustav", "guest")
    assert (await guest.ask("GET", "/hello")).code == "2.05"
    kit.policy('[[role]]\nid = "guest"\npolicies = ["core-unpaired"]\n')
    await device.app.policies.reload()
    await guest.disconnect()
    assert (await guest.ask("GET", "/hello")).reason == "denied"
    for policies in ('"core-guest"', '"app-guest"', '"core-unpaired", "core-owner", "core-admin"'):
        kit.policy(f'[[role]]\nid = "unpaired"\npolicies = [{policies}]\n')
        with pytest.raises(ConfigError, match="not paired"):
            await device.app.policies.reload()


async def test_an_invalid_set_keeps_the_old_one_and_is_reported(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    path = kit.policy(READER)
    device = await kit.device()
    reader = kit.known(device, "rita", "reader")
    await reader.ask("GET", "/board")
    held = reader.connections[False]
    before = device.app.access.authority.access
    kit.policy(INVALID)
    with pytest.raises(ConfigError, match="no-such"):
        await device.app.policies.reload()
    assert device.app.access.authority.access is before
    assert (await reader.ask("GET", "/board")).code == "2.05"
    assert reader.connections[False] is held
    status = device.app.status()
    assert f"{path}:14: " in status["policy"]["trouble"]
    health, code = health_of(status)
    assert (health["healthy"], code) == (False, 1)
    assert str(path) in health["problems"][0]
    [event] = device.events("policy-refused")
    assert "no-such" in event.detail
    assert any(r.levelno == logging.ERROR and "no-such" in r.getMessage() for r in caplog.records)
    kit.policy(READER)
    await device.app.policies.reload()
    assert device.app.status()["policy"]["trouble"] == ""
    assert health_of(device.app.status())[0]["healthy"]


def many_policies(count: int) -> str:
    """A file with `count` policies, and a role for each of the first fifty."""
    return "\n".join(
        f"""
[[policy]]
id = "p{number}"
[[policy.statement]]
effect = "Allow"
actions = ["App{number}:Get", "Board:Read"]
conditions = [{{ StringEquals = {{ "Connection:Username" = ["u{number}", "v{number}"] }} }}]
[[role]]
id = "r{number}"
rank = 5
policies = ["p{number}"]
"""
        if number < 50
        else f"""
[[policy]]
id = "p{number}"
[[policy.statement]]
effect = "Deny"
actions = ["App{number}:Get", "Board:Burn"]
conditions = [{{ StringEquals = {{ "Connection:Username" = ["u{number}", "v{number}"] }} }}]
"""
        for number in range(count)
    )


async def test_requests_are_answered_while_many_policies_are_read(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read again and again until requests were answered meanwhile."""
    device = await kit.device()
    owner = kit.known(device, "olga", "owner")
    assert (await owner.ask("GET", "/hello")).code == "2.05"
    kit.policy(many_policies(1000))
    read = PolicySet.read
    begun, answered = threading.Event(), threading.Event()

    def repeated(folder: Path, app_actions: Mapping[str, str]) -> PolicySet:
        begun.set()
        deadline = time.monotonic() + TIMEOUT_SECONDS
        found = read(folder, app_actions)
        while not answered.is_set():
            assert time.monotonic() < deadline, "no request is answered"
            found = read(folder, app_actions)
        return found

    monkeypatch.setattr(PolicySet, "read", repeated)
    reading = asyncio.create_task(device.app.policies.reload())
    assert await asyncio.to_thread(begun.wait, TIMEOUT_SECONDS)
    for _ in range(3):
        assert (await owner.ask("GET", "/hello")).code == "2.05"
    assert not reading.done()
    answered.set()
    assert len((await reading)["changed_roles"]) == 50
    assert len(device.app.access.authority.access.policies) > 1000


async def test_simultaneous_reloads_run_one_after_the_other(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the policies in force are those that were read last, even if the first read is slower."""
    device = await kit.device()
    read = PolicySet.read
    begun, may_end = threading.Event(), threading.Event()
    calls: list[str] = []

    def slow(folder: Path, app_actions: Mapping[str, str]) -> PolicySet:
        found = read(folder, app_actions)
        calls.append(found.digest)
        if len(calls) == 1:
            begun.set()
            assert may_end.wait(60)
        return found

    monkeypatch.setattr(PolicySet, "read", slow)
    kit.policy(READER)
    first = asyncio.create_task(device.app.policies.reload())
    assert await asyncio.to_thread(begun.wait, 60)
    kit.policy(GREETED)
    second = asyncio.create_task(device.app.policies.reload())
    for _ in range(1000):
        await asyncio.sleep(0)
    may_end.set()
    views = [await first, await second]
    assert [view["digest"] for view in views] == calls
    assert [view["changed_roles"] for view in views] == [["reader"], ["reader"]]
    assert device.app.policies.current.digest == calls[1]


async def test_the_configured_pairing_role_has_to_exist(kit: Kit) -> None:
    kit.policy(READER)
    terms = PairingTerms(role="reader")
    device = await kit.device(settings=replace(SETTINGS, terms=terms))
    await device.open()
    caller = await kit.paired(device, "rita")
    assert (await caller.ask("GET", "/iam/me")).body["role"] == "reader"
    path = kit.policy("")
    with pytest.raises(ConfigError, match="no role 'reader'"):
        await device.app.policies.reload()
    assert "reader" in device.app.access.authority.access.roles
    await device.app.close()
    with pytest.raises(ConfigError, match="no role 'reader'"):
        await kit.device(settings=replace(SETTINGS, terms=terms))
    path.unlink()


async def test_removing_a_role_closes_its_window(kit: Kit) -> None:
    kit.policy(READER)
    device = await kit.device()
    kit.known(device, "olga", "owner")
    await device.open(role="reader")
    kit.policy("")
    await device.app.policies.reload()
    assert not device.app.pairing.is_open


async def test_unknown_actions_are_reported_and_an_undefined_role_has_no_rights(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    path = kit.policy(READER.replace("Iam:GetMe", "Iam:GetMee"))
    device = await kit.device()
    assert device.app.policies.current.warnings == (
        f"{path}:6: no resource asks for the action Iam:GetMee",
    )
    reader = kit.known(device, "rita", "reader")
    assert (await reader.ask("GET", "/board")).code == "2.05"
    kit.policy("")
    await device.app.policies.reload()
    assert any("role 'reader', which is not defined" in r.getMessage() for r in caplog.records)
    await reader.disconnect()
    refused = await reader.ask("GET", "/board")
    assert (refused.code, refused.reason) == ("4.03", "denied")
    assert "not defined" in refused.text
    assert (await reader.ask("GET", "/hello")).reason == "denied"


async def test_conditions_are_listed_with_the_policies(kit: Kit) -> None:
    kit.policy(
        READER.replace(
            '"Iam:GetMe"]',
            '"Iam:GetMe"]\nconditions = [{ Bool = { "Connection:IsLocal" = ["true"] } }]',
        )
    )
    device = await kit.device()
    owner = kit.known(device, "olga", "owner")
    policies = {one["id"]: one for one in (await owner.ask("GET", "/iam/policies")).body}
    assert policies["reading"]["statements"] == [
        {
            "effect": "Allow",
            "actions": ["Board:Read", "Iam:GetMe"],
            "conditions": [
                {"operator": "Bool", "attribute": "Connection:IsLocal", "values": ["true"]}
            ],
        }
    ]
    roles = {one["id"]: one for one in (await owner.ask("GET", "/iam/roles")).body}
    assert roles["reader"] == {"id": "reader", "rank": 5, "policies": ["reading"]}


async def test_an_invalid_set_prevents_the_start_but_not_a_reset(kit: Kit) -> None:
    assert (await run(kit.home, "init", "--name", "kitchen")).code == 0
    path = kit.policy(INVALID)
    refused = await run_process(kit.home, "run", "--port", "0", "--pairing-port", "0")
    assert refused.code == 2
    assert f"handfast-device: {path}:14: role 'x' names the unknown policy 'no-such'" in refused.err
    assert (await run(kit.home, "status")).code == 0
    assert (await run(kit.home, "reset", "--yes")).code == 0
    assert (await run(kit.home, "users", "list")).code == 0  # this verb needs no policy
    assert "no-such" in (await run(kit.home, "users", "add", "anna")).err


async def test_sighup_reloads_the_policy_files(kit: Kit) -> None:
    kit.policy(READER)
    daemon = await kit.daemon()
    kit.policy(INVALID)
    daemon.send(signal.SIGHUP)
    await daemon.logs("no-such")
    kit.policy(GREETED)
    daemon.send(signal.SIGHUP)
    await daemon.logs("policies in force")
    status = await daemon.json("status")
    assert status["policy"]["trouble"] == ""
    assert await daemon.stop() == 0
    assert trail_of(kit.home) == ["policy-loaded", "policy-refused", "policy-loaded"]


def trail_of(home: Path) -> list[str]:
    store = Store.open(home / "device.db")
    try:
        kinds = [record.event.kind for record in store.audit.iterate()]
    finally:
        store.close()
    return [kind for kind in kinds if kind.startswith("policy")]


async def test_a_device_without_policy_files_reports_none(device: Device) -> None:
    view = device.app.status()["policy"]
    assert (view["files"], view["warnings"], view["trouble"]) == ([], [], "")
    assert not device.events("policy-loaded")


async def test_many_sessions_are_ended_in_steps(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn of the loop ends a bounded number, however many a reload concerns."""
    monkeypatch.setattr(endpoint, "SESSIONS_ENDED_PER_STEP", 2)
    kit.policy(READER)
    device = await kit.device()
    owner = kit.known(device, "olga", "owner")
    readers = [kit.known(device, f"rita{number}", "reader") for number in range(7)]
    for caller in (owner, *readers):
        await caller.connect()
    counts = [len(device.app.server.sessions())]
    kit.policy(GREETED)
    await device.app.policies.reload()
    counts.append(len(device.app.server.sessions()))
    while counts[-1] > 1:
        assert len(counts) < 20
        await asyncio.sleep(0)
        counts.append(len(device.app.server.sessions()))
    assert all(before - after <= 2 for before, after in pairwise(counts))
    assert (await owner.ask("GET", "/hello")).code == "2.05"


async def test_a_replaced_set_is_freed(kit: Kit) -> None:
    kit.policy(READER)
    device = await kit.device()
    replaced = ref(device.app.policies.current.access)
    kit.policy(GREETED)
    await device.app.policies.reload()
    assert replaced() is None  # its parts follow, in later turns of the loop
