"""`run` ends with 2 if a service manager need not try again, with 1 if another start may work."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console import offline
from device_app.errors import RESTART_IS_USELESS, NoStart
from device_app.settings.paths import Paths
from iam.store import Store
from peer.terminal.exit_codes import ExitCode
from tests.kit.daemon import run_process

if TYPE_CHECKING:
    from collections.abc import Callable


def a_wrong_setting(home: Path, _stack: ExitStack) -> None:
    (home / "device.toml").write_text("[network]\nport = 99999\n")


def a_role_that_no_policy_has(home: Path, _stack: ExitStack) -> None:
    (home / "device.toml").write_text('[pairing]\nrole = "king"\n')


def a_wrong_policy(home: Path, _stack: ExitStack) -> None:
    (home / "policy.d").mkdir()
    (home / "policy.d" / "own.toml").write_text("[[policies]]\n")


def a_module_that_is_missing(home: Path, _stack: ExitStack) -> None:
    (home / "device.toml").write_text('[resources]\nmodules = ["no_such_module"]\n')


def a_damaged_key(home: Path, _stack: ExitStack) -> None:
    (home / "device-key.pem").write_text("not a key\n")


def a_key_that_others_can_read(home: Path, _stack: ExitStack) -> None:
    (home / "device-key.pem").chmod(0o644)


def a_store_of_a_later_version(home: Path, _stack: ExitStack) -> None:
    (home / "device.db.mark").unlink()
    with closing(sqlite3.connect(home / "device.db")) as db:
        db.execute("PRAGMA user_version = 99")


def a_store_in_use(home: Path, stack: ExitStack) -> None:
    stack.enter_context(closing(Store.open(home / "device.db")))


def a_port_in_use(_home: Path, stack: ExitStack) -> list[str]:
    taken = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    taken.bind(("127.0.0.1", 0))
    return ["--port", str(taken.getsockname()[1])]


def an_address_that_is_not_there(_home: Path, _stack: ExitStack) -> list[str]:
    return ["--listen", "192.0.2.1"]


PERMANENT = [
    (a_wrong_setting, "ConfigError"),
    (a_role_that_no_policy_has, "ConfigError"),
    (a_wrong_policy, "ConfigError"),
    (a_module_that_is_missing, "ModuleError"),
    (a_damaged_key, "IdentityError"),
    (a_key_that_others_can_read, "IdentityError"),
    (a_store_of_a_later_version, "StoreTooNew"),
]
TEMPORARY = [
    (a_store_in_use, "StoreBusy"),
    (a_port_in_use, "PeerError"),
    (an_address_that_is_not_there, "PeerError"),
]


@pytest.mark.parametrize(
    ("spoil", "kind", "code"),
    [*((*one, 2) for one in PERMANENT), *((*one, 1) for one in TEMPORARY)],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_run_tells_whether_another_start_may_work(
    spoil: Callable[[Path, ExitStack], list[str] | None], kind: str, code: int, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    offline.init(Paths(home, home, home), name="kitchen", force=False)
    with ExitStack() as stack:
        words = spoil(home, stack) or []
        options = ["--pairing-port", "0", "--allow-loopback", "--json"]
        options += [] if "--port" in words else ["--port", "0"]
        options += [] if "--listen" in words else ["--listen", "127.0.0.1"]
        ended = await run_process(home, "run", *options, *words)
    assert ended.code == code, ended
    error: dict[str, Any] = json.loads(ended.err.splitlines()[-1])["error"]
    assert (error["kind"], error["exit"]) == (kind, code)
    assert error["message"]
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("cause", RESTART_IS_USELESS)
def test_each_cause_keeps_its_words_and_its_kind(cause: type[Exception]) -> None:
    error = NoStart(cause("no use", advice="Correct it."))  # type: ignore[call-arg, arg-type]
    assert (str(error), error.advice, error.kind) == ("no use", "Correct it.", cause.__name__)
    assert error.code is ExitCode.USAGE
