"""MQTT brokers of other projects, with TLS, accounts and access rights: Mosquitto and NATS."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from peer.net.address import Address
from peer.remote.settings import Server
from peer.secret import Secret
from tests.kit.examples import adapted
from tests.kit.namespaces import Namespace
from tests.kit.server_process import ServerProcess, free_port, running
from tests.kit.tls_files import TlsFiles, tls_files
from tests.kit.waiting import TIMEOUT_SECONDS

LOOPBACK = "127.0.0.1"
ACCOUNTS = ("home", "neighbour")
"""The default accounts. Each may use the topics below `hf1/ACCOUNT/`."""


def password_of(account: str) -> str:
    return f"the password of {account}"


@dataclass(frozen=True)
class RunningBroker:
    """A broker with MQTT over TLS at `host:port`."""

    host: str
    port: int
    tls: TlsFiles
    process: ServerProcess
    websocket_port: int = 0

    def server(self, account: str = ACCOUNTS[0], *, pin: bytes | None = None) -> Server:
        """The settings with which an account reaches this broker; with its pin by default."""
        pin = self.tls.pin if pin is None else pin
        url = f"mqtts://{Address(self.host, self.port)}"
        return Server(url, account, Secret(password_of(account)), pin)

    def websocket_server(self, account: str = ACCOUNTS[0]) -> Server:
        """The same broker over WebSocket."""
        url = f"wss://{Address(self.host, self.websocket_port)}/mqtt"
        return Server(url, account, Secret(password_of(account)), self.tls.pin)


StartBroker = Callable[[Path], AbstractContextManager[RunningBroker]]


@contextlib.contextmanager
def mosquitto(
    folder: Path,
    *,
    host: str = LOOPBACK,
    namespace: Namespace | None = None,
    accounts: Sequence[str] = ACCOUNTS,
    more: str = "",
) -> Iterator[RunningBroker]:
    """Run Mosquitto until the end of the context. `more` is added to its configuration."""
    tls = tls_files(folder, host)
    passwords, rights = folder / "mosquitto-passwords", folder / "mosquitto-rights"
    passwords.write_text("".join(f"{one}:{password_of(one)}\n" for one in accounts))
    passwords.chmod(0o600)
    subprocess.run(
        ["mosquitto_passwd", "-U", passwords],
        check=True,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
    )
    rights.write_text(adapted("mosquitto.acl"))
    rights.chmod(0o600)
    port = free_port(host, namespace)
    text = adapted(
        "mosquitto.conf",
        {
            "listener 8883": f"listener {port} {host}",
            "/etc/mosquitto/certs/handfast.crt": str(tls.certificate),
            "/etc/mosquitto/certs/handfast.key": str(tls.key),
            "/etc/mosquitto/handfast.passwd": str(passwords),
            "/etc/mosquitto/handfast.acl": str(rights),
        },
    )
    configuration = folder / "mosquitto.conf"
    configuration.write_text(f"user root\n{text}{more}")
    argv, log = ["mosquitto", "-c", str(configuration)], folder / "mosquitto.log"
    with running(argv, log, host=host, port=port, namespace=namespace) as process:
        yield RunningBroker(host, port, tls, process)


@contextlib.contextmanager
def nats(
    folder: Path,
    *,
    host: str = LOOPBACK,
    namespace: Namespace | None = None,
    accounts: Sequence[str] = ACCOUNTS,
) -> Iterator[RunningBroker]:
    """Run NATS with MQTT listeners until the end of the context."""
    tls = tls_files(folder, host)
    native, port = free_port(host, namespace), free_port(host, namespace)
    websocket_port = free_port(host, namespace)
    text = adapted(
        "nats.conf",
        {
            "host: 127.0.0.1\nport: 4222": f'listen: "{Address(host, native)}"',
            "/var/lib/nats": str(folder / "nats"),
            "port: 8883": f'listen: "{Address(host, port)}"',
            "port: 443": f'listen: "{Address(host, websocket_port)}"',
            "/etc/nats/handfast.crt": str(tls.certificate),
            "/etc/nats/handfast.key": str(tls.key),
        },
    )
    account = text[text.index("    HOME {") : text.rindex("}")]
    more = "".join(
        account.replace("HOME", one.upper())
        .replace("user: home", f"user: {one}")
        .replace("replace-this-password", f'"{password_of(one)}"')
        .replace("hf1.home.", f"hf1.{one}.")
        for one in accounts
    )
    configuration = folder / "nats.conf"
    configuration.write_text(text.replace(account, more))
    argv, log = ["nats-server", "-c", str(configuration)], folder / "nats.log"
    with running(argv, log, host=host, port=port, namespace=namespace) as process:
        yield RunningBroker(host, port, tls, process, websocket_port)
