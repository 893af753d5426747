"""The programs of the measurements: servers of this project and of others, and the generator.

Each server runs on a free port of loopback and is ended with its context. With two cores or more,
the servers run on the last one and the generator on the first.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from device_app.settings.paths import Paths
from iam.model import Key, User
from iam.store import Store
from tests.bench.harness import OURS, Bench, cpu_seconds, resident_bytes
from tests.kit.interop import Keys, write_keys
from tests.kit.ports import free_ports, two_free_ports
from tests.kit.process import Program, environment
from tests.kit.waiting import block_until

HERE: Final = Path(__file__).parent
IPV4: Final = "127.0.0.1"
IPV6: Final = "::1"
KEYS: Final = 20  # 64 sessions each: enough for 1,000 sessions of known keys
PSK: Final = "user:a shared secret"
LIMITS: Final = """\
users = 100000
keys_per_user = 64
sessions = 5000
sessions_per_key = 64
unpaired_sessions = 1000
handshakes_per_second = 1000
handshake_burst = 10000
"""
"""Limits that no measurement reaches."""
SECONDS: Final = 600


@dataclass(frozen=True)
class Server:
    """A running server, and how the generator reaches it."""

    name: str
    program: Program
    port: int
    security: tuple[str, ...]
    path: str = "/hello"
    host: str = IPV4

    @property
    def pid(self) -> int:
        return self.program.process.pid

    def at(self, host: str) -> Server:
        """The same server at another of its addresses."""
        return Server(self.name, self.program, self.port, self.security, self.path, host)

    def resident(self) -> int:
        """Its resident memory in bytes."""
        return resident_bytes(self.pid)


@dataclass(frozen=True)
class Measured:
    """Return the output of the generator, and the CPU time of the server meanwhile."""

    count: int
    rate: float
    p50: float
    max: float
    cpu: float  # microseconds per operation


def pin(pid: int, *, to_last: bool) -> None:
    """Bind a process to one core, if there are several and it has not ended yet."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {cores[-1] if to_last else cores[0]})


def generate(bench: Bench, server: Server, mode: str, **settings: object) -> dict[str, Any]:
    """Run the generator to its end; return what it printed."""
    with generator(bench, server, mode, **settings) as program:
        program.end(code=0)
        result: dict[str, Any] = json.loads(program.output("out").splitlines()[-1])
    assert bench.may_repeat or not result.get("retransmitted"), f"datagrams were lost: {result}"
    return result


@contextmanager
def generator(bench: Bench, server: Server, mode: str, **settings: object) -> Iterator[Program]:
    """The generator as a running program, which reads lines."""
    given = [f"{name}={value}" for name, value in settings.items()]
    argv = [bench.generator, server.host, server.port, mode, *server.security, *given]
    program = Program([str(one) for one in argv], None, typed=True)
    try:
        pin(program.process.pid, to_last=False)
        yield program
    finally:
        program.close()


def load(bench: Bench, server: Server, mode: str = "requests", **settings: object) -> Measured:
    """Run the generator to its end, and note the CPU time of the server."""
    if mode == "requests":
        settings = {"path": server.path} | settings
    before = cpu_seconds(server.pid)
    result = generate(bench, server, mode, **settings)
    spent = cpu_seconds(server.pid) - before
    count = int(result["count"])
    return Measured(count, result["rate"], result["p50"], result["max"], 1e6 * spent / count)


# ------------------------------------------------------------------------------------- the device


def load_keys(bench: Bench) -> tuple[Path, list[Keys]]:
    """The folder of the generator's keys, and the keys; created at the first call."""
    folder = bench.folder / "keys"
    if folder.exists():
        return folder, [Keys(folder / f"{n}.crt", folder / f"{n}.key") for n in range(KEYS)]
    folder.mkdir(parents=True)
    fresh = (ec.generate_private_key(ec.SECP256R1()) for _ in range(KEYS))
    return folder, [write_keys(folder, str(n), one) for n, one in enumerate(fresh)]


def command(tree: Path | None, *words: str) -> list[str]:
    """The arguments of `handfast-device`, of this checkout or of another one."""
    python = sys.executable if tree is None else str(tree / ".venv" / "bin" / "python")
    return [python, "-m", "device_app", *words]


def surroundings(tree: Path | None) -> dict[str, str]:
    """The environment of a device or a client of a checkout: discovery stays on loopback.

    Without the safe path, `python -m` would import from the folder in which `make` runs. Without
    bytecode, which an installed device has, every start would compile all modules.
    """
    path = {} if tree is None else {"PYTHONPATH": str(tree)}
    found = environment() | {"HANDFAST_INTERFACES": IPV4, "PYTHONSAFEPATH": "1"} | path
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


