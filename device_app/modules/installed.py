"""Whether installed distributions may have modules for the device.

`importlib.metadata` knows, but it takes 1 MB of a daemon that has none. This looks at the same
files, and leaves to it what is unusual.
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path


def may_have(group: str) -> bool:
    """Return whether a distribution may have entry points of this group; false if none has."""
    finders = (one for one in sys.meta_path if one is not PathFinder)
    if any(hasattr(one, "find_distributions") for one in finders):
        return True
    return any(_folder_may_have(Path(entry), group) for entry in sys.path)


def _folder_may_have(folder: Path, group: str) -> bool:
    try:
        names = [one.name for one in folder.iterdir()]
    except FileNotFoundError:
        return False
    except OSError:  # an archive, for example
        return True
    return any(
        name.endswith(".egg")
        or (name.endswith((".dist-info", ".egg-info")) and _names(folder / name, group))
        for name in names
    )


def _names(metadata: Path, group: str) -> bool:
    try:
        return group in (metadata / "entry_points.txt").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
