"""A device and a client that reach each other remotely on loopback, with a broker and a relay."""

from __future__ import annotations

import secrets
import socketserver
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peer.remote.pair_keys import pair_secret
from peer.remote.settings import RemoteSettings
from peer.secret import Secret
from tests.bench.programs import IPV4, load_keys
from tests.bench.worker import Worker, worker
from tests.kit.brokers import ACCOUNTS, mosquitto
from tests.kit.ports import free_ports
from tests.kit.relays import coturn
from tests.kit.waiting import block_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.harness import Bench
    from tests.kit.brokers import RunningBroker

_CHUNK: Final = 65_536


class CopyHandler(socketserver.BaseRequestHandler):
    """A TCP service that takes data and sends data; `remote_client.py` says how much of each."""

    def handle(self) -> None:
        """Serve one connection."""
        with suppress(OSError):  # the measurement has ended early
            header = self._take(16)
            self._take(int.from_bytes(header[:8], "big"))
            left = int.from_bytes(header[8:], "big")
            while left > 0:
                self.request.sendall(bytes(min(_CHUNK, left)))
                left -= _CHUNK
            self.request.sendall(b".")

    def _take(self, count: int) -> bytes:
        """Return the last bytes that were read: all of them if they are few."""
        data = b""
        while count > 0:
            data = self.request.recv(min(_CHUNK, count))
            if not data:
                raise ConnectionResetError
            count -= len(data)
        return data


class CopyService(socketserver.ThreadingTCPServer):
    """The TCP service. Its port is that of `server_address`."""

    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def copy_service() -> Iterator[int]:
    """Run the TCP service in a thread; yield its port."""
    with CopyService((IPV4, 0), CopyHandler) as service:
        thread = threading.Thread(target=service.serve_forever, daemon=True)
        thread.start()
        try:
            yield int(service.server_address[1])
        finally:
            service.shutdown()
            thread.join()


@dataclass(frozen=True)
class RemotePair:
    """The processes of a device and its client, and the broker between them."""

    device: Worker
    client: Worker
    broker: RunningBroker

    def state(self) -> dict[str, Any]:
        """The state of the device, as it reports it."""
        found: dict[str, Any] = self.device.ask("state")
        return found


@contextmanager
def remote_pair(bench: Bench) -> Iterator[RemotePair]:
    """Run a device that is attached to Mosquitto, a client of it, and coturn."""
    folder, keys = load_keys(bench)
    with ExitStack() as stack:
        files = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.folder)))
        broker = stack.enter_context(mosquitto(files))
        relay = stack.enter_context(coturn(files, more="max-bps=0\n"))
        own = keys[0].fingerprint
        settings = RemoteSettings(
            secret=pair_secret(Secret(secrets.token_bytes(32)), 0, own),
            prefix=f"hf1/{ACCOUNTS[0]}",
            brokers=(broker.server(),),
            stun=(relay.stun,),
            turn=(relay.udp(),),
        )
        common = {"remote": settings.encode().hex(), "quic_port": next(free_ports(IPV4))}
        given = {
            "client": own.hex,
            "service": stack.enter_context(copy_service()),
            "certificate": str(keys[1].certificate),
            "key": str(keys[1].key),
        }
        device = stack.enter_context(worker("remote_device.py", common | given))
        identity = {"identity": str(folder / "0.key")}
        client = stack.enter_context(worker("remote_client.py", common | identity))
        block_until(lambda: device.ask("state")["has_udp"])
        client.ask("meet", **device.ask("state"))
        yield RemotePair(device, client, broker)
