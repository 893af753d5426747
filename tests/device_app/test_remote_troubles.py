"""Remote reach that cannot work: the device serves on, and says what is missing and what to do."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import pytest

import peer.remote
from device_app.console.status import problems_of
from device_app.limits import REMOTE_EVENT_BURST
from device_app.remote import master_key
from device_app.remote.agent_factory import create_agent
from device_app.remote.master_key import MasterKey
from peer.identity import Identity
from peer.remote.agent_view import LinkState, NetworkFacts
from tests.kit.daemon import run
from tests.kit.remote_agents import (
    BROKER,
    PASSWORD,
    REMOTE,
    FakeAgent,
    start_with_agent,
    write_password,
)

if TYPE_CHECKING:
    from device_app.remote.agent import MakeAgent
    from tests.kit.device import Kit


def prepare(kit: Kit, broken: str) -> None:
    password, key = write_password(kit.home), kit.home / "remote.key"
    if broken == "no password":
        password.unlink()
    elif broken == "empty password":
        password.write_text("\nnot here\n")
    elif broken == "long password":
        password.write_text("x" * 2000)
    elif broken == "binary password":
        password.write_bytes(b"\xff\xfe")
    elif broken == "password folder":
        password.unlink()
        password.mkdir()
    elif broken == "damaged key":
        key.write_bytes(b"junk")
        key.chmod(0o600)
    elif broken == "open key":
        master_key.save(MasterKey.create(Identity.create().fingerprint, bytes(32)), key)
        key.chmod(0o644)
    elif broken == "linked key":
        key.symlink_to("device.db")


@pytest.mark.parametrize(
    ("broken", "why", "words"),
    [
        ("no password", "password-file", "No such file"),
        ("empty password", "password-file", "its first line is not text"),
        ("long password", "password-file", "longer than"),
        ("binary password", "password-file", "not UTF-8"),
        ("password folder", "password-file", "Is a directory"),
        ("damaged key", "remote-key", "cannot be read"),
        ("open key", "remote-key", "chmod 600"),
        ("linked key", "remote-key", "symbolic link"),
        ("no packages", "not-installed", "pip install 'handfast[remote]'"),
    ],
)
async def test_the_device_serves_without_what_is_missing_and_names_it(
    kit: Kit,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    why: str,
    words: str,
) -> None:
    prepare(kit, broken)
    make: MakeAgent = FakeAgent().make
    if broken == "no packages":
        monkeypatch.delattr(peer.remote, "network", raising=False)
        monkeypatch.setitem(sys.modules, "peer.remote.network", None)
        make = create_agent
    device = await kit.device(make_agent=make, remote=REMOTE)
    anna = kit.known(device, "anna", "owner")
    assert (await anna.ask("GET", "/hello")).code == "2.05"
    answer = await anna.ask("GET", "/remote")
    assert (answer.code, answer.reason) == ("5.03", "unavailable")
    status = device.app.status()
    assert (status["remote"]["state"], status["remote"]["why"]) == ("trouble", why)
    assert words in status["remote"]["trouble"]
    assert status["remote"]["trouble"] in problems_of(status)
    assert status["remote"]["trouble"] in device.app.device_status.problems()
    [record] = [one for one in caplog.records if one.name == "handfast.remote"]
    assert record.levelno == logging.ERROR
    assert words in record.getMessage()


@pytest.mark.parametrize("broken", ["no password", "damaged key", "no packages"])
async def test_check_warns_of_what_is_missing(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    prepare(kit, broken)
    if broken == "no packages":
        monkeypatch.setitem(sys.modules, "aioice", None)
    (kit.home / "device.toml").write_text(
        f'[network]\nport = 0\npairing_port = 0\n[remote]\nbrokers = ["{BROKER}"]\n'
        'username = "kitchen"\npassword_file = "broker.password"\n'
    )
    answer = (await run(kit.home, "check", "--json")).value
    assert answer["ready"]
    [warning] = [one for one in answer["warnings"] if "other networks" in one]
    assert warning.startswith("the device could not be reached from other networks: ")


async def test_a_password_file_that_others_can_read_is_used_with_a_warning(
    kit: Kit, agent: FakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    write_password(kit.home, mode=0o640)
    await kit.device(make_agent=agent.make, remote=REMOTE)
    assert agent.settings is not None
    assert agent.settings.brokers[0].password.reveal() == PASSWORD
    [warning] = [one.getMessage() for one in caplog.records if one.name == "handfast.remote"]
    assert "mode 0640" in warning
    assert "chmod 600" in warning


async def test_the_events_of_a_broker_are_within_a_budget(kit: Kit, agent: FakeAgent) -> None:
    """A broker that connects and disconnects the device drives no event out of the trail."""
    device = await start_with_agent(kit, agent)
    for _ in range(5 * REMOTE_EVENT_BURST):
        agent.attach()
        agent.lose("unreachable")
    kinds = [*device.events("remote-attached"), *device.events("remote-detached")]
    assert len(kinds) == REMOTE_EVENT_BURST
    assert device.events("remote-detached")[0].result == "unreachable"
    assert BROKER in device.events("remote-attached")[0].detail


async def test_a_failed_attempt_to_attach_is_logged_once_for_each_reason(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """A start with a wrong pin is not silent, and a long outage does not fill the log."""
    prepare(kit, "")
    agent = FakeAgent()
    await kit.device(make_agent=agent.make, remote=REMOTE)
    for why in ("pin-mismatch", "pin-mismatch", "refused", "unreachable", "unreachable"):
        agent.fail(why)
    agent.attach()
    agent.lose("unreachable")
    agent.fail("unreachable")
    agent.attach()
    agent.fail("unreachable")
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert [BROKER in one for one in said] == [True] * 5
    first = f"cannot attach to {BROKER}: "
    assert [one.startswith(first) for one in said] == [True, True, True, False, True]
    assert "it has another key than the pinned one. `handfast-device remote test`" in said[0]
    assert "it refuses the account" in said[1]


async def test_status_and_health_follow_the_broker(
    kit: Kit, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await start_with_agent(kit, agent)
    agent.attach()
    agent.shows(network=NetworkFacts(None, has_udp=True))
    view = device.app.status()["remote"]
    assert (view["state"], view["broker"], view["udp"], view["trouble"]) == (
        "attached",
        BROKER,
        True,
        "",
    )
    agent.lose("pin-mismatch")
    assert device.app.status()["remote"]["why"] == "pin-mismatch"
    assert not device.app.device_status.problems()  # it may be back soon
    monkeypatch.setattr("device_app.remote.service.REMOTE_ABSENT_SECONDS", -1.0)
    [problem] = device.app.device_status.problems()
    assert problem.startswith(f"the device is not attached to the broker {BROKER}: ")
    assert "handfast-device remote test" in problem
    agent.attach()
    assert not device.app.device_status.problems()
    assert agent.state.state is LinkState.ATTACHED


async def test_the_end_of_the_device_ends_the_agent(kit: Kit, agent: FakeAgent) -> None:
    await start_with_agent(kit, agent)
    await kit.close()
    assert agent.is_closed
