"""The unit of the daemon, and the user that it runs as: by systemd's own programs."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parents[2] / "packaging" / "systemd"
UNIT: Final = FOLDER / "handfast-device.service"
EXPOSURE_TENTHS_MAX: Final = 13  # 1.3, on systemd 252 and 257
MUST_NOT = ("MemoryDenyWriteExecute", "ProcSubset", "PrivateUsers", "IPAddressDeny", "DynamicUser")


def analyze(*arguments: str, unit: Path) -> subprocess.CompletedProcess[str]:
    argv = ["systemd-analyze", "--no-pager", *arguments, str(unit)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def installed(folder: Path, text: str) -> Path:
    """The unit as on a machine that has its program."""
    program = folder / "handfast-device"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = folder / UNIT.name
    unit.write_text(text.replace("/usr/bin/handfast-device", str(program)))
    return unit


def directives() -> list[tuple[str, str]]:
    lines = [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#["]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


@pytest.mark.needs_tool("systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    found = analyze("verify", "--man=no", unit=installed(tmp_path, UNIT.read_text()))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.needs_tool("systemd-analyze")
def test_systemd_refuses_a_unit_with_a_typing_error(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("ProtectClock=", "ProtectClocks=")
    assert "ProtectClocks" in analyze("verify", "--man=no", unit=installed(tmp_path, text)).stderr


def exposure_is_low(unit: Path) -> bool:
    gate = ("security", "--offline=true", f"--threshold={EXPOSURE_TENTHS_MAX}")
    found = analyze(*gate, unit=unit)
    assert "Overall exposure level" in found.stdout, found
    return found.returncode == 0


@pytest.mark.needs_tool("systemd-analyze")
def test_the_exposure_of_the_daemon_is_at_most_1_3(tmp_path: Path) -> None:
    assert exposure_is_low(installed(tmp_path, UNIT.read_text()))


@pytest.mark.needs_tool("systemd-analyze")
@pytest.mark.parametrize(
    "line", ["NoNewPrivileges=yes", "RestrictNamespaces=yes", "SystemCallFilter=@system-service"]
)
def test_a_daemon_with_less_protection_is_more_exposed(tmp_path: Path, line: str) -> None:
    text = UNIT.read_text().replace(f"\n{line}\n", "\n")
    assert text != UNIT.read_text()
    assert not exposure_is_low(installed(tmp_path, text))


def test_each_line_is_one_directive_with_its_reason_before_it() -> None:
    has_reason = False
    for line in UNIT.read_text().splitlines():
        if line.startswith("#"):
            has_reason = True
        elif not line or line.startswith("["):
            has_reason = line == "[Install]"  # says itself when it is started
        elif not line.startswith(("Description=", "Documentation=")):
            assert re.fullmatch(r"[A-Z]\w+=.*", line), line
            assert has_reason, line
    repeated = [name for name, _ in directives()]
    repeated.remove("SystemCallFilter")  # allowed calls, and those taken away again
    assert len(repeated) == len(set(repeated))


def test_a_directive_that_breaks_the_daemon_is_named_and_absent() -> None:
    comments = "\n".join(line for line in UNIT.read_text().splitlines() if line.startswith("#"))
    for name in MUST_NOT:
        assert name not in dict(directives())
        assert re.search(rf"^# {name}(=\w+)? +\w", comments, re.MULTILINE), name


def test_a_wrong_setting_is_not_tried_again() -> None:
    assert ("RestartPreventExitStatus", "2") in directives()


@pytest.mark.needs_tool("systemd-sysusers")
def test_the_user_and_the_group_of_the_unit_are_created(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "usr/lib/sysusers.d").mkdir(parents=True)
    shutil.copy(FOLDER / "sysusers.conf", tmp_path / "usr/lib/sysusers.d/handfast.conf")
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], check=True, capture_output=True)
    users, groups = ((tmp_path / "etc" / name).read_text() for name in ("passwd", "group"))
    unit = dict(directives())
    [user] = [line for line in users.splitlines() if line.startswith(f"{unit['User']}:")]
    assert user.endswith(":/var/lib/handfast:/usr/sbin/nologin")
    assert re.search(rf"^{unit['Group']}:", groups, re.MULTILINE)
    created = {line.partition(":")[0] for line in groups.splitlines()}
    assert created == {"handfast", "handfast-device"}
