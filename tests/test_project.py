"""Checks of the project itself: its files, its locks, its wheel, and how its tests run."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.kit.distribution import PACKAGES, ROOT, build, our_files

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME_LOCK = ROOT / "requirements.lock"
REMOTE_LOCK = ROOT / "requirements-remote.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
FOREIGN_LOCK = ROOT / "requirements-foreign.lock"
LOCKS = {
    RUNTIME_LOCK: (),
    REMOTE_LOCK: ("remote", "tunnel"),
    DEV_LOCK: ("scan", "remote", "tunnel", "test", "dev"),
    FOREIGN_LOCK: ("foreign",),
}
every_lock = pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)


def lines_with(pattern: str, files: list[Path]) -> list[str]:
    """`file:line: text` of every match."""
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if re.search(pattern, line)
    ]


# -------------------------------------------------------------------------------------------- files


def test_no_file_contains_a_path_of_a_particular_machine() -> None:
    # The names are split so that this file passes its own check. URLs and `~/work` are allowed.
    folders = "|".join(("ho" + "me", "ro" + "ot", "wo" + "rk", "Us" + "ers"))
    assert lines_with(rf"(?<![\w.~$}})>*/-])/({folders})\b", our_files()) == []


def test_no_file_names_a_package_index() -> None:
    assert lines_with(r"pythonh" + r"osted|py" + r"pi\.org/simple", our_files()) == []


def test_no_file_of_code_is_longer_than_the_rule_allows() -> None:
    """See CONTRIBUTING.md: below 450 lines, and below 500 for a file of tests."""
    files = {file.relative_to(ROOT): file for file in our_files() if file.suffix == ".py"}
    lengths = {path: len(file.read_text().splitlines()) for path, file in files.items()}
    too_long = {
        str(path): lines
        for path, lines in lengths.items()
        if lines >= (500 if path.parts[0] == "tests" else 450)
    }
    assert too_long == {}


def test_no_text_refers_to_a_document_outside_the_repository() -> None:
    texts = [file for file in our_files() if file.suffix in {".py", ".md", ".toml", ".cddl"}]
    lists = "behav" + r"iours?,? (line )?\d"
    assert lines_with(rf"(?i){lists}|as in the de" + "sign", texts) == []


def test_no_code_is_marked_as_unfinished_and_no_test_is_skipped() -> None:
    unfinished = "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"))
    passed_over = (
        r"mark\.(ski" + r"p|xfa" + r"il)|pytest\.(ski" + r"p|xfa" + r"il|importorski" + r"p)\("
    )
    python = [file for file in our_files() if file.suffix == ".py"]
    assert lines_with(rf"\b({unfinished})\b|\b({passed_over})", python) == []


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


def test_no_page_installs_into_the_folder_of_a_clone() -> None:
    """`git clone` makes `~/handfast`; a virtual environment there would mix with the source."""
    pages = [file for file in our_files() if file.suffix == ".md"]
    assert lines_with(r"(~|\$HOME)/handfast\b", pages) == []


def test_the_license_is_complete() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.split("\n", 2)[1].strip() == "Apache License"
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_the_top_level_has_only_known_files_and_folders() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in our_files()}
    folders = {*PACKAGES, "tests", "docs", "examples", "packaging", ".ci"}
    files = {
        "pyproject.toml",
        "requirements.lock",
        "requirements-remote.lock",
        "requirements-dev.lock",
        "requirements-foreign.lock",
        "Makefile",
        "MANIFEST.in",
        ".gitignore",
    }
    texts = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"}
    assert top <= folders | files | texts


# --------------------------------------------------------------------------------- its dependencies


def pinned(lock: Path) -> dict[str, Requirement]:
    """The lines that pin a version, by the name of the package."""
    lines = re.findall(r"^(\S+==\S+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name((found := Requirement(line)).name): found for line in lines}


def pins(lock: Path) -> dict[str, str]:
    return {name: str(found.specifier).removeprefix("==") for name, found in pinned(lock).items()}


def requirements(*extras: str) -> list[Requirement]:
    """The project's requirements and its build backend: `make` builds without isolation."""
    project = PROJECT["project"]
    wanted = PROJECT["build-system"]["requires"] + project["dependencies"]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return [Requirement(each) for each in wanted]


@every_lock
def test_a_lock_satisfies_the_requirements_of_the_project(lock: Path) -> None:
    held = pins(lock)
    for wanted in requirements(*LOCKS[lock]):
        assert wanted.specifier.contains(held.get(canonicalize_name(wanted.name), "0")), wanted


