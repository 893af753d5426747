"""Devices with a remote agent: their settings, and an agent that only notes what it is told."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from device_app.settings.remote import RemoteOptions
from peer.fingerprint import Fingerprint
from peer.net.server import CoapsServer
from peer.remote.agent_needs import AgentNeeds
from peer.remote.agent_view import AgentSettings, AgentView, BrokerView, LinkState, NetworkFacts
from peer.remote.pair_keys import PairKeys
from peer.remote.settings import Server
from tests.kit.brokers import ACCOUNTS, RunningBroker
from tests.kit.device import Device, Kit

BROKER = "mqtts://broker.example"
#: Settings with one broker, whose password is in the file `broker.password`.
REMOTE = RemoteOptions(
    brokers=(BROKER,), username="kitchen", password_file="broker.password", stun=("a.example:3478",)
)
#: The same, as a file.
SETTINGS = f"""name = "kitchen"
[remote]
brokers = ["{BROKER}"]
username = "kitchen"
password_file = "broker.password"
"""
PASSWORD = "a-broker-password-of-these-tests"


def broker_options(broker: RunningBroker, **changes: Any) -> RemoteOptions:
    """Settings with a broker that runs, and the same password file."""
    values = {
        "brokers": (broker.server().url,),
        "broker_pin": (broker.tls.pin,),
        "username": ACCOUNTS[0],
        "password_file": "broker.password",
    }
    return RemoteOptions(**{**values, **changes})


def write_password(home: Path, text: str = PASSWORD, *, mode: int = 0o600) -> Path:
    """Write the password file of a device, and make its folder; return the file."""
    home.mkdir(exist_ok=True)
    file = home / "broker.password"
    file.write_text(f"{text}\n")
    file.chmod(mode)
    return file


class FakeAgent:
    """Notes the settings, the clients and the keys whose paths ended, in this order in `told`."""

    def __init__(self) -> None:
        self.needs: AgentNeeds | None = None
        self.settings: AgentSettings | None = None
        self.clients: dict[Fingerprint, PairKeys] = {}
        self.ended: list[Fingerprint] = []
        self.is_closed = False
        self.state = AgentView(
            state=LinkState.CONNECTING,
            since_seconds=1.0,
            broker=BROKER,
            why="",
            network=NetworkFacts(),
            brokers=(BrokerView(BROKER, LinkState.CONNECTING, 1.0, ""),),
            paths=(),
        )

    def make(self, _server: CoapsServer, needs: AgentNeeds) -> "FakeAgent":
        """The factory that `App.start` gets."""
        self.needs = needs
        return self

    async def apply(self, settings: AgentSettings | None, /) -> None:
        self.settings = settings

    def set_clients(self, clients: Mapping[Fingerprint, PairKeys], /) -> None:
        self.clients = dict(clients)

    def end_client(self, key: Fingerprint, /) -> None:
        self.ended.append(key)

    def view(self) -> AgentView:
        return self.state

    async def close(self) -> None:
        self.is_closed = True

    # -- what tests do --------------------------------------------------------------------------

    @property
    def asks(self) -> AgentNeeds:
        assert self.needs is not None
        return self.needs

    @property
    def topics(self) -> set[str]:
        """The topics at which the device listens."""
        return {keys.topic for keys in self.clients.values()}

    def listens_for(self, key: Fingerprint) -> bool:
        return key in self.clients

    def attach(self) -> None:
        self.shows(state=LinkState.ATTACHED, why="")
        self.asks.on_attached(Server(BROKER))

    def lose(self, why: str) -> None:
        self.shows(state=LinkState.WAITING, why=why)
        self.asks.on_detached(Server(BROKER), why)

    def fail(self, why: str) -> None:
        self.shows(state=LinkState.WAITING, why=why)
        self.asks.on_failed(Server(BROKER), why)

    def shows(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)


async def start_with_agent(kit: Kit, agent: FakeAgent, **options: Any) -> Device:
    """Start a device that has an agent, and the files for it: settings and password."""
    write_password(kit.home)
    (kit.home / "device.toml").write_text(SETTINGS)
    return await kit.device(make_agent=agent.make, remote=REMOTE, **options)
