"""Import contracts: the code keeps each of them, and breaking one in a copy is reported."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("handfast", "peer", "iam", "device_app", "client_app")

# (contract, file, line to add). The line is never run, only read.
VIOLATIONS = [
    ("peer-and-iam-apart", "iam/__init__.py", "import peer"),
    ("peer-and-iam-apart", "peer/__init__.py", "import iam"),
    ("apps-apart", "device_app/__init__.py", "import client_app"),
    ("apps-apart", "client_app/__init__.py", "import device_app"),
    ("apps-on-top", "peer/net/__init__.py", "import device_app"),
    ("apps-on-top", "iam/__init__.py", "import client_app"),
    ("client-without-iam", "client_app/__init__.py", "import iam"),
    ("face-on-top", "peer/__init__.py", "import handfast"),
    ("face-on-top", "client_app/__init__.py", "import handfast"),
    ("face-of-the-client", "handfast/__init__.py", "import iam"),
    ("face-of-the-client", "handfast/sync.py", "import device_app"),
    ("no-circles", "peer/net/udp.py", "import peer.net.endpoint"),
    ("no-circles", "iam/audit.py", "import iam.store"),
    ("peer-layers", "peer/errors.py", "import peer.limits"),
    ("peer-layers", "peer/limits.py", "import peer.identity"),
    ("peer-layers", "peer/identity.py", "import peer.dtls"),
    ("peer-layers", "peer/dtls/__init__.py", "import peer.pairing"),
    ("peer-layers", "peer/pairing/__init__.py", "import peer.dtls"),
    ("peer-layers", "peer/pairing/__init__.py", "import peer.net"),
    ("peer-layers", "peer/dtls/__init__.py", "import peer.net"),
    ("peer-layers", "peer/net/__init__.py", "import peer.terminal.text"),
    ("peer-layers", "peer/net/__init__.py", "import peer.remote.limits"),
    ("peer-layers", "peer/newcomer.py", "'''A module that has no place yet.'''"),
    ("device-layers", "device_app/access/__init__.py", "import device_app.pairing"),
    ("device-layers", "device_app/pairing/__init__.py", "import device_app.resources"),
    ("device-layers", "device_app/resources/__init__.py", "import device_app.console"),
    ("device-layers", "device_app/console/__init__.py", "import device_app.app"),
    ("device-layers", "device_app/app.py", "import device_app.terminal"),
    ("device-layers", "device_app/terminal/__init__.py", "import device_app.commands"),
    ("device-layers", "device_app/errors.py", "import device_app.access"),
    ("device-layers", "device_app/newcomer.py", "'''A module that has no place yet.'''"),
    ("device-processes", "device_app/commands/__init__.py", "import device_app.app"),
    (
        "device-processes",
        "device_app/terminal/__init__.py",
        "import device_app.console.pairing_console",
    ),
    ("client-layers", "client_app/terminal/__init__.py", "import client_app.commands"),
    ("client-layers", "client_app/client.py", "import client_app.terminal"),
    ("client-layers", "client_app/client.py", "import client_app.sync"),
    ("client-layers", "client_app/pairing/__init__.py", "import client_app.client"),
    ("client-layers", "client_app/device.py", "import client_app.pairing"),
    ("client-layers", "client_app/models.py", "import client_app.decode"),
    ("client-layers", "client_app/newcomer.py", "'''A module that has no place yet.'''"),
    ("openssl-in-dtls", "peer/net/__init__.py", "from OpenSSL import SSL"),
    ("openssl-in-dtls", "peer/identity.py", "import OpenSSL.crypto"),
    ("openssl-in-dtls", "iam/__init__.py", "import OpenSSL"),
    ("openssl-in-dtls", "device_app/__init__.py", "import OpenSSL"),
    ("openssl-in-dtls", "client_app/__init__.py", "import OpenSSL"),
    ("curve-in-p256", "peer/pairing/__init__.py", "from Crypto.PublicKey import ECC"),
    ("curve-in-p256", "client_app/__init__.py", "import Crypto"),
    ("quic-in-streams", "peer/remote/streams.py", "from aioquic.quic import events"),
    ("quic-in-streams", "client_app/__init__.py", "import aioquic"),
    ("io-in-net", "peer/identity.py", "import asyncio"),
    ("io-in-net", "peer/pairing/__init__.py", "from aiocoap import Message"),
    ("io-in-net", "peer/remote/messages.py", "import asyncio"),
    ("time-and-randomness", "peer/remote/messages.py", "import time"),
    ("random-bytes", "peer/remote/messages.py", "import os"),
    ("iam-disk", "iam/model.py", "import sqlite3"),
    ("random-bytes", "peer/pairing/jpake.py", "from os import urandom"),
    ("random-bytes", "peer/dtls/__init__.py", "import os"),
    *(
        ("time-and-randomness", f"{package}/newcomer.py", f"import {module}")
        for package in ("peer/dtls", "peer/pairing", "iam")
        for module in ("asyncio", "socket", "time", "random", "secrets")
    ),
]


def contracts() -> dict[str, str]:
    """Name by id, as configured."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {each["id"]: each["name"] for each in config["tool"]["importlinter"]["contracts"]}


def of_contract(contract: str, key: str) -> set[str]:
    """The modules that a contract names below one of its keys, without what follows an arrow."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    every = {each["id"]: each for each in config["tool"]["importlinter"]["contracts"]}
    return {name.partition(" ")[0] for name in every[contract][key]}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The four packages and the same configuration, in a folder of their own."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path) -> tuple[int, set[str], str]:
    """Exit code, names of the broken contracts, and all that was printed."""
    run = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tree,
        # Wide, so that no name is wrapped; the copy goes before an installed handfast.
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "400", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    broken = set(re.findall(r"^(.+?) BROKEN", run.stdout, re.MULTILINE))
    return run.returncode, broken, run.stdout + run.stderr


def test_the_code_keeps_every_contract(copy: Path) -> None:
    code, broken, output = lint(copy)
    assert (code, broken) == (0, set()), output


@pytest.mark.parametrize(
    ("contract", "file", "line"), VIOLATIONS, ids=lambda value: value.replace("/", ".")
)
def test_a_violation_is_seen(copy: Path, contract: str, file: str, line: str) -> None:
    place = copy / file
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a") as text:
        text.write(f"\n{line}\n")
    code, broken, output = lint(copy)
    assert code == 1, output
    assert contracts()[contract] in broken, output


def test_each_module_of_remote_either_has_io_or_takes_time_as_an_argument() -> None:
    drivers = of_contract("io-in-net", "ignore_imports")
    for contract in ("time-and-randomness", "random-bytes"):
        without_io = of_contract(contract, "source_modules")
        for path in (ROOT / "peer" / "remote").glob("[!_]*.py"):
            module = f"peer.remote.{path.stem}"
            assert (module in drivers) is not (module in without_io), (contract, module)


def test_every_contract_has_been_broken() -> None:
    assert {contract for contract, _, _ in VIOLATIONS} == set(contracts())
