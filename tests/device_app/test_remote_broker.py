"""Remote reach of a device with its real agent, at Mosquitto."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from device_app.remote import master_key
from peer.net.session_route import SessionRoute
from peer.remote import network
from peer.remote.pair_keys import PairKeys
from peer.remote.settings import RemoteSettings
from tests.kit.brokers import mosquitto, password_of
from tests.kit.remote_agents import broker_options, write_password
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.brokers import RunningBroker
    from tests.kit.device import Device, Kit
    from tests.kit.relays import RunningRelay

pytestmark = pytest.mark.needs_tool("mosquitto", "mosquitto_passwd", "turnserver")

LOG_ALL = "log_type all\nconnection_messages true\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder, more=LOG_ALL) as running:
        yield running


async def started(kit: Kit, broker: RunningBroker, **changes: object) -> Device:
    write_password(kit.home, password_of("home"))
    return await kit.device(remote=broker_options(broker, **changes))


def state(device: Device) -> tuple[str, str]:
    view = device.app.status()["remote"]
    return view["state"], view["why"]


async def test_a_device_attaches_again_after_its_broker_was_lost(
    kit: Kit, broker: RunningBroker
) -> None:
    device = await started(kit, broker)
    await until(lambda: state(device) == ("attached", ""))
    assert len(device.events("remote-attached")) == 1
    broker.process.stop()
    await until(lambda: device.events("remote-detached"))
    broker.process.start()
    await until(lambda: len(device.events("remote-attached")) == 2)
    [lost] = device.events("remote-detached")
    assert lost.result == "unreachable"
    assert password_of("home") not in str(lost)


async def test_the_broker_sees_the_topic_of_a_revoked_key_being_left(
    kit: Kit, broker: RunningBroker
) -> None:
    device = await started(kit, broker)
    kit.known(device, "anna", "owner")
    gus = kit.known(device, "gus", "guest")
    key = master_key.load(kit.home / "remote.key")
    assert key is not None
    topic = f"hf1/home/d/{PairKeys(key.secret_of(gus.identity.fingerprint)).topic}"

    def logged(packet: str) -> bool:
        """Whether the broker has logged a packet of this kind about the topic."""
        current = ""
        for line in broker.process.log.read_text().splitlines():
            if " Received " in line or " Sending " in line:
                current = line
            elif topic in line and f"Received {packet} from" in current:
                return True
        return False

    await until(lambda: logged("SUBSCRIBE"))
    assert not logged("UNSUBSCRIBE")
    device.app.access.registry.remove_user(None, "gus")
    await until(lambda: logged("UNSUBSCRIBE"))


async def test_a_client_connects_by_what_it_was_given_and_loses_the_path_with_the_right(
    kit: Kit, broker: RunningBroker, relay: RunningRelay
) -> None:
    """Everything is real: Mosquitto, coturn, ICE, the agent and the client's route."""
    device = await started(
        kit,
        broker,
        stun=(relay.stun,),
        turn=(relay.udp().url,),
        turn_username="home",
        turn_password_file="broker.password",
    )
    await until(lambda: device.events("remote-attached"))
    kit.known(device, "anna", "owner")
    gus = kit.known(device, "gus", "guest")
    answer = await gus.ask("GET", "/remote")
    await gus.disconnect()
    revisions: list[int] = []
    settings = RemoteSettings.decode_untrusted(answer.payload)
    session = await network.open_session(
        settings,
        coaps=gus.client,
        pinned=device.fingerprint,
        via=(SessionRoute.DIRECT, SessionRoute.RELAY),
        on_step=lambda _step: None,
        on_addresses=lambda _addresses: None,
        on_revision=revisions.append,
    )
    gus.connections[False] = session
    assert revisions == [settings.revision]
    assert (await gus.ask("GET", "/hello")).payload.startswith(b"Hello gus")
    assert (await gus.ask("GET", "/remote")).code == "4.03"
    [path] = device.app.status()["remote"]["paths"]
    assert (path["user"], path["live"]) == ("gus", True)
    [shown] = [one for one in device.sessions("regular") if one["user"] == "gus"]
    assert shown["path"] == path["path"]
    assert not shown["local"]
    device.app.access.registry.remove_user(None, "gus")
    await until(lambda: not session.is_open)
    await until(lambda: not device.app.status()["remote"]["paths"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"broker_pin": (bytes(32),)}, "pin-mismatch"),
        ({"broker_pin": ()}, "tls-failed"),
        ({"username": "nobody-here"}, "refused"),
        ({"brokers": ("mqtts://127.0.0.1:1",)}, "unreachable"),
    ],
)
async def test_the_reason_why_a_device_is_not_attached_is_in_its_status(
    kit: Kit, broker: RunningBroker, changes: dict[str, object], why: str
) -> None:
    device = await started(kit, broker, **changes)
    await until(lambda: state(device)[1] == why)
    assert not device.events("remote-attached")
