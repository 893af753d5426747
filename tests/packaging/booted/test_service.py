"""The service on a booted Debian: its sandbox, its group, its reload, its watchdog, its journal."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.booted import Container
from tests.kit.installed import UNIT, HostClient
from tests.kit.waiting import block_until

pytestmark = [
    pytest.mark.booted,
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("systemd-nspawn", "nsenter", "unshare", "setpriv", "dpkg-deb"),
]
FORGE = """
from pathlib import Path
from device_app.access.systemd_journal import SystemdJournal
from device_app.process.log_destination import SYSTEMD_JOURNAL
from iam.audit import Event
from iam.store import Store

store = Store.open(Path("/tmp/forge.db"))
store.on_events(SystemdJournal(store.audit, SYSTEMD_JOURNAL).send_until)
event = Event(kind="clock-trusted", boot="", monotonic=1.0, wall=2.0, detail=FORGED)
store.commit(store.state, event)
store.close()
"""
DROP_IN = f"/etc/systemd/system/{UNIT}.d"


def entries(board: Container, *matches: str) -> list[dict[str, Any]]:
    """The entries of the journal that match."""
    return [json.loads(line) for line in board.systemd_journal(*matches).splitlines()]


def messages(board: Container) -> list[str]:
    """The log of the service and its commands."""
    return [entry["MESSAGE"] for entry in entries(board, f"_SYSTEMD_UNIT={UNIT}")]


def restarts(board: Container) -> int:
    return int(board.property_of(UNIT, "NRestarts"))


def last_ping(board: Container) -> int:
    """The time of the last sign of life, in microseconds."""
    return int(board.property_of(UNIT, "WatchdogTimestampMonotonic"))


def test_the_service_is_up_after_a_boot(board: Container) -> None:
    assert board.run("systemctl", "is-active", UNIT).out == "active\n"
    assert board.run("systemctl", "is-enabled", UNIT).out == "enabled\n"
    assert board.property_of(UNIT, "StatusText")


def test_a_client_on_the_cable_pairs_by_code(board: Container, owner: HostClient) -> None:
    assert "anna" in owner.run(board, "get", "kitchen", "/hello").out
    assert (
        board.run("handfast-device", "users", "list", "--json").value["users"][0]["name"] == "anna"
    )


def test_the_daemon_runs_without_rights(board: Container) -> None:
    pid = board.property_of(UNIT, "MainPID")
    lines = board.run("cat", f"/proc/{pid}/status").out.splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status["Uid"].split()[0]) != 0


def test_the_state_is_closed_to_other_users(board: Container) -> None:
    for user in ("anna", "mia"):
        board.run("ls", "/var/lib/handfast", user=user, code=2)


def test_a_member_of_the_group_uses_the_console(board: Container) -> None:
    board.run("handfast-device", "status", user="anna")
    board.run("handfast-device", "open", "--role", "guest", "--no-wait", user="anna")
    board.run("handfast-device", "close", user="anna")


def test_another_user_is_refused_and_advised_to_join_the_group(board: Container) -> None:
    refused = board.run("handfast-device", "open", "--no-wait", user="mia", code=7)
    assert "usermod -aG handfast" in refused.err


def test_a_good_policy_is_reloaded(board: Container) -> None:
    board.shell("mkdir -p /etc/handfast/policy.d")
    board.run("systemctl", "reload", UNIT)
    assert board.run("systemctl", "is-active", UNIT).out == "active\n"


def test_a_bad_policy_fails_the_reload_with_its_file_and_line(
    board: Container, owner: HostClient
) -> None:
    bad = "/etc/handfast/policy.d/90-bad.toml"
    board.shell(f"mkdir -p /etc/handfast/policy.d; printf '\\n\\nwrong = [\\n' > {bad}")
    try:
        assert board.start("systemctl", "reload", UNIT).end().code != 0
        said = "\n".join(messages(board))
        assert "90-bad.toml:3" in said, said
        owner.run(board, "get", "kitchen", "/hello")
    finally:
        board.run("rm", bad)
    board.run("systemctl", "reload", UNIT)


def test_the_log_has_priorities(board: Container, owner: HostClient) -> None:
    test_a_bad_policy_fails_the_reload_with_its_file_and_line(board, owner)
    main = board.property_of(UNIT, "MainPID")
    found = {entry["PRIORITY"] for entry in entries(board, f"_SYSTEMD_UNIT={UNIT}", f"_PID={main}")}
    assert "6" in found
    assert found & {"3", "4"}, found


@pytest.mark.usefixtures("owner")
def test_an_event_is_logged_with_fields(board: Container) -> None:
    [paired] = entries(board, "HANDFAST_KIND=paired", "HANDFAST_USER=anna")
    assert paired["PRIORITY"] == "6"
    assert paired["_SYSTEMD_UNIT"] == UNIT
    assert paired["HANDFAST_ROLE"] == "owner"
    assert len(paired["MESSAGE_ID"]) == 32


def test_a_name_with_line_breaks_forges_no_entry(board: Container, tmp_path: Path) -> None:
    """The daemon itself accepts no such name; the journal has to be safe without that."""
    forged = "x\nPRIORITY=0\nHANDFAST_KIND=forged\n\nMESSAGE=all is well\x00=\x1b[2J"
    script = tmp_path / "forge.py"
    script.write_text(FORGE.replace("FORGED", repr(forged)))
    board.run("/usr/lib/handfast/bin/python3", board.put(script, "/tmp"))
    board.run("journalctl", "--sync")
    [entry] = entries(board, "HANDFAST_KIND=clock-trusted")
    assert bytes(entry["HANDFAST_DETAIL"]).decode() == forged  # the journal's form of binary data
    assert entry["PRIORITY"] == "6"
    assert not entries(board, "HANDFAST_KIND=forged")
    assert not entries(board, "PRIORITY=0")


@pytest.mark.usefixtures("owner")
def test_no_code_is_logged(board: Container) -> None:
    shown = board.shell("handfast-device open --role guest --no-wait")
    code = shown.partition("code ")[2].split()[0]
    assert code.replace("-", "").isdigit()
    assert code not in board.systemd_journal()
    board.run("handfast-device", "close")


def test_a_stopped_daemon_is_restarted_and_its_client_continues(
    board: Container, owner: HostClient
) -> None:
    board.shell(
        f"mkdir -p {DROP_IN}; printf '[Service]\\nWatchdogSec=2\\n' > {DROP_IN}/watchdog.conf;"
        f"systemctl daemon-reload; systemctl restart {UNIT}"
    )
    try:
        before = board.property_of(UNIT, "MainPID")
        started = last_ping(board)
        block_until(lambda: last_ping(board) > started + 2_000_000)  # so its own pings are enough
        assert board.property_of(UNIT, "MainPID") == before
        board.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT)
        block_until(lambda: restarts(board) == 1)
        block_until(lambda: board.property_of(UNIT, "ActiveState") == "active")
        assert board.property_of(UNIT, "MainPID") != before
        assert "anna" in owner.run(board, "get", "kitchen", "/hello").out
    finally:
        board.shell(
            f"rm {DROP_IN}/watchdog.conf; systemctl daemon-reload; systemctl restart {UNIT}"
        )


def test_a_wrong_setting_is_not_restarted(board: Container) -> None:
    wrong = "/etc/handfast/device.d/90-wrong.toml"
    board.shell(f"mkdir -p /etc/handfast/device.d; echo 'nonsense = 1' > {wrong}")
    try:
        assert board.start("systemctl", "restart", UNIT).end().code != 0
        assert board.property_of(UNIT, "ActiveState") == "failed"
        assert board.property_of(UNIT, "ExecMainStatus") == "2"
        assert restarts(board) == 0
        assert "90-wrong.toml" in "\n".join(messages(board))
    finally:
        board.shell(f"rm {wrong}; systemctl reset-failed {UNIT}; systemctl start {UNIT}")
