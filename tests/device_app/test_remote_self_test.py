"""`remote test` against Mosquitto and coturn, with each part broken in turn."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import peer.remote
from device_app.console.console import Console
from device_app.console.control_client import ControlClient
from device_app.remote import self_test, self_test_steps
from peer.identity import Identity
from peer.remote import stun_probe
from peer.remote.limits import IceLimits
from tests.kit.brokers import LOOPBACK, mosquitto, password_of
from tests.kit.daemon import run
from tests.kit.device import Kit
from tests.kit.remote_agents import broker_options
from tests.kit.server_process import free_port
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.brokers import RunningBroker
    from tests.kit.relays import RunningRelay

pytestmark = pytest.mark.needs_tool("mosquitto", "mosquitto_passwd", "turnserver")

BROKER_STEPS = ["DNS", "TCP", "TLS", "login", "heard", "others"]


@pytest.fixture(autouse=True)
def _long_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give busy servers time to answer.

    The brokers here deliver no topic of another account, however long a test waits.
    """
    monkeypatch.setattr(self_test, "SELF_TEST_FOREIGN_SECONDS", 0.05)
    monkeypatch.setattr(self_test, "SELF_TEST_HEARD_SECONDS", TIMEOUT_SECONDS)
    for name in ("SELF_TEST_CONNECT_SECONDS", "SELF_TEST_DIAL_SECONDS"):
        monkeypatch.setattr(self_test_steps, name, TIMEOUT_SECONDS)


class Home:
    """The folder of a device, and `[remote]` in its settings."""

    def __init__(self, home: Path, broker: RunningBroker) -> None:
        self.home = home
        self.settings = {
            "brokers": [broker.server().url],
            "broker_pin": broker.tls.pin.hex(),
            "username": "home",
            "password_file": "broker.password",
        }
        home.mkdir()
        Identity.create().save(home / "device-key.pem")
        self.password("broker.password", password_of("home"))
        self.password("turn.password", password_of("home"))

    def password(self, name: str, text: str, mode: int = 0o600) -> None:
        (self.home / name).write_text(f"{text}\n")
        (self.home / name).chmod(mode)

    async def test(self, **changes: object) -> tuple[int, list[dict[str, Any]], str]:
        """Run the verb; return exit code, steps and everything that was printed."""
        more = changes.pop("more", "")
        values = {**self.settings, **changes}
        lines = [f"{name} = {json.dumps(one)}" for name, one in values.items() if one is not None]
        text = "\n".join(['name = "kitchen"', "[remote]", *lines, str(more)])
        (self.home / "device.toml").write_text(f"{text}\n")
        result = await run(self.home, "remote", "test", "--json")
        assert password_of("home") not in result.out + result.err
        return result.code, result.value["steps"] if result.out else [], result.out + result.err


@pytest.fixture
def home(tmp_path: Path, broker: RunningBroker) -> Home:
    return Home(tmp_path / "home", broker)


def results(steps: list[dict[str, Any]]) -> dict[str, str]:
    return {step["step"]: step["result"] for step in steps}


def one(steps: list[dict[str, Any]], name: str) -> dict[str, Any]:
    [found] = [step for step in steps if step["step"] == name]
    return found


