"""The version of the installed distribution, read when this module is imported.

`importlib.metadata` takes 15 ms and 1 MB. So the file of the distribution is read without it, if it
is found where an installer puts it.
"""

import sys
from pathlib import Path
from typing import Final

_NAME: Final = "handfast"
_FIELD: Final = "Version: "


def version_in(folders: list[str]) -> str:
    """Return the version of the first installed distribution in some folders, or ''."""
    for folder in folders:
        for metadata in sorted(Path(folder).glob(f"{_NAME}-*.dist-info/METADATA")):
            for line in metadata.read_text(encoding="utf-8").splitlines():
                if line.startswith(_FIELD):
                    return line.removeprefix(_FIELD).strip()
    return ""


def _version() -> str:
    try:
        if found := version_in(sys.path):
            return found
    except (OSError, ValueError):
        pass
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see the module

    try:
        return version(_NAME)
    except PackageNotFoundError:  # a source tree
        return ""


VERSION: Final = _version()
"""The version; empty if no distribution is installed."""
