"""The texts about pairing methods at the device, and the exit codes of `open`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console import control_client
from device_app.console.control_client import ControlClient
from device_app.remote.views import plain_view
from device_app.terminal.render_pairing import (
    client_command_lines,
    closed_lines,
    failed_lines,
    label_line,
    lock_lines,
    pending_lines,
    window_lines,
)
from device_app.terminal.render_status import banner_lines, status_lines
from device_app.terminal.render_users import user_row
from device_app.terminal.window_watch import WindowWatch
from peer.pairing.methods import Method
from peer.pairing.window_timer import CloseReason
from peer.terminal.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kit.device import Kit

WINDOW: Any = {
    "open": True,
    "port": 5685,
    "seconds_left": 120.0,
    "role": "guest",
    "methods": list(Method),
    "failures": 0,
    "code": "4821-9930",
    "device_id": "04HMASW9",
    "fingerprint": "01" * 32,
}
CEREMONY: Any = {
    "id": "c1",
    "name": "anna",
    "fingerprint": "ab" * 32,
    "role": "guest",
    "method": "code",
    "form": "confirmed",
    "state": "REFUSED",
    "reason": "mismatch",
}


def ended(reason: str, method: str = "code", state: str = "REFUSED") -> dict[str, Any]:
    return {
        "event": "ended",
        "ceremony": {**CEREMONY, "method": method, "reason": reason, "state": state},
    }


# -- texts ----------------------------------------------------------------------------------------


def test_an_open_window_shows_a_command_for_each_method_in_eighty_columns() -> None:
    lines = window_lines(WINDOW)
    assert max(map(len, lines)) < 80
    text = "\n".join(lines)
    for word in ("handfast pair ", "--method sas", "--method compare", "PICTURE", "button"):
        assert word in text
    assert "4821-9930" in text
    assert "ADDRESS:5685" in text


@pytest.mark.parametrize("name", tuple(Method))
def test_a_single_method_has_one_command(name: str) -> None:
    [line] = client_command_lines([name])
    assert line.startswith("handfast pair")
    assert ("--method" in line) == (name == "button"), "`button` is never the default method"


def test_a_window_without_a_code_shows_no_code() -> None:
    plain: Any = {key: value for key, value in WINDOW.items() if key != "code"}
    plain["methods"] = ["sas"]
    assert "code  " not in "\n".join(window_lines(plain))


@pytest.mark.parametrize("method", tuple(Method))
@pytest.mark.parametrize(
    "reason",
    ["refused", "mismatch", "client", "session-ended", "too-late", "restarted", "no-space"],
)
def test_a_failed_attempt_shows_the_reason_and_the_attempts_left(reason: str, method: str) -> None:
    ceremony = ended(reason, method)["ceremony"]
    for failures, left in ((1, "2 attempts are left."), (2, "1 attempt is left.")):
        why, rest = failed_lines(ceremony, failures=failures)
        assert why.startswith("'anna' was not paired: ")
        assert max(len(why), len(rest)) < 80
        assert rest == left
    assert len(failed_lines(ceremony, failures=3)) == 1


def test_a_closed_window_shows_no_attempts_left() -> None:
    for reason in ("overlap", "closed", "window-closed"):
        assert len(failed_lines(ended(reason)["ceremony"], failures=1)) == 1


def test_every_close_reason_has_a_text_except_success() -> None:
    for reason in CloseReason:
        lines = closed_lines(reason)
        assert bool(lines) == (reason is not CloseReason.SUCCESS)
        assert all(len(line) < 80 for line in lines)
    assert "Paired clients are not affected" in "".join(closed_lines("failures"))


def test_pending_ceremonies_show_the_number_or_the_fingerprint() -> None:
    digits: Any = {**CEREMONY, "method": "sas", "number": "123456", "address": "192.0.2.1:9"}
    assert "123 456" in "\n".join(pending_lines([digits]))
    assert "six digits" in pending_lines([digits])[-3]
    prints = "\n".join(pending_lines([CEREMONY]))
    assert "abab " * 7 + "abab\n" in prints
    assert "every digit" in prints
    assert max(map(len, prints.splitlines())) < 80
    assert pending_lines([]) == ["no client is waiting"]


def test_a_lock_out_shows_its_duration() -> None:
    text = " ".join(lock_lines({"open": False, "port": None, "blocked_seconds": 240}))
    assert "no client can pair for 4 min" in text
    assert "Paired clients are not affected" in text
    assert lock_lines(WINDOW) == []
    blocked: Any = {**WINDOW, "blocked_seconds": 30}
    assert "no client can pair for 30 s." in window_lines(blocked)[1]


def test_the_label_line_shows_the_state_of_the_label() -> None:
    assert "handfast-device label" in label_line({"made": False, "dead": False})
    assert label_line({"made": True, "dead": False}) == "created"
    assert "blocked" in label_line({"made": True, "dead": True})


def test_users_with_unverified_keys_are_marked() -> None:
    keys = [{"verified": True}, {"verified": False}]
    users: Any = [
        {"name": "anna", "role": "guest", "keys": keys},
        {"name": "bob", "role": "owner", "keys": keys[:1]},
    ]
    anna, bob = (user_row(user, 0.0) for user in users)
    assert anna[-1] == "*unverified*"
    assert bob[-1] == "-"


# -- the daemon -----------------------------------------------------------------------------------


async def test_the_code_is_shown_on_request_and_in_no_daemon_output(kit: Kit) -> None:
    """The output of a daemon without a terminal is often stored in a log."""
    daemon = await kit.daemon("-v")
    status: Any = await daemon.json("status")
    code = status["window"]["code"]
    assert f"code         {code}" in (await daemon.run("status")).out
    opened = await daemon.run("open", "--no-wait")
    assert code in opened.out
    assert code not in "\n".join(banner_lines(status))
    assert await daemon.stop() == 0
    printed = (await daemon.ended()).out + "".join(daemon.log_lines)
    assert "window       open" in printed
    assert code not in printed


async def test_the_ready_event_does_not_contain_the_code(kit: Kit) -> None:
    daemon = await kit.daemon("--json")
    code = (await daemon.json("status"))["window"]["code"]
    assert await daemon.stop() == 0
    ready = (await daemon.ended()).out
    assert json.loads(ready)["event"] == "ready"
    assert json.loads(ready)["window"]["methods"] == ["code", "sas", "compare"]
    assert code not in ready


def test_status_shows_failures_label_and_lock_out() -> None:
    status: Any = {
        "name": "kitchen",
        "fingerprint": "01" * 32,
        "running": True,
        "pid": 1,
        "uptime_seconds": 9.0,
        "addresses": [],
        "pending": [],
        "users": [],
        "sessions": [],
        "announcement": {"enabled": True, "trouble": ""},
        "window": {"open": False, "port": None, "blocked_seconds": 30},
        "failures": 10,
        "label": {"made": True, "dead": True},
        "board": {"display": True, "label": True, "button": False},
        "user_count": 0,
        "policy": {"files": [], "digest": "", "warnings": [], "trouble": ""},
        "clock": {"now": 0, "known": True, "trouble": ""},
        "counters": {},
        "store": {"path": "", "trouble": "", "recovery": None},
        "remote": plain_view("off"),
        "tunnels": {"services": [], "trouble": ""},
    }
    text = "\n".join(status_lines(status))
    for word in ("10 failed since the last pairing", "no client can pair for 30 s", "is blocked"):
        assert word in text
    assert max(map(len, text.splitlines())) < 90


# -- the end of `open` ----------------------------------------------------------------------------


@pytest.fixture
def run_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ExitCode]:
    """A function that runs `open` against a daemon that sends these events and this result."""

    def play(*events: dict[str, Any], as_json: bool = False, **result: Any) -> ExitCode:
        async def call(
            _path: Path,
            verb: str,
            _args: object,
            *,
            on_event: Callable[[Any], None],
            **_more: object,
        ) -> dict[str, Any]:
            assert verb == "open"
            for event in ({"event": "window", "window": WINDOW}, *events):
                on_event(event)
            return {"paired": None, "closed": "time", "refused": False, **result}

        monkeypatch.setattr(control_client, "call", call)
        client = ControlClient(tmp_path / "control.sock")
        watch = WindowWatch(client, as_json=as_json, quiet=False)
        return asyncio.run(watch.open(seconds=None, role=None, methods=()))

    return play


@pytest.mark.parametrize(
    ("events", "closed", "code"),
    [
        ([], "time", ExitCode.TIMED_OUT),
        ([ended("refused", "sas")], "console", ExitCode.REFUSED),
        ([ended("refused", "sas"), ended("mismatch")], "time", ExitCode.TIMED_OUT),
        ([ended("mismatch")] * 3, "failures", ExitCode.WRONG_CODE),
        ([ended("overlap", "sas")], "overlap", ExitCode.REFUSED),
        ([ended("client", "sas", "REVOKED")] * 3, "failures", ExitCode.WRONG_CODE),
    ],
)
def test_the_exit_code_of_open_tells_how_the_window_ended(
    run_open: Callable[..., ExitCode], events: list[dict[str, Any]], closed: str, code: ExitCode
) -> None:
    assert run_open(*events, closed=closed) is code


def test_a_failed_attempt_shows_the_new_code(
    run_open: Callable[..., ExitCode], capsys: pytest.CaptureFixture[str]
) -> None:
    second = {**WINDOW, "code": "1111-2222", "failures": 1}
    paired = {**CEREMONY, "state": "REGISTERED"}
    code = run_open(
        ended("mismatch"),
        {"event": "code", "window": second, "reason": ""},
        {"event": "ended", "ceremony": paired},
        paired=paired,
        closed="success",
    )
    out, err = capsys.readouterr()
    assert code is ExitCode.DONE
    assert out == "paired anna as guest, method code\n"
    first, tries, again = (err.index(one) for one in ("4821-9930", "2 attempts", "1111-2222"))
    assert first < tries < again
    assert "\x1b" not in err, "the output is not a terminal"
    assert "\r" not in err


def test_json_output_has_only_json_lines(
    run_open: Callable[..., ExitCode], capsys: pytest.CaptureFixture[str]
) -> None:
    run_open(ended("mismatch"), as_json=True)
    out, err = capsys.readouterr()
    assert err == ""
    kinds = [json.loads(line).get("event") for line in out.splitlines()]
    assert kinds == ["window", "ended", None]


def test_without_a_terminal_open_names_the_command_to_accept(
    run_open: Callable[..., ExitCode], capsys: pytest.CaptureFixture[str]
) -> None:
    run_open({"event": "pending", "ceremony": {**CEREMONY, "method": "sas", "number": "123456"}})
    _, err = capsys.readouterr()
    assert "123 456" in err
    assert "handfast-device accept" in err
