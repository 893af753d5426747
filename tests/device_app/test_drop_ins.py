"""Stray entries in `policy.d` and `device.d` are passed over and named; text encodings are read."""

from __future__ import annotations

import errno
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from device_app.access.drop_ins import DropIns
from device_app.access.policies import PolicySet, check_folder
from device_app.cli import main
from device_app.console.nabto_import import NabtoImport
from device_app.errors import AppError, ConfigError
from device_app.modules import loading
from device_app.resource_spec import Board
from device_app.settings import config
from device_app.settings.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.device import Kit

ROLE = '[[role]]\nid = "reader"\nrank = 5\npolicies = []\n'
STRAYS = {
    "._lamp.toml": "a hidden name",
    ".#lamp.toml": "a hidden name",
    "folder.toml": "a folder",
    "gone.toml": "a link to nothing",
    "pipe.toml": "a FIFO",
    "socket.toml": "a socket",
    "zero.toml": "a device",
}
UNRELATED = [
    ".lamp.toml.swp",
    "lamp.toml~",
    "#lamp.toml#",
    "lamp.toml.dpkg-old",
    "README",
    "..data",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one policy file and everything that other programs leave beside it."""
    folder = tmp_path / "policy.d"
    (folder / "folder.toml").mkdir(parents=True)
    (folder / "lamp.toml").write_text(ROLE)
    for name in ("._lamp.toml", *UNRELATED):
        (folder / name).write_bytes(b"\0\5\x16\7not TOML")
    (folder / ".#lamp.toml").symlink_to("anna@laptop.1234")
    (folder / "gone.toml").symlink_to("missing")
    (folder / "zero.toml").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.toml")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.toml"))
    return folder


def test_stray_entries_are_passed_over_and_named_in_one_line(folder: Path) -> None:
    found = DropIns.of(folder)
    assert found.files == (folder / "lamp.toml",)
    assert found.passed_over == tuple(f"{name} ({STRAYS[name]})" for name in sorted(STRAYS))
    [line] = found.warnings
    assert line.startswith(f"{folder}: passed over: .#lamp.toml (a hidden name), ._lamp.toml")
    assert not any(name in line for name in UNRELATED)


def test_a_set_of_policies_and_its_check_warn_of_what_is_passed_over(folder: Path) -> None:
    read = PolicySet.read(folder, {})
    assert "reader" in read.access.roles
    assert read.warnings == DropIns.of(folder).warnings
    checked = check_folder(folder)
    assert checked["files"] == [str(folder / "lamp.toml")]
    assert checked["warnings"] == list(read.warnings)
    result = CliRunner().invoke(main, ["--home", str(folder.parent), "policy", "check"])
    assert result.exit_code == 0
    assert "pipe.toml (a FIFO)" in result.stderr


def test_links_to_regular_files_are_followed_as_kubernetes_mounts_have_them(
    tmp_path: Path,
) -> None:
    version = tmp_path / "policy.d" / "..2026_12_24"
    version.mkdir(parents=True)
    (version / "lamp.toml").write_text(ROLE)
    (tmp_path / "policy.d" / "..data").symlink_to(version.name)
    (tmp_path / "policy.d" / "lamp.toml").symlink_to("..data/lamp.toml")
    read = PolicySet.read(tmp_path / "policy.d", {})
    assert "reader" in read.access.roles
    assert not read.warnings


def test_an_upper_case_suffix_is_read(tmp_path: Path) -> None:
    (tmp_path / "DENY.TOML").write_text(ROLE)
    assert "reader" in PolicySet.read(tmp_path, {}).access.roles


def test_a_file_that_cannot_be_read_is_an_error_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold a Deny."""
    (tmp_path / "deny.toml").write_text(ROLE)

    def refused(path: Path, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(ConfigError, match=r"deny\.toml: cannot be read: Permission denied"):
        PolicySet.read(tmp_path, {})


async def test_a_device_starts_and_reloads_beside_stray_entries(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    kit.policy(ROLE)
    for folder in ("policy.d", "device.d"):
        (kit.home / folder).mkdir(exist_ok=True)
        (kit.home / folder / "._test.toml").write_bytes(b"\0")
    with caplog.at_level(logging.WARNING):
        device = await kit.device()
        assert [one for one in caplog.messages if "passed over: ._test.toml" in one] == [
            f"{kit.home / 'policy.d'}: passed over: ._test.toml (a hidden name)"
        ]
        caplog.clear()
        await device.app.reloader.reload()
    assert [one.partition(":")[0] for one in caplog.messages if "._test.toml" in one] == [
        str(kit.home / "device.d"),
        str(kit.home / "policy.d"),
    ]
    assert "._test.toml" in device.app.status()["policy"]["warnings"][0]


def test_settings_are_read_beside_stray_entries(folder: Path) -> None:
    (folder / "lamp.toml").write_text('name = "kitchen"\n')
    drop_ins = folder.rename(folder.parent / "device.d")
    paths = Paths(drop_ins.parent, drop_ins.parent, drop_ins.parent)
    assert config.load(paths.config_files).name == "kitchen"
    assert "pipe.toml (a FIFO)" in paths.config_drop_ins.warnings[0]


def test_a_lock_file_of_an_editor_keeps_no_module_from_loading(tmp_path: Path) -> None:
    (tmp_path / ".git" / "hooks").mkdir(parents=True)
    os.mkfifo(tmp_path / ".git" / "hooks" / "x.py")
    (tmp_path / ".#my_lamp.py").symlink_to("anna@laptop.1234")
    board = Board("kitchen", "B9X7HK54", subject=lambda _request: pytest.fail("no request"))
    assert loading.load([], tmp_path, board, installed=False) == []


# ------------------------------------------------------------------------------------- text files

MARKED = {
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CR LF": lambda text: text.replace("\n", "\r\n").encode(),
    "both": lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
}
UTF16 = ["utf-16", "utf-16-le", "utf-16-be"]


@pytest.mark.parametrize("form", MARKED)
def test_a_byte_order_mark_and_other_line_ends_are_read(tmp_path: Path, form: str) -> None:
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d" / "lamp.toml").write_bytes(MARKED[form](ROLE))
    (tmp_path / "device.toml").write_bytes(MARKED[form]('name = "kitchen"\n[network]\nport = 1\n'))
    nabto = tmp_path / "iam.json"
    nabto.write_bytes(MARKED[form]('{"Version": 1, "Config": {},\n "Policies": [], "Roles": []}'))
    assert "reader" in PolicySet.read(tmp_path / "policy.d", {}).access.roles
    assert config.load([tmp_path / "device.toml"]).name == "kitchen"
    assert NabtoImport.read(nabto, None).policy is not None


@pytest.mark.parametrize("encoding", UTF16)
def test_utf_16_is_named_with_what_to_do(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "policy.d").mkdir()
    for path in (tmp_path / "policy.d" / "lamp.toml", tmp_path / "device.toml"):
        path.write_bytes(ROLE.encode(encoding))
    errors: list[AppError] = []
    for read in (
        lambda: PolicySet.read(tmp_path / "policy.d", {}),
        lambda: config.load([tmp_path / "device.toml"]),
        lambda: NabtoImport.read(tmp_path / "device.toml", None),
    ):
        with pytest.raises(AppError, match="not UTF-8: it is UTF-16") as caught:
            read()
        errors.append(caught.value)
    assert {error.advice for error in errors} == {"Save it as UTF-8."}


def test_a_file_of_zero_bytes_is_named_with_what_to_do(tmp_path: Path) -> None:
    """Some file systems leave one after a power failure; it is not UTF-16."""
    (tmp_path / "device.toml").write_bytes(bytes(100))
    with pytest.raises(AppError, match="it has nothing but zero bytes") as caught:
        config.load([tmp_path / "device.toml"])
    assert "power failure" in caught.value.advice


def test_a_link_in_the_place_of_a_file_that_the_device_writes_stays(tmp_path: Path) -> None:
    """A repository of configuration is often linked into the folder of the device."""
    repository = tmp_path / "repository"
    repository.mkdir()
    home = tmp_path / "home"
    (home / "policy.d").mkdir(parents=True)
    (home / "device.toml").symlink_to("../repository/device.toml")
    (home / "policy.d" / "nabto.toml").symlink_to("../../repository/nabto.toml")
    nabto = tmp_path / "iam.json"
    nabto.write_text('{"Version": 1, "Config": {}, "Policies": [], "Roles": []}')
    shell = CliRunner()
    for words in (
        ["init", "--name", "kitchen"],
        ["policy", "import-nabto", str(nabto), "--out", str(home / "policy.d" / "nabto.toml")],
    ):
        done = shell.invoke(main, ["--home", str(home), *words])
        assert done.exit_code == 0, done.stderr
    assert (home / "device.toml").is_symlink()
    assert 'name = "kitchen"' in (repository / "device.toml").read_text()
    assert (home / "policy.d" / "nabto.toml").is_symlink()
    assert (repository / "nabto.toml").exists()


@pytest.mark.parametrize("target", ["missing", "device.toml"], ids=["nothing", "itself"])
def test_settings_behind_a_broken_link_are_an_error_and_not_the_defaults(
    tmp_path: Path, target: str
) -> None:
    (tmp_path / "device.toml").symlink_to(target)
    paths = Paths(tmp_path, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match=r"device\.toml: cannot be read: (it is a link to|Too m)"):
        config.load(paths.config_files)


@pytest.mark.parametrize("name", ["policy.d", "device.d"])
@pytest.mark.parametrize("target", ["missing", "policy.d", "device.toml"])
def test_a_folder_behind_a_broken_link_is_an_error(tmp_path: Path, name: str, target: str) -> None:
    """Its files may hold a Deny. A folder that is not there at all is none."""
    assert DropIns.of(tmp_path / name).files == ()
    (tmp_path / "device.toml").touch()
    (tmp_path / name).symlink_to(name if target == "policy.d" else target)
    with pytest.raises(ConfigError, match=rf"{name}: cannot be read: "):
        DropIns.of(tmp_path / name)


def add_file(folder: Path, name: bytes, text: str) -> None:
    folder.mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text(text)


async def test_names_of_files_may_be_any_bytes(kit: Kit) -> None:
    add_file(kit.home / "policy.d", b"b\xffd.toml", ROLE)
    add_file(kit.home / "device.d", b"b\xffd.toml", 'name = "attic"\n')
    device = await kit.device()
    assert device.app.status()["policy"]["files"]
    checked = CliRunner().invoke(main, ["--home", str(kit.home), "--json", "policy", "check"])
    assert checked.exit_code == 0, checked.output
    assert "reader" in checked.stdout


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("network = 3", r"network has to be a table: write its settings below \[network\]"),
        ("name = 1979-05-27", "name is not a valid name: the name is missing or is not text"),
    ],
)
def test_an_error_of_a_setting_is_a_sentence(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "device.toml").write_text(text)
    with pytest.raises(ConfigError, match=why):
        config.load([tmp_path / "device.toml"])


@pytest.mark.parametrize("name", ["device.db", "device.db.lock"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "fifo"])
def test_a_store_that_cannot_be_opened_is_named_with_the_reason_alone(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    home = tmp_path / "home"
    shell = CliRunner()
    assert shell.invoke(main, ["--home", str(home), "init"]).exit_code == 0
    (home / name).unlink()
    make(home / name)
    done = shell.invoke(main, ["--home", str(home), "users", "list"])
    assert done.exit_code == 1
    assert f"{home / name} cannot be opened: " in done.stderr
    assert "Errno" not in done.stderr