@every_lock
def test_a_lock_pins_extras_as_they_are_required(lock: Path) -> None:
    """If `tool[extra]` is required and the lock pins `tool`, pip 23 chooses a newer release as soon
    as one exists, and then refuses it because it has no hash. `.ci/locks` checks this with pip."""
    held = pinned(lock)
    for name, pin in held.items():
        try:
            needs = requires(name)
        except PackageNotFoundError:
            assert lock == FOREIGN_LOCK, f"{name} is not installed"  # it cannot be built everywhere
            continue
        for need in map(Requirement, needs or ()):
            if any(
                need.marker is None or need.marker.evaluate({"extra": extra})
                for extra in ("", *pin.extras)
            ):
                assert need.extras <= held[canonicalize_name(need.name)].extras, f"{name}: {need}"


def test_the_locks_pin_the_same_versions() -> None:
    dev = pins(DEV_LOCK)
    assert pins(RUNTIME_LOCK).items() <= pins(REMOTE_LOCK).items() <= dev.items()
    foreign = pins(FOREIGN_LOCK)
    assert {
        name: version for name, version in foreign.items() if name in dev
    }.items() <= dev.items()
    assert foreign.keys() - dev.keys() == {"dtlssocket"}


@every_lock
def test_a_lock_contains_only_pins_with_hashes(lock: Path) -> None:
    text = lock.read_text()
    for line in text.splitlines():
        assert re.fullmatch(r"\S+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?|\s*#.*|", line), line
    assert "://" not in text
    blocks = re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=" in block for block in blocks)


@every_lock
def test_a_lock_was_created_with_the_oldest_python(lock: Path) -> None:
    # The oldest version needs the most backports; a newer one would omit them.
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"with Python {oldest}\n" in lock.read_text()


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    for wanted in requirements("scan", "remote", "tunnel", "test", "dev")[1:]:
        assert {each.operator for each in wanted.specifier} == {">=", "<"}, wanted


def imported(file: Path) -> set[str]:
    """The top-level names of the modules that `file` imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_the_dependencies_equal_the_imports_of_the_code() -> None:
    code = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    foreign = set().union(*map(imported, code)) - sys.stdlib_module_names
    foreign -= {*PACKAGES, "_typeshed"}  # the latter is for type checkers only
    distributions = packages_distributions()
    used = {canonicalize_name(distributions[name][0]) for name in foreign}
    wanted = requirements("scan", "remote", "tunnel")[1:]
    declared = {canonicalize_name(each.name) for each in wanted}
    assert used == declared


# ------------------------------------------------------------------------------------------ package


def test_the_wheel_contains_only_the_typed_packages(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(build("wheel", tmp_path)).namelist())
    ours = {file.relative_to(ROOT) for file in our_files()}
    shipped = {str(path) for path in ours if path.parts[0] in PACKAGES}
    about = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert names - about == shipped
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in about)


def test_the_source_archive_contains_every_file(tmp_path: Path) -> None:
    """Docs and tests too: `make test` works in the unpacked archive."""
    with tarfile.open(build("sdist", tmp_path)) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
    of_tools = {name for name in files if "egg-info" in name} | {"PKG-INFO", "setup.cfg"}
    assert files - of_tools == {str(file.relative_to(ROOT)) for file in our_files()}


@pytest.mark.parametrize("command", ["client_app", "device_app"])
def test_a_command_starts_without_libraries_that_few_verbs_need(command: str) -> None:
    few = {"Crypto", "PIL", "pyroute2", "segno", "zeroconf", "zxingcpp"}
    script = f"import sys, {command}.cli; print(*{few} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_functions_of_the_commands_exist() -> None:
    for target in PROJECT["project"]["scripts"].values():
        module, _, function = target.partition(":")
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
        assert re.search(rf"^(async )?def {function}\b|^{function}\b.*=", source, re.MULTILINE)


# -------------------------------------------------------------------------------- running the tests

SAMPLE = """
import pytest

@pytest.mark.needs_tool("no-such-program")
def test_with_a_tool():
    pass

def test_alone():
    pass
"""
SKIPPING = f"""
import pytest

def test_skips():
    pytest.{"ski" + "p"}("not today")

def test_alone():
    pass
"""
INTERRUPTING = """
import signal
import subprocess
import sys

# A signal that comes just before a sleep does not interrupt it.
PROGRAM = "import time; print('up', flush=True)\\nwhile True: time.sleep(0.01)"


def test_a_child_can_be_interrupted():
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        child = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"up\\n"
        child.send_signal(number)
        child.stdout.close()
        assert child.wait(30) in {-number, 1}
"""
FAILING_ONCE = """
from pathlib import Path

def test_fails_at_first():
    seen = Path("seen")
    was_run = seen.exists()
    seen.touch()
    assert was_run, "the first run"
"""
MEASURING = """
import pytest

@pytest.mark.bench
def test_measures():
    assert False

def test_alone():
    pass
