"""The commands in the README and docs/howto exist, and the marked ones run.

The owner of the device `kitchen` is anna. The blocks of a page that are marked "run on DEVICE" or
"run as USER" run in order in one folder for the page. The folders of a system service
(`/etc/handfast`, `/var/lib/handfast`) are replaced by folders of the test.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from client_app.administration import Administration
from client_app.cli import main as client_cli
from client_app.client import Client
from client_app.device import Device
from device_app.cli import main as device_cli
from device_app.settings import config
from iam.limits import DEFAULT_IAM_LIMITS
from peer.errors import PeerError
from peer.limits import DEFAULT_LIMITS
from peer.terminal.exit_codes import ExitCode
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HOWTO = sorted((ROOT / "docs" / "howto").glob("*.md"))
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "standards.md",
    ROOT / "docs" / "architecture.md",
    ROOT / "docs" / "board.md",
    ROOT / "docs" / "remote.md",
    *HOWTO,
]
COMMANDS = {"handfast": client_cli, "handfast-device": device_cli}
MARKED = re.compile(
    r"<!-- ([^\n]*?) (?:by|in) tests/docs/test_howto\.py -->\n```\w+\n(.*?)```", re.DOTALL
)
UNITS = {"KiB": 1024, "days": 86_400, "bytes": 1}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def text_of(page: Path) -> str:
    return page.read_text()


def commands(text: str) -> Iterator[list[str]]:
    """The words of each handfast command in the shell blocks; operators end a command."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language not in {"", "sh"}:
            continue
        for line in block.splitlines():
            if line.startswith("  "):  # output of a command
                continue
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            found: list[str] = []
            for word in [*lexer, ";"]:
                if not re.fullmatch(r"[();<>|&]+", word):
                    found.append(word)
                    continue
                if found and Path(found[0]).name in COMMANDS:
                    yield [Path(found[0]).name, *(one for one in found[1:] if one != "…")]
                found = []


def is_valid(command: list[str]) -> bool:
    """Whether the verb and its options exist; the command is not run."""
    program, *arguments = command
    return CliRunner().invoke(COMMANDS[program], [*arguments, "--help"]).exit_code == 0


@every_page
def test_each_command_on_a_page_exists(page: Path) -> None:
    wrong = [shlex.join(each) for each in commands(text_of(page)) if not is_valid(each)]
    assert wrong == []


def test_the_check_finds_commands_that_do_not_exist() -> None:
    text = "```sh\nls | handfast pear kitchen\nhandfast get --loud kitchen && true\n```\n"
    found = list(commands(text))
    assert found == [
        ["handfast", "pear", "kitchen"],
        ["handfast", "get", "--loud", "kitchen"],
    ]
    assert not any(map(is_valid, found))
    assert len([*commands(text_of(ROOT / "README.md"))]) > 15


