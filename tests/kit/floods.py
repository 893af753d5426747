"""Floods, an honest client on a slow path, and measurement of what a flood costs the device.

A `ManySources` is one UDP socket that sends from any number of addresses in 127.0.0.0/8, each with
its own cookie. A `FarPath` is a proxy with a delay; the flood that is sent while a datagram is in
transit is passed to it, so that a test counts datagrams and does not depend on the speed of the
machine. `stop_at` is a DTLS client that stops at a step of the handshake. A `Meter` records memory
and processor time of a process and the latency of requests, phase by phase.

Run as a program, this file is a device in a separate process, for measurements (`apart`).
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from statistics import median

from device_app.app import App
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from iam.model import Key, User
from peer.dtls import records
from peer.dtls.context import ClientContext
from peer.dtls.session import DtlsSession
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.udp import UdpSocket
from tests.kit.waiting import TIMEOUT_SECONDS

HOST = "127.0.0.1"
# in a ClientHello of one record: headers of 13 and 12 bytes, 2 bytes of version
_RANDOM_AT = slice(27, 59)
_HELLO_VERIFY_REQUEST = 3
_COOKIE = bytes(range(32))


def addresses(count: int, *, per_network: int = 1, first: int = 0) -> list[str]:
    """Addresses in 127.64.0.0/10, `per_network` of them in each /24. `first` skips networks."""
    found = []
    for number in range(count):
        network, host = divmod(number, per_network)
        high, low = divmod(first + network, 256)
        found.append(f"127.{64 + high}.{low}.{1 + host}")
    return found


# -- a slow path -----------------------------------------------------------------------------------


class FarPath:
    """A proxy to a device that delays every datagram by `delay_seconds` and the run of `meanwhile`.

    Clients connect to `address`; the device sees `source`, with one port per client. `meanwhile`
    runs once per datagram, before the datagram is delivered.
    """

    def __init__(
        self,
        to: Address,
        *,
        source: str = HOST,
        delay_seconds: float = 0.05,
        meanwhile: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._to = to
        self._source = source
        self._delay = delay_seconds
        self.meanwhile = meanwhile
        self._backs: dict[Address, UdpSocket] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.passed: list[tuple[bool, bytes]] = []  # (towards the device, datagram)
        self._front = UdpSocket.bind(HOST, 0, on_datagram=self._from_client, on_error=_ignore)

    @property
    def address(self) -> Address:
        """The address that clients connect to."""
        return self._front.local_address

    def port(self, *, pairing: bool = False) -> int:
        """The port of the proxy, as required by `Caller.port`."""
        assert pairing in (True, False)
        return self._front.local_address.port

    def _from_client(self, datagram: Datagram) -> None:
        client = datagram.source
        if client not in self._backs:
            self._backs[client] = UdpSocket.bind(
                self._source,
                0,
                on_datagram=lambda answer: self._carry(
                    answer.data, lambda data: self._front.send(data, client), to_device=False
                ),
                on_error=_ignore,
            )
        back = self._backs[client]
        self._carry(datagram.data, lambda data: back.send(data, self._to), to_device=True)

    def _carry(self, data: bytes, deliver: Callable[[bytes], object], *, to_device: bool) -> None:
        async def pass_on() -> None:
            meanwhile = [] if self.meanwhile is None else [self.meanwhile()]
            await asyncio.gather(asyncio.sleep(self._delay), *meanwhile)
            self.passed.append((to_device, data))
            deliver(data)

        task = asyncio.create_task(pass_on())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Drop the datagrams in transit, and close every socket."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in (self._front, *self._backs.values()):
            one.close()


def _ignore(_error: OSError) -> None:
    """Ignore ICMP errors."""


# -- many sources ---------------------------------------------------------------------------------


def _hello_pair() -> tuple[bytes, bytes]:
    """The two ClientHellos of an honest client; the second carries `_COOKIE`."""
    client = DtlsSession.client(ClientContext(Identity.create()), mtu=1200, pinned=None)
    (first,) = client.take_datagrams()
    body = b"\xfe\xff" + bytes([len(_COOKIE)]) + _COOKIE
    size = len(body).to_bytes(3, "big")
    message = bytes([_HELLO_VERIFY_REQUEST]) + size + bytes(5) + size + body
    request = b"\x16\xfe\xff" + bytes(8) + len(message).to_bytes(2, "big") + message
    client.receive_untrusted(records.split_untrusted(request))
    (second,) = client.take_datagrams()
    assert _COOKIE in second
    return first, second


class ManySources:
    """Many source addresses on one socket, which sends only to `device`."""

    def __init__(self, device: Address) -> None:
        self._device = device
        self._socket = UdpSocket.bind(
            "0.0.0.0", 0, on_datagram=self._datagram_received, on_error=_ignore
        )
        self._fence = UdpSocket.bind(HOST, 0, on_datagram=self._fence_received, on_error=_ignore)
        self._first, self._second = _hello_pair()
        self._cookies: dict[str, bytes] = {}
        self._fence_passed = asyncio.Event()
        self._fences = 0
        self.sent: Counter[str] = Counter()  # bytes by source
        self.received: Counter[str] = Counter()  # bytes by source

    @property
    def port(self) -> int:
        """The source port, the same for every source address."""
        return self._socket.local_address.port

    def send(self, data: bytes, source: str) -> None:
        """Send any datagram from one of the addresses."""
        self.sent[source] += len(data)
        assert self._socket.send(data, self._device, source=source)

    def hello(self, source: str) -> None:
        """Send a new ClientHello, with the cookie of the source if it has one."""
        cookie = self._cookies.get(source)
        hello = bytearray(self._first if cookie is None else self._second)
        hello[_RANDOM_AT] = secrets.token_bytes(32)
        self.send(bytes(hello) if cookie is None else bytes(hello).replace(_COOKIE, cookie), source)

    def forget_cookies(self) -> None:
        """Send the next ClientHello of every source without a cookie."""
        self._cookies.clear()

    async def arm(self, sources: Sequence[str]) -> None:
        """Get a cookie for each source."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for some in _slices(sources, 50):
                while missing := [one for one in some if one not in self._cookies]:
                    for source in missing:
                        self.hello(source)
                    await self.handled()

    async def flood(self, sources: Sequence[str]) -> None:
        """Send a ClientHello from each source, in batches that fit the device's receive buffer."""
        for some in _slices(sources, 50):
            for source in some:
                self.hello(source)
            await self.handled()

    async def handled(self) -> None:
        """Return when the device has processed everything sent before.

        Sends a ClientHello without a cookie from a separate address, and waits for its answer.
        """
        wanted = self._fences + 1
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while self._fences < wanted:
                self._fence_passed.clear()
                self._fence.send(self._first, self._device)
                try:
                    async with asyncio.timeout(1):
                        await self._fence_passed.wait()
                except TimeoutError:
                    continue  # dropped with others because the buffer was full

    def _datagram_received(self, datagram: Datagram) -> None:
        source = datagram.destination
        self.received[source] += len(datagram.data)
        if cookie := _cookie_in(datagram.data):
            self._cookies[source] = cookie

    def _fence_received(self, _datagram: Datagram) -> None:
        self._fences += 1
        self._fence_passed.set()

    def close(self) -> None:
        """Close both sockets."""
        self._socket.close()
        self._fence.close()