"""


def run_pytest(
    folder: Path,
    sample: str,
    *options: str,
    ci: str,
    before: tuple[str, ...] = (),
    name: str = "test_sample.py",
) -> tuple[int, str]:
    """Run one file with our configuration and root conftest; returns the exit code and the output.
    `before` is a command that starts pytest. Only the plugins that it needs are loaded."""
    (folder / "tests" / name).parent.mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    (folder / "tests" / name).write_text(sample)
    outside = {name: value for name, value in os.environ.items() if "COV" not in name}
    plugins = ["-pno:cacheprovider", "-pxdist", "-ppytest_asyncio.plugin", "-ppytest_timeout"]
    plugins.append("-ppytest_rerunfailures")
    run = subprocess.run(
        [*before, sys.executable, "-m", "pytest", "-q", *plugins, *options],
        cwd=folder,
        env={**outside, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "shared out"])
def test_tests_of_a_missing_tool_are_deselected_and_listed(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    code, output = run_pytest(tmp_path, SAMPLE, *options, ci="")
    assert code == 0, output
    assert output.count("test_sample.py::test_with_a_tool: needs the program no-such-program") == 1
    assert "1 passed" in output


def test_a_missing_tool_fails_in_ci(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, SAMPLE, ci="true")
    assert code == 1, output
    assert "1 passed, 1 error" in output
    assert "needs the program no-such-program" in output


@pytest.mark.parametrize(("ci", "expected"), [("", 0), ("true", 1)])
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "shared out"])
def test_a_skip_fails_in_ci_only(
    tmp_path: Path, options: tuple[str, ...], ci: str, expected: int
) -> None:
    code, output = run_pytest(tmp_path, SKIPPING, *options, ci=ci)
    assert code == expected, output
    assert ("skipped, which CI does not allow" in output) == bool(expected)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "shared out"])
def test_a_repeated_test_that_passes_is_reported_with_its_failure(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    code, output = run_pytest(tmp_path, FAILING_ONCE, "--reruns", "1", *options, ci="true")
    assert code == 0, output
    assert "1 passed, 1 rerun" in output
    _, section = output.split("failed, and repeated")
    assert "test_sample.py::test_fails_at_first" in section
    assert "the first run" in section


def test_a_test_that_fails_twice_fails(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, "def test_x():\n    assert 0\n", "--reruns", "1", ci="true")
    assert code == 1, output
    assert "1 failed, 1 rerun" in output


def test_an_attack_is_never_repeated(tmp_path: Path) -> None:
    attack = "hostile/test_sample.py"
    code, output = run_pytest(tmp_path, FAILING_ONCE, "--reruns", "1", ci="true", name=attack)
    assert code == 1, output
    assert "1 failed" in output
    assert "rerun" not in output.split("short test summary")[1]


@pytest.mark.parametrize(
    ("sample", "complaint"),
    [
        (
            "import pytest\n\n@pytest.mark.unheard\ndef test_x():\n    pass\n",
            "'unheard' not found in `markers`",
        ),
        (
            "import warnings\n\ndef test_x():\n    warnings.warn('hm', stacklevel=1)\n",
            "UserWarning: hm",
        ),
    ],
    ids=["unknown mark", "warning"],
)
def test_unknown_marks_and_warnings_fail(tmp_path: Path, sample: str, complaint: str) -> None:
    code, output = run_pytest(tmp_path, sample, ci="")
    assert code in {1, 2}, output
    assert complaint in output


def test_benchmarks_run_only_if_they_are_selected(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, MEASURING, ci="true")
    assert code == 0, output
    assert "1 passed, 1 deselected" in output


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "shared out"])
def test_signals_reach_children_even_if_pytest_starts_with_them_ignored(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """`nohup make test` and a shell's background jobs start with signals ignored."""
    ignoring = ("sh", "-c", 'trap "" INT HUP QUIT; exec "$@"', "sh")
    code, output = run_pytest(tmp_path, INTERRUPTING, *options, ci="", before=ignoring)
    assert code == 0, output


#: Patterns in a file of tests that runs a server of the kit.
RUN_BY_THE_KIT = {
    "mosquitto": r"\bmosquitto\(|\bbroker: RunningBroker|: RemoteHome\b",
    "nats-server": r"\bnats\b[(,\]]",
    "turnserver": r"\bcoturn\(|\brelay: RunningRelay|: RemoteHome\b",
    "sshd": r"\bSshd\(",
}


def test_each_file_names_the_servers_that_its_tests_run() -> None:
    """On a machine that lacks one, a test is left out only if it names it."""
    for file in {*(ROOT / "tests").rglob("test_*.py")} - {Path(__file__)}:
        text = file.read_text("utf-8")
        marks = re.findall(r"needs_tool\(([^)]*)\)", text)
        named = set(re.findall(r'"([^"]+)"', " ".join(marks)))
        run = {one for one, pattern in RUN_BY_THE_KIT.items() if re.search(pattern, text)}
        assert run <= named, file