def new_home(
    bench: Bench, name: str, *, tree: Path | None = None, modules: Sequence[str] = ()
) -> Path:
    """A device's home, where the generator's keys are those of an owner."""
    home = bench.folder / name
    words = ("--home", str(home), "init", "--name", "bench")
    subprocess.run(command(tree, *words), env=surroundings(tree), check=True, capture_output=True)
    listed = ", ".join(f'"{module}"' for module in modules)
    text = f"[resources]\nmodules = [{listed}]\n[limits]\n{LIMITS}"
    (home / "device.toml").write_text(f'name = "bench"\n{text}', encoding="utf-8")
    (home / "modules").mkdir(exist_ok=True)
    for module in modules:
        shutil.copy(HERE / "modules" / f"{module}.py", home / "modules")
    _, keys = load_keys(bench)
    own = tuple(Key(one.fingerprint.hex, "generator", "given") for one in keys)
    store = Store.open(Paths(home, home, home).store)
    try:
        store.commit(type(store.state).of([User("generator", "owner", own)]))
    finally:
        store.close()
    return home


@contextmanager
def device(
    bench: Bench,
    name: str = OURS,
    *options: str,
    base: bool = False,
    home: Path | None = None,
    modules: Sequence[str] = (),
    wrapper: Sequence[str] = (),
    python: Sequence[str] = (),
) -> Iterator[Server]:
    """Run the daemon of this checkout, or of the other one, until it is ready.

    `wrapper` runs it in another program, and `python` is another Python to run it.
    """
    tree = bench.base if base else None
    at = home or new_home(bench, f"device-{name}".replace(" ", "-"), tree=tree, modules=modules)
    port = next(free_ports(IPV4))
    words = ["--home", str(at), "run", "--listen", IPV4, "--listen", IPV6, "--allow-loopback"]
    words += ["--port", str(port), "--pairing-port", "0", *options]
    folder, _ = load_keys(bench)
    argv = [*python, "-m", "device_app", *words] if python else command(tree, *words)
    program = Program([*wrapper, *argv], surroundings(tree))
    try:
        program.until("ready")
        pin(program.process.pid, to_last=True)
        yield Server(name, program, port, (f"keys={folder}",))
    finally:
        program.close()


# ------------------------------------------------------------------------------- servers of others


@contextmanager
def started(server: Server, bench: Bench) -> Iterator[Server]:
    """Wait until a server answers, and end it with the context."""
    pin(server.pid, to_last=True)

    def answers() -> bool:
        argv = [bench.generator, server.host, server.port, "requests", *server.security, "count=1"]
        argv += [f"path={server.path}"]
        done = subprocess.run([str(one) for one in argv], capture_output=True, check=False)
        return done.returncode == 0 or not server.program.is_running

    try:
        block_until(answers)
        assert server.program.is_running, server.program
        yield server
    finally:
        server.program.close()


@contextmanager
def libcoap(bench: Bench, *, wrapper: Sequence[str] = ()) -> Iterator[Server]:
    """libcoap's example server on OpenSSL, with a client certificate as the device has it."""
    folder, keys = load_keys(bench)
    port = two_free_ports(IPV4)
    words = ["coap-server-openssl", "-A", IPV4, "-p", str(port), "-d", "10", "-v", "3"]
    program = Program([*wrapper, *words, *keys[0].coap], None)
    server = Server("libcoap", program, port + 1, (f"keys={folder}",), path="/")
    with started(server, bench) as running:
        yield running


@contextmanager
def aiocoap(bench: Bench, *, secured: bool) -> Iterator[Server]:
    """aiocoap's server: on plain UDP, or with a pre-shared key on tinydtls."""
    port = next(free_ports(IPV4))
    security = (f"psk={PSK}",) if secured else ()
    words = [sys.executable, str(HERE / "aiocoap_server.py"), IPV4, str(port), *security]
    name = "aiocoap, tinydtls PSK" if secured else "aiocoap, plain UDP"
    server = Server(name, Program(words, environment()), port, security)
    with started(server, bench) as running:
        yield running


@contextmanager
def bare_pyopenssl(bench: Bench) -> Iterator[Server]:
    """pyOpenSSL's sessions alone, with an echo of each message."""
    folder, keys = load_keys(bench)
    port = next(free_ports(IPV4))
    files = [str(keys[0].certificate), str(keys[0].key)]
    words = [sys.executable, str(HERE / "bare_server.py"), IPV4, str(port), *files]
    program = Program(words, environment())
    try:
        program.until("ready")
        yield Server("pyOpenSSL alone", program, port, (f"keys={folder}",))
    finally:
        program.close()
