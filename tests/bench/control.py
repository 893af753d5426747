"""Requests to a daemon over its control socket, without starting a command."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from device_app.settings.paths import Paths


def ask(home: Path, verb: str, **args: object) -> dict[str, Any]:
    """Ask the daemon of this home; return its last answer."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(Paths(home, home, home).socket))
        one.sendall(json.dumps({"verb": verb, "args": args}).encode() + b"\n")
        for line in one.makefile():
            answer: dict[str, Any] = json.loads(line)
            if "ok" in answer:
                assert answer["ok"], answer
                return answer
    raise AssertionError(f"the daemon did not answer {verb}")
