"""`handfast-device remote`: its state, and the rotation of the secrets of all clients."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from device_app.remote import master_key
from device_app.terminal.render_metrics import metrics_lines
from device_app.terminal.render_remote import remote_lines
from device_app.terminal.render_status import status_lines
from peer.net.address import Address
from peer.net.session_route import SessionRoute
from peer.remote.agent_view import BrokerView, LinkState, NetworkFacts, PathView
from peer.remote.settings import RemoteSettings
from tests.kit.daemon import run
from tests.kit.remote_agents import (
    BROKER,
    PASSWORD,
    SETTINGS,
    FakeAgent,
    start_with_agent,
    write_password,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Caller, Kit


async def secret_of(caller: Caller) -> bytes:
    answer = await caller.ask("GET", "/remote")
    return RemoteSettings.decode_untrusted(answer.payload).secret.reveal()


async def test_a_rotation_invalidates_the_secret_of_every_pair(kit: Kit, agent: FakeAgent) -> None:
    device = await start_with_agent(kit, agent)
    callers = [kit.known(device, "anna", "owner"), kit.known(device, "gus", "guest")]
    before = [await secret_of(one) for one in callers]
    topics, revision = agent.topics, agent.asks.revision(callers[0].identity.fingerprint)
    result = await run(kit.home, "remote", "rotate", "--yes", "--json")
    assert result.value["generation"] == 1
    assert not agent.topics & topics
    assert len(agent.topics) == 2
    after = [await secret_of(one) for one in callers]
    assert not {*before} & {*after}
    assert agent.asks.revision(callers[0].identity.fingerprint) != revision
    assert not agent.ended  # both keys were proved on the paths that are open
    [event] = device.events("remote-rotated")
    assert (event.actor, event.detail.rpartition(", ")[2]) == ("@console", "generation 1")


async def test_a_rotation_asks_first_and_says_what_follows(kit: Kit, agent: FakeAgent) -> None:
    await start_with_agent(kit, agent)
    asked = await run(kit.home, "remote", "rotate")
    assert asked.code == 2
    found = master_key.load(kit.home / "remote.key")
    assert found is not None
    assert found.generation == 0
    said = await run(kit.home, "remote", "rotate", "--yes")
    assert "gets its new secret by itself" in said.out


async def test_a_rotation_works_while_the_device_does_not_run(kit: Kit, agent: FakeAgent) -> None:
    device = await start_with_agent(kit, agent)
    kit.known(device, "anna", "owner")
    await kit.close()
    assert (await run(kit.home, "remote", "rotate", "--yes")).code == 0
    again = FakeAgent()
    device = await start_with_agent(kit, again)
    assert len(again.topics) == 1
    assert not again.topics & agent.topics
    assert len(device.events("remote-rotated")) == 1


async def test_without_a_key_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await run(home, "init", "--name", "kitchen")
    result = await run(home, "remote", "rotate", "--yes")
    assert result.code == 1
    assert "no remote master key" in result.err


@pytest.mark.parametrize(("text", "state"), [("", "off"), (SETTINGS, "stopped")])
async def test_the_state_of_a_device_that_does_not_run(
    tmp_path: Path, text: str, state: str
) -> None:
    home = tmp_path / "home"
    await run(home, "init", "--name", "kitchen")
    if text:
        (home / "device.toml").write_text(text)
    for words in (("remote",), ("remote", "status")):
        result = await run(home, *words, "--json")
        assert result.value["remote"]["state"] == state
    assert (await run(home, "remote")).out.startswith(f"state        {state}: ")


async def test_status_shows_brokers_paths_and_the_network(kit: Kit, agent: FakeAgent) -> None:
    device = await start_with_agent(kit, agent)
    anna = kit.known(device, "anna", "owner")
    agent.attach()
    path = PathView(
        anna.identity.fingerprint, SessionRoute.RELAY, Address("203.0.113.9", 4711), True, 62.0
    )
    agent.shows(
        network=NetworkFacts(Address("198.51.100.7", 40000), has_udp=False),
        brokers=(
            BrokerView(BROKER, LinkState.ATTACHED, 100.0, ""),
            BrokerView("wss://other.example", LinkState.WAITING, 5.0, "unreachable"),
        ),
        paths=(path,),
        counters={"messages-malformed": 3},
    )
    text = (await run(kit.home, "remote")).out
    for words in (
        f"attached to {BROKER}",
        "wss://other.example: waiting for 5 s: it does not answer",
        "198.51.100.7:40000",
        "no STUN server answers",
        "1 key can connect",
        "anna at 203.0.113.9:4711 (relay, for 1 min 2 s)",
        "messages-malformed 3",
    ):
        assert words in text, words
    status = device.app.status()
    assert any(line.startswith("remote       attached") for line in status_lines(status))
    metrics = metrics_lines(status)
    assert "handfast_remote_attached 1" in metrics
    assert 'handfast_remote_paths{path="relay"} 1' in metrics
    assert not [line for line in metrics if "198.51" in line or "203.0" in line]


async def test_no_output_and_no_log_has_a_secret(
    kit: Kit, agent: FakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    device = await start_with_agent(kit, agent)
    anna = kit.known(device, "anna", "owner")
    secret = await secret_of(anna)
    agent.attach()
    agent.lose("refused")
    await run(kit.home, "remote", "rotate", "--yes")
    key = master_key.load(kit.home / "remote.key")
    assert key is not None
    shown: list[Any] = [caplog.text, remote_lines(device.app.status()["remote"])]
    for words in ("status", "health", "remote", "events", "check"):
        for options in ((), ("--json",), ("-vv",)):
            result = await run(kit.home, words, *options)
            shown.append(result.out + result.err)
    write_password(kit.home, f"{PASSWORD}\x00")
    result = await run(kit.home, "remote", "test")
    shown += [
        result.out + result.err,
        repr(agent.settings),
        repr(key),
        json.dumps([str(one.event) for one in device.app.access.store.audit.iterate()]),
    ]
    text = "\n".join(map(str, shown))
    for one in (PASSWORD, secret.hex(), key.secret.reveal().hex(), str(secret)):
        assert one not in text