async def test_every_step_succeeds_with_a_broker_and_a_relay(
    home: Home, relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = IceLimits(gather_seconds=TIMEOUT_SECONDS, allocate_seconds=TIMEOUT_SECONDS)
    for name in ("probe_network", "probe_relay"):  # else 1 and 5 seconds for a busy relay
        monkeypatch.setattr(stun_probe, name, partial(getattr(stun_probe, name), limits=limits))
    code, steps, _ = await home.test(
        stun=[relay.stun],
        turn=[relay.udp().url, relay.over_tls().url],
        turn_username="home",
        turn_password_file="turn.password",
        turn_pin=relay.tls.pin.hex(),
    )
    assert code == 0
    assert [step["step"] for step in steps] == [
        *BROKER_STEPS,
        *("address", "NAT"),
        *("DNS", "allocation", "relay"),
        *("DNS", "TCP", "TLS", "allocation", "relay"),
    ]
    assert {step["step"] for step in steps if step["result"] != "ok"} <= {"NAT"}
    assert not [step for step in steps if step["result"] == "failed"]


BROKEN: dict[str, tuple[dict[str, object], str]] = {
    "DNS": ({"brokers": ["mqtts://no-such-host.invalid"]}, "DNS"),
    "TCP": ({"brokers": ["mqtts://127.0.0.1:1"]}, "TCP"),
    "pin": ({"broker_pin": "ab" * 32}, "TLS"),
    "certificate": ({"broker_pin": None}, "TLS"),
    "account": ({"username": "nobody-here", "prefix": "hf1/home"}, "login"),
    "rights": ({"prefix": "elsewhere/home"}, "heard"),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_part_fails_its_step_with_advice_and_skips_those_after_it(
    home: Home, broker: RunningBroker, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    if broken == "rights":
        monkeypatch.setattr(self_test, "SELF_TEST_HEARD_SECONDS", 0.2)
    changes, failing = BROKEN[broken]
    code, steps, _ = await home.test(**changes)
    assert code == 1
    found = results(steps)
    assert [name for name, result in found.items() if result == "failed"] == [failing]
    assert one(steps, failing)["advice"]
    before = BROKER_STEPS[: BROKER_STEPS.index(failing)]
    assert {found[name] for name in before} <= {"ok"}
    if failing != "heard":
        after = BROKER_STEPS[BROKER_STEPS.index(failing) + 1 :]
        assert {found[name] for name in after} == {"skipped"}
    if failing == "TLS":
        step = one(steps, "TLS")
        assert broker.tls.pin.hex() in step["detail"] + step["advice"]
        assert "remote.broker_pin" in step["advice"]


async def test_a_wrong_password_fails_the_login_and_is_not_printed(home: Home) -> None:
    home.password("broker.password", "the-wrong-password")
    code, steps, printed = await home.test()
    assert code == 1
    assert one(steps, "login")["result"] == "failed"
    assert "the-wrong-password" not in printed


async def test_a_password_file_that_others_can_read_is_named(home: Home) -> None:
    home.password("broker.password", password_of("home"), mode=0o644)
    code, steps, _ = await home.test()
    assert code == 1
    assert "chmod 600" in one(steps, "password")["advice"]


async def test_a_missing_password_file_stops_the_test(home: Home) -> None:
    code, _, printed = await home.test(password_file="missing")
    assert code == 1
    assert "the password file" in printed


async def test_a_relay_that_refuses_the_account_fails_its_allocation(
    home: Home, relay: RunningRelay
) -> None:
    home.password("turn.password", "the-wrong-password")
    code, steps, printed = await home.test(
        turn=[relay.udp().url], turn_username="home", turn_password_file="turn.password"
    )
    assert code == 1
    assert results(steps)["allocation"] == "failed"
    assert results(steps)["relay"] == "skipped"
    assert "the-wrong-password" not in printed


async def test_a_relay_over_tls_that_does_not_run_fails_its_tcp_step(home: Home) -> None:
    code, steps, _ = await home.test(
        turn=[f"turns:{LOOPBACK}:1"], turn_username="home", turn_password_file="turn.password"
    )
    assert code == 1
    found = results([step for step in steps if step["target"].startswith("turns:")])
    assert found == {
        "DNS": "ok",
        "TCP": "failed",
        "TLS": "skipped",
        "allocation": "skipped",
        "relay": "skipped",
    }


async def test_stun_servers_that_do_not_answer_fail_the_address(home: Home) -> None:
    code, steps, _ = await home.test(stun=[f"{LOOPBACK}:{free_port(LOOPBACK)}"])
    assert code == 1
    assert one(steps, "address")["result"] == "failed"
    assert "turns:" in one(steps, "address")["advice"]


async def test_without_a_broker_there_is_nothing_to_test(home: Home) -> None:
    (home.home / "device.toml").write_text('name = "kitchen"\n')
    result = await run(home.home, "remote", "test")
    assert result.code == 1
    assert "remote reach is off" in result.err


async def test_each_service_of_tunnels_is_dialled(home: Home, broker: RunningBroker) -> None:
    working, broken = f"{LOOPBACK}:{broker.port}", f"{LOOPBACK}:{free_port(LOOPBACK)}"
    more = f'[tunnel.services]\nweb = "{working}"\nssh = "{broken}"'
    code, steps, _ = await home.test(more=more)
    assert code == 1
    services = [step for step in steps if step["step"] == "service"]
    assert [(step["target"], step["result"]) for step in services] == [
        (f"web ({working})", "ok"),
        (f"ssh ({broken})", "failed"),
    ]
    assert "[tunnel.services]" in services[1]["advice"]


async def test_a_missing_package_is_named_with_the_extra_to_install(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(peer.remote, "network", raising=False)
    monkeypatch.setitem(sys.modules, "peer.remote.network", None)
    code, _, printed = await home.test()
    assert code == 3
    assert "pip install 'handfast[remote]'" in printed


async def test_the_verb_on_the_control_socket_has_the_same_steps(
    home: Home, broker: RunningBroker
) -> None:
    """A user who cannot read the files of the service asks its daemon."""
    kit = Kit(home.home)
    await kit.device(remote=broker_options(broker))
    try:
        steps: list[str] = []
        client = ControlClient(home.home / "control.sock", store=home.home / "device.db")
        answer = await client.follow(
            Console.remote_test, lambda event: steps.append(event["step"]["step"])
        )
    finally:
        await kit.close()
    assert answer["passed"]
    assert steps[: len(BROKER_STEPS)] == BROKER_STEPS


async def test_a_broker_that_delivers_topics_of_others_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_test, "SELF_TEST_FOREIGN_SECONDS", TIMEOUT_SECONDS)
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as open_broker:
        open_broker.process.stop()
        (folder / "mosquitto-rights").write_text("pattern readwrite #\n")
        open_broker.process.start()
        code, steps, _ = await Home(tmp_path / "home", open_broker).test()
    assert code == 1
    assert results(steps)["heard"] == "ok"
    assert one(steps, "others")["result"] == "failed"
