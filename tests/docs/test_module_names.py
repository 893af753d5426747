"""Modules that docstrings and comments name, such as `peer.net.udp`: each exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_NAMED: Final = re.compile(r"`((?:peer|iam|device_app|client_app|tests)(?:\.\w+)+)`")


def named() -> Iterator[tuple[str, str]]:
    """Each file with each module, or name of a module, in backquotes."""
    for folder in ("peer", "iam", "device_app", "client_app", "tests", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name in _NAMED.findall(path.read_text()):
                yield str(path.relative_to(ROOT)), name


def exists(name: str) -> bool:
    """Whether it is a module, or a name that is in the text of a module."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, _, last = name.rpartition(".")
    while module:
        source = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        if source.is_file():
            text = source.read_text()
            return re.search(rf"(?m)\b(?:def|class) {last}\b|^ *{last}\b", text) is not None
        module, _, last = module.rpartition(".")
    return False


def test_modules_that_docstrings_name_exist() -> None:
    found = [*named()]
    assert len(found) > 20
    assert [one for one in found if not exists(one[1])] == []
