"""For all tests: nothing is left out silently, signals are as a terminal leaves them, and an
example of hypothesis may take as long as this machine needs.

A test says what it needs from the machine with `needs_tool("openssl")` or `needs_root`. Where that
is missing the test is deselected, and the summary names it and the reason. With CI=true nothing may
be left out at all: such a test fails, and so does a run in which anything was skipped.

A failed test can be repeated (`make test REPEATS=1`), except the attacks in tests/hostile. The
summary has the failure of each test that passes then: such a test is a fault to be mended.
"""

import importlib.util
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

LEFT_OUT = pytest.StashKey[list[str]]()
#: Tests here run whole programs, whose code other tests measure. To measure a process takes as long
#: as to start it.
UNMEASURED = frozenset({"bench", "docs", "handfast", "interop", "packaging", "system"})
MEASURE = "COVERAGE_PROCESS_CONFIG"
SKIPPED = pytest.StashKey[list[str]]()
#: An attack that succeeds once has succeeded, so these tests are never repeated.
NEVER_REPEATED = "hostile"


hypothesis.settings.register_profile("any machine", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("any machine")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


def folder_of(item: pytest.Item) -> str:
    """The folder of a test in tests/, or the name of its file there."""
    return item.path.relative_to(item.config.rootpath / "tests").parts[0]


def needs(item: pytest.Item) -> Iterator[str]:
    """The programs and rights that `item` needs and this machine lacks, in words."""
    for marker in item.iter_markers("needs_tool"):
        for tool in marker.args:
            if shutil.which(tool) is None:
                yield f"needs the program {tool}"
    for marker in item.iter_markers("needs_module"):
        for module in marker.args:
            if importlib.util.find_spec(module) is None:
                yield f"needs the module {module}"
    if item.get_closest_marker("needs_root") and os.geteuid() != 0:
        yield "needs root"


def restore_signals() -> None:
    """Undo what a shell or `nohup` set to be ignored: the children inherit it, and tests interrupt
    children."""
    python_ignores = {signal.SIGPIPE, signal.SIGXFSZ}
    for number in signal.valid_signals() - python_ignores:
        if signal.getsignal(number) is signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


def pytest_configure(config: pytest.Config) -> None:
    restore_signals()
    config.stash[LEFT_OUT] = []
    config.stash[SKIPPED] = []
    config.pluginmanager.register(SkipWatch(config.stash[SKIPPED]), "handfast-skip-watch")
    config.pluginmanager.register(Gathered(), "handfast-gathered")
    config.pluginmanager.register(MeasuredProcesses(), "handfast-measured-processes")


@pytest.hookimpl(trylast=True)  # after -m and -k: only what would have run is reported
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Run files with slow tests first, so that with `-n` no process runs one alone at the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    for item in items:
        if folder_of(item) == NEVER_REPEATED:
            item.add_marker(pytest.mark.flaky(reruns=0))
    items.sort(key=lambda item: item.path not in slow)
    if in_ci():
        return
    lacking = {item: ", ".join(needs(item)) for item in items}
    left_out = [item for item in items if lacking[item]]
    if left_out:
        items[:] = [item for item in items if not lacking[item]]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] += [f"{item.nodeid}: {lacking[item]}" for item in left_out]


class MeasuredProcesses:
    """Lets coverage measure the processes that tests start, except in some folders."""

    def __init__(self) -> None:
        self._config: str | None = None

    @pytest.hookimpl(tryfirst=True)  # before the fixtures of wider scopes
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._config = os.environ.pop(MEASURE, self._config)
        if self._config is not None and folder_of(item) not in UNMEASURED:
            os.environ[MEASURE] = self._config


def pytest_runtest_setup(item: pytest.Item) -> None:
    if lacks := ", ".join(needs(item)):
        pytest.fail(f"{lacks}, and CI leaves nothing out", pytrace=False)


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    """A test that runs a command line in this process sets log levels: they end with the test."""
    before = {logger: logger.level for logger in _loggers()}
    yield
    for logger in _loggers():
        if logger.level != before.get(logger, logging.NOTSET):
            logger.setLevel(before.get(logger, logging.NOTSET))


def _loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.values()
    return [logging.root, *(one for one in known if isinstance(one, logging.Logger))]


class SkipWatch:
    """Notes the skips of whole files and of single tests."""

    def __init__(self, skipped: list[str]) -> None:
        self.skipped = skipped

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:  # an expected failure too: both mean that nothing was shown
            self.skipped.append(report.nodeid)


class Gathered:
    """Of several processes that share the tests (`-n`): what each of them has left out."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        stash = node.config.stash
        for key, name in ((LEFT_OUT, "left out"), (SKIPPED, "skipped")):
            output = getattr(node, "workeroutput", {}).get(name, [])
            stash[key] += [one for one in output if one not in stash[key]]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left out"] = session.config.stash[LEFT_OUT]
        output["skipped"] = session.config.stash[SKIPPED]
        return
    if in_ci() and session.config.stash[SKIPPED] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)  # last words, below the coverage table
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if left_out := config.stash[LEFT_OUT]:
        terminalreporter.section("left out on this machine", yellow=True)
        for line in left_out:
            terminalreporter.line(line)
    if repeated := terminalreporter.getreports("rerun"):
        terminalreporter.section("failed, and repeated", yellow=True)
        for report in repeated:
            terminalreporter.line(f"{report.nodeid}\n{report.longreprtext}")
    if in_ci() and (skipped := config.stash[SKIPPED]):
        terminalreporter.section("skipped, which CI does not allow", red=True)
        for line in skipped:
            terminalreporter.line(line)


@pytest.fixture
def clean_imports() -> Iterator[None]:
    """Forget the modules that a test imports, and the folders in which it looks for them."""
    path, modules = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
