"""The modules that a command loads, in a process of its own."""

import ast
import sys
from collections.abc import Mapping
from typing import Final

from tests.kit.process import Program, Result, environment

PROBE: Final = """
import sys
before = set(sys.modules)
from handfast.__main__ import {function}
sys.argv = {argv!r}
try:
    {function}()
except SystemExit as end:
    code = int(end.code or 0)
print([code, sorted(set(sys.modules) - before)], file=sys.stderr)
"""

SLOW_OF_PYTHON: Final = {
    *("asyncio", "ctypes", "difflib", "email", "hashlib", "html", "http", "importlib.metadata"),
    *("importlib.resources", "json", "logging", "multiprocessing", "pickle", "random", "shutil"),
    *("socket", "sqlite3", "ssl", "subprocess", "tempfile", "tomllib", "traceback", "unittest"),
    *("urllib.request", "xml", "zipfile"),
}
"""Packages of Python of which each takes milliseconds to import."""


def loaded_by(*argv: str, env: Mapping[str, str] | None = None) -> set[str]:
    """Return the modules that a command loads until it ends."""
    program = probe(*argv, env=env)
    try:
        return modules_of(program.end())
    finally:
        program.close()


def probe(*argv: str, env: Mapping[str, str] | None = None) -> Program:
    """Start a command that tells at its end which modules it has loaded."""
    function = "main" if argv[0] == "handfast" else "device"
    code = PROBE.format(function=function, argv=list(argv))
    more = {"HANDFAST_INTERFACES": "127.0.0.1", **(env or {})}
    return Program([sys.executable, "-c", code], without_coverage() | more)


def without_coverage() -> dict[str, str]:
    """Return an environment in which a process is not measured: coverage imports modules itself."""
    return {name: text for name, text in environment().items() if "COV" not in name}


def modules_of(result: Result) -> set[str]:
    """Return the modules that a command has told; it has ended without an error."""
    code, modules = ast.literal_eval(result.err.splitlines()[-1])
    assert code == 0, result
    return set(modules)


def packages(modules: set[str]) -> set[str]:
    """Return the packages of other projects, and the slow ones of Python, that have been loaded."""
    foreign = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - OWN
    return {name for name in foreign if not name.startswith("_")} | modules & SLOW_OF_PYTHON


OWN: Final = frozenset({"client_app", "device_app", "handfast", "iam", "peer"})


def own_modules(modules: set[str]) -> set[str]:
    """Return our modules among those that have been loaded, without packages."""
    return {
        name
        for name in modules
        if name.partition(".")[0] in OWN and not any(one.startswith(f"{name}.") for one in modules)
    }
