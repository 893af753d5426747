"""Importing a module of an application, with errors in the words of its author."""

import importlib
import sys
from importlib.machinery import all_suffixes
from pathlib import Path
from types import ModuleType
from typing import Final

from device_app.errors import ModuleError
from device_app.modules import faults

_SUFFIXES: Final = tuple(all_suffixes())
_SOURCE: Final = ".py"
#: Packages that an application's file must not replace.
_OF_HANDFAST: Final = frozenset({"client_app", "device_app", "handfast", "iam", "peer"})
_ADVICE: Final = "Correct the module, or remove it from [resources] modules."


def unusable(name: str, reason: str, *, advice: str = _ADVICE) -> ModuleError:
    """Return the error for a module that cannot be used."""
    return ModuleError(
        f"the resources of the module {name!r} cannot be used: {reason}", advice=advice
    )


def use_folder(folder: Path) -> None:
    """Look for modules in a folder first. Raises `ModuleError` if it has a dangerous entry."""
    if not folder.is_dir():
        return
    _check_folder(folder)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def imported(name: str, folder: Path) -> ModuleType:
    """Import a module by the name in the configuration.

    Args:
        name: the name.
        folder: the folder of modules, which need not exist.

    Raises:
        ModuleError: it cannot be imported. The message says why, with the file and the line.
    """
    _check_name(name, folder)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # importing a module runs its code
        raise unusable(name, *_reason(name, error, folder)) from error


def _check_name(name: str, folder: Path) -> None:
    if name.endswith(_SOURCE) or "/" in name:
        plain = name.removesuffix(_SOURCE).strip("/").replace("/", ".")
        raise unusable(name, "it is a path", advice=f"Write the name of the module: {plain!r}.")
    if not all(part.isidentifier() for part in name.split(".")):
        raise unusable(
            name,
            "this is not the name of a Python module",
            advice="Use letters, digits and _, and rename the file.",
        )
    top = name.partition(".")[0]
    if (top in sys.stdlib_module_names or top in _OF_HANDFAST) and not _has(folder, top):
        raise unusable(name, f"{top} is a module of {_owner(top)}, and serves no resources")


def _reason(name: str, error: BaseException, folder: Path) -> tuple[str]:
    own = folder if folder.is_dir() else None
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (_not_found(name, error, folder, own),)
    reason = faults.described(error, own)
    if "partially initialized module" in str(error):
        reason += "; two modules import each other"
    return (reason,)


def _not_found(name: str, error: ModuleNotFoundError, folder: Path, own: Path | None) -> str:
    missing = str(error.name)
    if name == missing or name.startswith(f"{missing}."):
        there = sorted({path.stem for path in _top_level(folder)})
        from difflib import get_close_matches  # noqa: PLC0415 - only an error needs it

        near = get_close_matches(missing, there, n=1)
        hint = f"; is it {near[0]!r}?" if near else ""
        return f"there is no {missing}.py in {folder}, and no installed module of that name{hint}"
    place = faults.place_of(error, own)
    return f"{place}: there is no module {missing!r}; install it for {sys.executable}"


def _check_folder(folder: Path) -> None:
    """Reject a folder in which an import could open or find anything that was not meant.

    A FIFO would block the daemon indefinitely. A file `random.py` would replace Python's own module
    of that name for everything that imports it later.
    """
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # a hidden name is no module; Emacs makes `.#lamp.py`, a link to nothing
        if path.name.endswith(_SUFFIXES) and not path.is_dir() and not path.is_file():
            raise ModuleError(
                f"{path} is not a regular file, so nothing in {folder} can be loaded",
                advice="Remove it.",
            )
    for path in _top_level(folder):
        name = path.name.partition(".")[0]
        if name in sys.stdlib_module_names or name in _OF_HANDFAST or _is_used(name, folder):
            raise ModuleError(
                f"{path} has the name of a module of {_owner(name)}, and would replace it",
                advice=f"Rename it, for example to my_{name}{path.suffix}, and correct its name in "
                "[resources] modules.",
            )


def _top_level(folder: Path) -> list[Path]:
    """Return the files and packages that an import can find in a folder."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
        and ((path / "__init__.py").is_file() if path.is_dir() else path.name.endswith(_SUFFIXES))
    ]


def _has(folder: Path, name: str) -> bool:
    return any(path.name.partition(".")[0] == name for path in _top_level(folder))


def _is_used(name: str, folder: Path) -> bool:
    """Whether handfast, or a library of it, has imported a module of this name from elsewhere."""
    found = sys.modules.get(name)
    if found is None:
        return False
    file = getattr(found, "__file__", None)
    return file is not None and folder not in Path(file).parents


def _owner(name: str) -> str:
    if name in _OF_HANDFAST:
        return "handfast"
    return "Python" if name in sys.stdlib_module_names else "an installed package"