@every_page
def test_each_link_on_a_page_resolves(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        path, _, anchor = target.partition("#")
        assert "://" not in target
        other = (page.parent / path).resolve() if path else page
        assert other.is_file(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in titles}
            assert anchor in slugs, target


def test_the_readme_links_to_every_page() -> None:
    readme = text_of(ROOT / "README.md")
    for page in PAGES[1:]:
        assert f"({page.relative_to(ROOT)})" in readme


# ----------------------------------------------------------------------------------------- tables


def rows(page: str, name: str) -> list[list[str]]:
    """The rows of a marked table, without its header."""
    text = (ROOT / "docs" / page).read_text()
    _, found, after = text.partition(f"<!-- table: {name} -->\n")
    assert found, name
    lines = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def errors(root: type[PeerError] = PeerError) -> Iterator[type[PeerError]]:
    for each in root.__subclasses__():
        yield each
        yield from errors(each)


def test_the_documented_exit_codes_equal_those_of_the_code() -> None:
    codes = [int(code) for code, _ in rows("howto/scripts.md", "exit codes")]
    assert codes == sorted(set(ExitCode))
    assert {each.exit_code for each in errors()} <= set(codes)


def test_the_documented_timeouts_equal_the_defaults_of_the_calls() -> None:
    calls: tuple[Callable[..., object], ...] = (
        Client.connect,
        Device.get,
        Administration.users,
        Device.observe,
        Client.discover,
    )
    table = [default for _, default, _ in rows("howto/scripts.md", "timeouts")]
    for documented, call in zip(table, calls, strict=False):
        assert documented == f"{inspect.signature(call).parameters['timeout'].default:g} s"
    for call in (Client.pair, Client.redeem):
        assert inspect.signature(call).parameters["timeout"].default is None
    assert len(table) == len(calls) + 1
    assert table[-1].startswith("none")


def test_the_documented_limits_equal_those_of_the_code() -> None:
    for what, value, name in rows("standards.md", "main limits"):
        number, _, unit = value.partition(" ")
        actual = (asdict(DEFAULT_LIMITS) | asdict(DEFAULT_IAM_LIMITS))[name.strip("`")]
        assert int(number) * UNITS.get(unit, 1) == actual, what


def test_the_files_of_the_other_limits_exist() -> None:
    text = text_of(ROOT / "docs" / "standards.md")
    paths = re.findall(r"`((?:peer|iam|device_app|client_app)/[\w/.]*)`", text)
    assert len(paths) > 5
    for path in paths:
        assert (ROOT / path).exists(), path


# ---------------------------------------------------------------------------------- marked blocks


class HowtoEnvironment:
    """The folders of the devices, and a folder for the users and files of each page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def page(self, name: str) -> Path:
        """Create the folder of a page with a copy of anna's home folder."""
        folder = self.folder / name
        shutil.copytree(self.folder / "anna", folder / "anna")
        return folder

    def device(self, name: str) -> dict[str, str]:
        """The environment variables with the folders of a device, as systemd sets them."""
        base = self.folder / "devices" / name
        return {
            "CONFIGURATION_DIRECTORY": str(base / "config"),
            "STATE_DIRECTORY": str(base / "state"),
            "RUNTIME_DIRECTORY": str(base / "run"),
        }

    def environment(self, home: Path) -> dict[str, str]:
        """The environment for commands of a user on the loopback interface."""
        return {
            **os.environ,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "HANDFAST_HOME": str(home),
            "HANDFAST_INTERFACES": "127.0.0.1",
        }

    def run(
        self, script: str, folder: Path | None = None, *, on: str = "kitchen", user: str = "anna"
    ) -> str:
        """Run a shell block and return its output; the first failure is an error."""
        folder, device = folder or self.folder, self.device(on)
        script = script.replace("/var/lib/handfast", device["STATE_DIRECTORY"])
        script = script.replace("/etc/handfast", device["CONFIGURATION_DIRECTORY"])
        done = subprocess.run(
            ["sh", "-euc", script],
            cwd=folder,
            env={**self.environment(folder / user), **device},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Run `kitchen` on free ports of the loopback interface."""
        options = "--allow-loopback --listen 127.0.0.1 --interface 127.0.0.1"
        ports = "--port 0 --pairing-port 0"
        with subprocess.Popen(
            [sys.executable, "-m", "device_app", "run", *options.split(), *ports.split()],
            cwd=self.folder,
            env={**self.environment(self.folder / "anna"), **self.device("kitchen")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                output: list[str] = []
                while "ready" not in output:
                    line = process.stdout.readline()
                    assert line, output
                    output.append(line.strip())
                yield
            finally:
                process.terminate()


@pytest.fixture(scope="module")
def howto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HowtoEnvironment]:
    """A running device `kitchen` with the owner anna, for all pages."""
    found = HowtoEnvironment(tmp_path_factory.mktemp("howto"))
    for path in found.device("kitchen").values():
        Path(path).mkdir(parents=True, mode=0o700)
    made = found.run("handfast-device init --name kitchen")
    device_id = made.partition("id ")[2].split()[0]
    with found.daemon():
        shown = re.search(r"\d{4}-\d{4}", found.run("handfast-device open --no-wait"))
        assert shown is not None
        found.run(f"handfast pair {device_id} --name anna --code {shown[0]}")
        yield found


@pytest.mark.parametrize("page", HOWTO, ids=lambda page: page.stem)
def test_the_marked_blocks_of_a_page_run(
    page: Path, howto: HowtoEnvironment, tmp_path: Path
) -> None:
    """A `device.toml` is only checked, because the test uses other ports."""
    blocks = MARKED.findall(text_of(page))
    assert len(blocks) == text_of(page).count("tests/docs/test_howto.py -->") > 0
    folder = howto.page(page.stem)
    for mark, text in blocks:
        match mark.split():
            case ["run", "on", name]:
                howto.run(text, folder, on=name)
            case ["run", "as", name]:
                howto.run(text, folder, user=name)
            case ["a", "device.toml,", "checked"]:
                (tmp_path / "device.toml").write_text(text)
                config.load([tmp_path / "device.toml"])
            case [path]:
                file = Path(howto.device("kitchen")["CONFIGURATION_DIRECTORY"], path)
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)
            case _:
                raise AssertionError(mark)
