"""Each error that the command line of the device raises says what to do next."""

import ast
from collections.abc import Iterator
from pathlib import Path

import device_app

FOLDER = Path(device_app.__file__).parent
#: Messages about a decision of the user, which need no advice.
DECIDED = {"nothing was changed"}


def errors_without_advice() -> Iterator[str]:
    for path in sorted(FOLDER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {"AppError", "ConfigError", "UsageError"}
                and not any(one.arg in {"advice", None} for one in node.keywords)
                and _message(node) not in DECIDED
            ):
                yield f"{path.relative_to(FOLDER)}:{node.lineno}"


def _message(call: ast.Call) -> object:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) else None


def test_each_error_has_advice() -> None:
    assert list(errors_without_advice()) == []
