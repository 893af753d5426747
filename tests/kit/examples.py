"""The configuration files of `examples/remote`, adapted to a test."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

FOLDER: Final = Path(__file__).resolve().parents[2] / "examples" / "remote"


def adapted(name: str, replaced: Mapping[str, str] = MappingProxyType({})) -> str:
    """The text of an example, with the paths, ports and accounts of a test."""
    text = (FOLDER / name).read_text()
    for old, new in replaced.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    return text
