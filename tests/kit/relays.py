"""coturn: a STUN and TURN server of another project, over UDP, TCP and TLS."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from peer.net.address import Address
from peer.remote.settings import Server
from peer.secret import Secret
from tests.kit.brokers import ACCOUNTS, LOOPBACK, password_of
from tests.kit.examples import adapted
from tests.kit.namespaces import Namespace
from tests.kit.server_process import ServerProcess, free_port, running
from tests.kit.tls_files import TlsFiles, tls_files


@dataclass(frozen=True)
class RunningRelay:
    """A relay at `host`. Its UDP and TCP port is `port`, that of TLS is `tls_port`."""

    host: str
    port: int
    tls_port: int
    tls: TlsFiles
    process: ServerProcess

    @property
    def stun(self) -> str:
        """The address for settings of STUN."""
        return str(Address(self.host, self.port))

    def udp(self, account: str = ACCOUNTS[0]) -> Server:
        return self._server(f"turn:{self.stun}", account, b"")

    def tcp(self, account: str = ACCOUNTS[0]) -> Server:
        return self._server(f"turn:{self.stun}?transport=tcp", account, b"")

    def over_tls(self, account: str = ACCOUNTS[0], *, pin: bytes | None = None) -> Server:
        """The relay over TLS; with its pin by default."""
        pin = self.tls.pin if pin is None else pin
        return self._server(f"turns:{Address(self.host, self.tls_port)}", account, pin)

    def _server(self, url: str, account: str, pin: bytes) -> Server:
        return Server(url, account, Secret(password_of(account)), pin)


@contextlib.contextmanager
def coturn(
    folder: Path,
    *,
    host: str = LOOPBACK,
    namespace: Namespace | None = None,
    accounts: Sequence[str] = ACCOUNTS,
    more: str = "",
) -> Iterator[RunningRelay]:
    """Run coturn until the end of the context. `more` is added to its configuration."""
    files = folder / "coturn"
    files.mkdir()
    tls = tls_files(files, host)
    port, tls_port = free_port(host, namespace), free_port(host, namespace)
    configuration = files / "turnserver.conf"
    users = "".join(f"user={one}:{password_of(one)}\n" for one in accounts)
    text = adapted(
        "turnserver.conf",
        {
            "listening-port=3478": f"listening-ip={host}\nrelay-ip={host}\nlistening-port={port}",
            "tls-listening-port=5349": f"tls-listening-port={tls_port}",
            "/etc/coturn/handfast.crt": str(tls.certificate),
            "/etc/coturn/handfast.key": str(tls.key),
            "user=home:replace-this-password\n": users,
            "syslog": "log-file=stdout",
        },
    )
    if host == LOOPBACK:  # coturn refuses such peers unless it is told twice
        denied = "denied-peer-ip=127.0.0.0-127.255.255.255\n"
        text = text.replace(denied, "allow-loopback-peers\ncli-password=unused\n")
    configuration.write_text(f"{text}userdb={files / 'turndb'}\npidfile={files / 'pid'}\n{more}")
    argv, log = ["turnserver", "-c", str(configuration)], files / "turnserver.log"
    with running(argv, log, host=host, port=port, namespace=namespace) as process:
        yield RunningRelay(host, port, tls_port, tls, process)
