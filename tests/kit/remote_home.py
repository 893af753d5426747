"""A device and a client that may be anywhere: behind routers, with a broker and a relay between.

All of them are processes in the namespaces of `nat_lab`. The client has fetched the remote settings
on the LAN of the device before it moves away.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from tests.kit.brokers import ACCOUNTS, RunningBroker, mosquitto, password_of
from tests.kit.namespaces import Namespaces
from tests.kit.nat_lab import BROKER, RELAY, SECOND_STUN, Nat, NatLab, nat_lab
from tests.kit.relays import RunningRelay, coturn
from tests.kit.sshd import Sshd
from tests.kit.system import Client, Device, Party, Stage

PORT, PAIRING_PORT = 5684, 5685
StartBroker = Callable[..., AbstractContextManager[RunningBroker]]


@dataclass(frozen=True)
class RemoteHome:
    """The laboratory with everything that runs in it."""

    lab: NatLab
    stage: Stage
    broker: RunningBroker
    relay: RunningRelay
    device: Device
    client: Client
    sshd: Sshd | None = None

    def boot(self, nat: Nat, *, ipv6: bool = False) -> None:
        """Start the device behind a router of this kind, and wait until it is attached."""
        self.lab.device.use(nat, ipv6=ipv6)
        self.device.boot()
        self.attached()

    def attached(self) -> None:
        """Wait until the device listens at the broker, and knows its network."""
        self.device.until(lambda status: status["remote"]["state"] == "attached")

    def introduce(self, client: Client, name: str, *, role: str = "owner") -> None:
        """Let a client fetch the remote settings on the LAN of the device."""
        self.lab.plug_in()
        self.device.admit(client, name, role=role)
        client.set_last_seen(self.device, f"{self.lab.device.private}:{PORT}")
        client.run("remote", self.device.name, "--refresh")


@contextlib.contextmanager
def remote_home(
    stage: Stage,
    namespaces: Namespaces,
    *,
    start_broker: StartBroker = mosquitto,
    modules: Sequence[Path] = (),
    has_ssh: bool = False,
) -> Iterator[RemoteHome]:
    """Run a broker, a relay and a device behind a cone NAT, and a client that knows it.

    Args:
        stage: owns the processes of handfast.
        namespaces: owns the namespaces.
        start_broker: the broker.
        modules: files with resources for the device.
        has_ssh: whether sshd runs on the device, as the service `ssh` of its tunnels.
    """
    lab = nat_lab(namespaces)
    with ExitStack() as stack:
        broker = stack.enter_context(start_broker(stage.folder, host=BROKER, namespace=lab.core))
        relay = stack.enter_context(
            coturn(
                stage.folder,
                host=RELAY,
                namespace=lab.core,
                more=f"listening-ip={SECOND_STUN}\n",
            )
        )
        device, client = stage.device(), stage.client("anna")
        device.run_options, device.port, device.pairing_port = [], PORT, PAIRING_PORT
        sshd, more = None, ""
        if has_ssh:
            sshd = stack.enter_context(closing(Sshd(stage.folder / "sshd", lab.device.host)))
            more = ssh_service(sshd)
        stun = [relay.stun, f"{SECOND_STUN}:{relay.port}"]
        write_settings(device.home, broker, relay, stun=stun, more=more)
        add_modules(device, modules)
        put(device, lab.device.host.name)
        put(client, lab.client.host.name)
        made = RemoteHome(lab, stage, broker, relay, device, client, sshd)
        made.boot(Nat.CONE)
        made.introduce(client, "anna")
        yield made


def add_modules(device: Device, modules: Sequence[Path]) -> None:
    """Give a device resources of its own."""
    folder = device.home / "modules"
    folder.mkdir()
    for one in modules:
        (folder / one.name).write_bytes(one.read_bytes())
    names = ", ".join(f'"{one.stem}"' for one in modules)
    settings = device.home / "device.d" / "modules.toml"
    settings.write_text(f"[resources]\nmodules = [{names}]\n")


def put(party: Party, namespace: str) -> None:
    """Run the commands of a party in a namespace."""
    party.place = ("ip", "netns", "exec", namespace)


def ssh_service(sshd: Sshd) -> str:
    """The settings of a device for tunnels to sshd."""
    return f'\n[tunnel.services]\nssh = "{sshd.address}"\n'


def write_settings(
    home: Path, broker: RunningBroker, relay: RunningRelay, *, stun: Sequence[str], more: str = ""
) -> Path:
    """Write the settings of remote reach for a device, and its password; return the file."""
    account = ACCOUNTS[0]
    folder = home / "device.d"
    folder.mkdir(parents=True, exist_ok=True)
    password = home / "remote.password"
    password.write_text(f"{password_of(account)}\n")
    password.chmod(0o600)
    servers = ", ".join(f'"{one}"' for one in stun)
    file = folder / "remote.toml"
    file.write_text(
        f"""\
[network]
local_interfaces = ["eth0"]  # a virtual interface; a board needs no such line

[remote]
brokers = ["{broker.server().url}"]
broker_pin = "{broker.tls.pin.hex()}"
username = "{account}"
password_file = "remote.password"
stun = [{servers}]
turn = ["{relay.udp().url}", "{relay.over_tls().url}"]
turn_username = "{account}"
turn_password_file = "remote.password"
turn_pin = "{relay.tls.pin.hex()}"
{more}"""
    )
    return file
