"""The machine on which a run measures, and the versions of what it compares, in one line."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from OpenSSL import SSL

BUSY: Final = 1.0
"""How many processes more than cores make a machine busy: a run itself needs both cores."""


def load() -> float:
    """The number of processes that wanted to run during the last minute, on average."""
    return os.getloadavg()[0]


def is_busy(load: float) -> bool:
    """Whether other programs have disturbed a measurement that began at this load."""
    return load > len(os.sched_getaffinity(0)) + BUSY


@cache
def described() -> str:
    """The processor, the kernel, and the versions of Python, OpenSSL, aiocoap and libcoap."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = len(os.sched_getaffinity(0))
    openssl = " ".join(SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode().split()[:2])
    parts = [
        f"{cores} core{'s' * (cores != 1)} of {names[0] if names else platform.machine()}",
        f"Linux {platform.release().partition('-')[0]}",
        f"Python {platform.python_version()}",
        openssl,
        f"aiocoap {version('aiocoap')}",
    ]
    return ", ".join([*parts, *libcoap()])


def libcoap() -> list[str]:
    """The version of libcoap, if it is installed."""
    try:
        # Its server prints the version with its usage, and calls the unknown option an error.
        done = subprocess.run(
            ["coap-server-openssl", "-h"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return []
    found = re.search(r"v(\d+\.\d+\.\d+\S*)", done.stdout + done.stderr)
    return [f"libcoap {found[1]}"] if found else []
