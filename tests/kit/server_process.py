"""A server as a process, on given addresses, perhaps in a network namespace."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.kit.namespaces import Namespace
from tests.kit.ports import free_ports
from tests.kit.waiting import TIMEOUT_SECONDS, block_until


def inside(namespace: Namespace | None) -> AbstractContextManager[None]:
    """Enter a namespace, or stay where the test is."""
    return namespace.inside() if namespace else contextlib.nullcontext()


def free_port(host: str, namespace: Namespace | None = None) -> int:
    """A port that nothing uses at this address, for TCP and UDP, and that no other test gets."""
    with inside(namespace):
        return next(free_ports(host))


class ServerProcess:
    """A running server. `stop` and `start` again: it has the same ports and files."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        host: str,
        port: int,
        namespace: Namespace | None,
    ) -> None:
        self.log = log
        self._argv = list(argv)
        self._host = host
        self._port = port
        self._namespace = namespace
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process, to measure it."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it accepts TCP connections."""
        with self.log.open("ab") as log, inside(self._namespace):
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        block_until(self._accepts)

    def stop(self) -> None:
        """Kill the server, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT_SECONDS)
            self._process = None

    def _accepts(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(self.log.read_text(errors="replace"))
        with inside(self._namespace), socket.socket(_family(self._host)) as sock:
            sock.settimeout(1.0)
            return sock.connect_ex((self._host, self._port)) == 0


@contextlib.contextmanager
def running(
    argv: Sequence[str], log: Path, *, host: str, port: int, namespace: Namespace | None
) -> Iterator[ServerProcess]:
    """Run a server until the end of the context."""
    server = ServerProcess(argv, log, host=host, port=port, namespace=namespace)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
