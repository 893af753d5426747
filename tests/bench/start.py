"""The time until a user sees something: each verb of an installed wheel, and an idle daemon."""

from __future__ import annotations

import subprocess
from functools import cache, partial
from pathlib import Path
from typing import Final

from client_app.home import Home
from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from device_app.settings.paths import Paths
from iam import Key, State, Store, User
from peer.identity import Identity
from tests.bench.harness import OURS, Bench, Series, process_seconds, resident_bytes
from tests.bench.programs import IPV4, surroundings
from tests.kit.distribution import Environment, build
from tests.kit.ports import free_ports
from tests.kit.process import Program

BARE: Final = "python -c pass"
WARM_UP: Final = 3  # runs before the measured ones, so that files and bytecode are cached


def outside() -> dict[str, str]:
    """The environment of an installed command: this checkout is not on its path."""
    return {name: value for name, value in surroundings(None).items() if name != "PYTHONPATH"}


def run(argv: list[str]) -> float:
    """Milliseconds of one process."""
    return 1e3 * process_seconds(argv, outside(), Path("/"))


@cache
def installed(bench_folder: Path) -> tuple[str, str, str]:
    """Install a wheel of this checkout; return its Python and its two commands."""
    wheel = build("wheel", bench_folder / "wheel")
    environment = Environment(bench_folder / "installed", wheel)
    scripts = []
    for name, function in (("handfast", "main"), ("handfast-device", "device")):
        script = environment.python.parent / name
        lines = ["import sys", f"from handfast.__main__ import {function}"]
        lines += ['if __name__ == "__main__":', f"    sys.exit({function}())", ""]
        script.write_text("\n".join([f"#!{environment.python}", *lines]), encoding="utf-8")
        script.chmod(0o755)
        scripts.append(str(script))
    return str(environment.python), scripts[0], scripts[1]


def pair(home: Path, at: Path, port: int) -> None:
    """Make a client's home and a device's home know each other, without the ceremony."""
    home.mkdir(parents=True, exist_ok=True)
    own = Identity.load_or_create(Home.at(home).identity).fingerprint
    store = Store.open(Paths(at, at, at).store)
    try:
        user = User("anna", "owner", (Key(own.hex, "laptop", "compare"),))
        store.commit(State.of([*store.state.users.values(), user]))
    finally:
        store.close()
    fingerprint = Identity.load(Paths(at, at, at).key).fingerprint
    address = f"{IPV4}:{port}"
    entry = KnownDevice("bar", fingerprint, "bench", "anna", "owner", port=port, last_seen=address)
    DeviceBook(Home.at(home).devices).put(entry)


def verbs(bench: Bench) -> None:
    """Whole processes: verbs of the installed commands, and Python with nothing to do."""
    python, handfast, handfast_device = installed(bench.folder)
    at = bench.folder / "verbs-device"
    subprocess.run(
        [python, "-m", "device_app", "--home", str(at), "init", "--name", "bench"],
        env=outside(), check=True, stdout=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    client = bench.folder / "verbs-client"
    port = next(free_ports(IPV4))
    words = ["--home", str(at), "run", "--listen", IPV4, "--allow-loopback", "--port", str(port)]
    pair(client, at, port)
    program = Program([handfast_device, *words, "--pairing-port", "0"], outside())
    try:
        program.until("ready")
        client_words = [handfast, "--home", str(client)]
        commands = {
            "`handfast --help`": [*client_words, "--help"],
            "`handfast devices`": [*client_words, "devices"],
            "`handfast get bar /hello`": [*client_words, "get", "bar", "/hello"],
            "`handfast-device --help`": [handfast_device, "--help"],
            "`handfast-device status`": [
                handfast_device, "--home", str(at), "status"
            ],
        }  # fmt: skip
        bare = [python, "-c", "pass"]
        for argv in (bare, *commands.values()):
            for _ in range(WARM_UP if bench.share == 1 else 1):
                run(argv)
        candidates = {BARE: partial(run, bare)}
        candidates |= {name: partial(run, argv) for name, argv in commands.items()}
        found = bench.compare(candidates, 3 * bench.rounds if bench.share == 1 else bench.rounds)
        for number, name in enumerate(commands):
            bench.add_figures(
                f"verb-{number}", f"{name}: from start to end", "ms",
                {OURS: found[name], BARE: found[BARE]},
            )  # fmt: skip
        idle = resident_bytes(program.process.pid) / 2**20
    finally:
        program.close()
    memory = {OURS: Series((idle,))}
    bench.add_figures("idle-memory", "resident memory of an idle daemon", "MiB", memory)