def _cookie_in(data: bytes) -> bytes:
    """The cookie of a HelloVerifyRequest, or empty."""
    return data[28:] if data[0] == 22 and data[13] == _HELLO_VERIFY_REQUEST else b""


def _slices(sources: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(sources), size):
        yield sources[start : start + size]


# -- a client that stops --------------------------------------------------------------------------


class Step(Enum):
    """The last step of a client in a handshake."""

    HELLO = "a ClientHello without a cookie is sent"
    COOKIE = "a ClientHello with the cookie is sent"
    FLIGHT = "the device's flight has arrived and is not answered"
    PART = "the first datagram of the answer is sent, if it has more than one; else all of it"
    DONE = "the session is established"


class StoppedClient:
    """A client that performs a handshake up to a step and then sends nothing."""

    def __init__(self, device: Address, identity: Identity, source: str, mtu: int) -> None:
        self._device = device
        self._mtu = mtu
        self.begin(identity)
        self.received: list[bytes] = []
        self.sent: list[bytes] = []
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.socket = UdpSocket.bind(
            source, 0, on_datagram=lambda one: self._inbox.put_nowait(one.data), on_error=_ignore
        )

    def begin(self, identity: Identity) -> None:
        """Begin a new session from the same port; `run` performs its handshake."""
        self.session = DtlsSession.client(ClientContext(identity), mtu=self._mtu, pinned=None)

    def send(self, data: bytes) -> None:
        """Send a datagram unchanged."""
        self.sent.append(data)
        self.socket.send(data, self._device)

    @property
    def waiting(self) -> int:
        """The number of datagrams that have arrived and have not been read."""
        return self._inbox.qsize()

    async def datagram(self) -> bytes:
        """The next datagram from the device, before the session processes it."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            data = await self._inbox.get()
        self.received.append(data)
        return data

    async def run(self, step: Step) -> None:
        """Perform the handshake until `step` is done.

        Raises TimeoutError if the device does not answer.
        """
        self._send_all()
        if step is Step.HELLO:
            return
        self._feed(await self.datagram())
        self._send_all()
        if step is Step.COOKIE:
            return
        while not (flight := self.session.take_datagrams()):
            self._feed(await self.datagram())
        if step is Step.FLIGHT:
            return
        if step is Step.PART:
            self.send(flight[0])
            return
        for datagram in flight:
            self.send(datagram)
        while self.session.peer_fingerprint is None or not self.session.exporter:
            self._feed(await self.datagram())
            self._send_all()

    def _feed(self, data: bytes) -> None:
        self.session.receive_untrusted(records.split_untrusted(data))

    def _send_all(self) -> None:
        for datagram in self.session.take_datagrams():
            self.send(datagram)

    def close(self) -> None:
        """Close the socket without a close_notify."""
        self.socket.close()


async def stop_at(
    step: Step,
    device: Address,
    *,
    source: str = HOST,
    identity: Identity | None = None,
    mtu: int = 1200,
) -> StoppedClient:
    """A client at `source` that stops after `step`; a small `mtu` splits its flights."""
    client = StoppedClient(device, identity or Identity.create(), source, mtu)
    try:
        await client.run(step)
    except BaseException:  # cancellation too: the test is over
        client.close()
        raise
    return client


# -- measurement ----------------------------------------------------------------------------------


@dataclass
class Phase:
    """The cost of a phase: processor time and memory of the process, and latencies of the owner."""

    name: str
    seconds: float
    cpu_seconds: float
    rss_bytes: int
    latencies: list[float] = field(default_factory=list)  # seconds; `inf` if there was no answer

    def __str__(self) -> str:
        latencies = sorted(self.latencies) or [float("nan")]
        lost = sum(one == float("inf") for one in self.latencies)
        return (
            f"{self.name:<8} RSS {self.rss_bytes / 2**20:6.1f} MiB"
            f"  CPU {self.cpu_seconds:6.2f} s of {self.seconds:6.2f} s"
            f"  latency median {median(latencies) * 1e3:8.1f} ms,"
            f" worst {latencies[-1] * 1e3:8.1f} ms"
            f"  {len(self.latencies) - lost} answers, {lost} none"
        )


class Meter:
    """Measures phases of a process, by default of the current one."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = os.getpid() if pid is None else pid
        self.phases: list[Phase] = []

    @property
    def rss_bytes(self) -> int:
        """The resident memory now."""
        pages = Path(f"/proc/{self._pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_seconds(self) -> float:
        """The processor time so far, user and system."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def phase(
        self, name: str, ask: Callable[[], Awaitable[object]], *, times: int = 10
    ) -> Phase:
        """Run `ask` several times in sequence. A call that raises counts as no answer."""
        begin, cpu = time.perf_counter(), self.cpu_seconds
        latencies = []
        for _ in range(times):
            asked = time.perf_counter()
            try:
                await ask()
            except Exception:
                latencies.append(float("inf"))
            else:
                latencies.append(time.perf_counter() - asked)
        taken, cpu = time.perf_counter() - begin, self.cpu_seconds - cpu
        self.phases.append(Phase(name, taken, cpu, self.rss_bytes, latencies))
        return self.phases[-1]

    def print(self, title: str) -> None:
        """Print all phases, one per line."""
        print(title)
        for phase in self.phases:
            print(f"  {phase}")


# -- a device in a process of its own -------------------------------------------------------------


@dataclass(frozen=True)
class Apart:
    """A device in a separate process."""

    pid: int
    regular: Address
    pairing: Address | None  # None if its window is closed


@asynccontextmanager
async def apart(
    home: Path, owner: Identity, *, window: bool = False, limits: dict[str, float] | None = None
) -> AsyncIterator[Apart]:
    """Start a device that knows one owner.

    `window` opens its pairing window. `limits` replace the defaults.
    """
    wanted = {
        "home": str(home),
        "owner": owner.fingerprint.hex,
        "window": window,
        "limits": limits or {},
    }
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        json.dumps(wanted),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            ports = json.loads(await program.stdout.readline())
        pairing = Address(HOST, ports["pairing"]) if ports["pairing"] else None
        yield Apart(program.pid, Address(HOST, ports["regular"]), pairing)
    finally:
        program.stdin.close()  # the program ends with its input
        await program.wait()


async def _serve(wanted: dict[str, object]) -> None:
    home = Path(str(wanted["home"]))
    settings = Settings(
        name="kitchen",
        listen=("0.0.0.0",),
        port=0,
        pairing_port=0,
        advertise=False,
        allow_loopback=True,
        limits=replace(DEFAULT_LIMITS, **wanted["limits"]),  # type: ignore[arg-type]
    )
    app = await App.start(Paths(home, home, home), settings)
    now = app.access.clock.now()
    key = Key(str(wanted["owner"]), method="given", added=now)
    app.access.registry.add_user(None, User("olga", "owner", (key,), created=now))
    if wanted["window"]:
        await app.pairing.open(role="user")
    ports = {"regular": app.server.port, "pairing": app.pairing.port.number}
    print(json.dumps(ports), flush=True)
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(0, ended.set_result, None)  # the parent process has ended
    await ended
    asyncio.get_running_loop().remove_reader(0)
    print(json.dumps(app.status()["counters"]), file=sys.stderr)
    await app.close()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
