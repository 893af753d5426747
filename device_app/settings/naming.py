"""Change the name of a device in its `device.toml`, and nothing else there."""

import json
import re
import tomllib
from pathlib import Path
from typing import Final

from device_app.errors import AppError
from device_app.limits import CONFIG_FILE_BYTES
from peer.errors import Malformed
from peer.files import read_text

_NAME: Final = re.compile(r"""(\s*name\s*=\s*)("(?:[^"\\]|\\.)*"|'[^']*')(.*)""", re.DOTALL)
_TABLE: Final = re.compile(r"\s*\[")


def renamed(path: Path, name: str) -> str:
    """Return the text of the file with another name; comments and settings stay as they are.

    Raises `AppError` if the name cannot be changed without a change of something else.
    """
    try:
        text = read_text(path, CONFIG_FILE_BYTES)
        before = tomllib.loads(text)
        changed = _with_name(text, json.dumps(name, ensure_ascii=False))
        if tomllib.loads(changed) == {**before, "name": name}:
            return changed
    except (OSError, Malformed, tomllib.TOMLDecodeError):
        pass  # the reader of the settings reports it better
    raise AppError(
        f"the name cannot be changed in {path}", advice=f'Write `name = "{name}"` at its beginning.'
    )


def _with_name(text: str, value: str) -> str:
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if _TABLE.match(line):
            break
        if (found := _NAME.fullmatch(line)) is not None:
            lines[number] = f"{found[1]}{value}{found[3]}"
            return "".join(lines)
    return f"name = {value}\n{text}"
