"""Loading the resources of applications. A module that cannot be used stops the start.

A device without its lamp would be harder to find out about.
"""

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from device_app.errors import ModuleError
from device_app.modules import faults
from device_app.modules.importing import imported, unusable, use_folder
from device_app.modules.installed import may_have
from device_app.modules.spec_checks import check_spec, warnings_of
from device_app.resource_spec import Board, ResourceSpec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import aiocoap

    from iam.model import Subject

_log = logging.getLogger("handfast.modules")
GROUP: Final = "handfast.resources"
_FUNCTION: Final = "resources"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A resource of a module. `file` is the module's own, if it is known."""

    module: str
    file: Path | None
    spec: ResourceSpec

    @property
    def warnings(self) -> list[str]:
        """The properties of the resource that are probably a mistake."""
        return [f"module {self.module!r}: {text}" for text in warnings_of(self.spec)]


def board_of(name: str, device_id: str, subject: "Callable[[aiocoap.Message], Subject]") -> Board:
    """Return the board that is handed to each module; see `Board`."""
    return Board(name, device_id, subject)


def load(
    modules: Iterable[str], folder: Path, board: Board, *, installed: bool = True
) -> list[Loaded]:
    """Return the resources of all modules.

    Args:
        modules: names of the modules in the configuration.
        folder: where they can be, beside the installed packages.
        board: handed to each module.
        installed: also load the entry points of installed packages.

    Raises:
        ModuleError: a module cannot be used.
    """
    found: list[Loaded] = []
    for one in load_each(modules, folder, board, installed=installed):
        if isinstance(one, ModuleError):
            raise one
        found += one
    return found


def load_each(
    modules: Iterable[str], folder: Path, board: Board, *, installed: bool = True
) -> Iterator[list[Loaded] | ModuleError]:
    """Yield the resources of each module, or why it cannot be used; the arguments are `load`'s."""
    try:
        use_folder(folder)
    except ModuleError as error:
        yield error
        return
    taken: dict[tuple[str, ...], str] = {}
    for opened in _openers(modules, folder, installed=installed):
        try:
            found = opened(board)
            for one in found:
                _take(one, taken)
        except ModuleError as error:
            yield error
        else:
            yield found


def log_warnings(loaded: Iterable[Loaded]) -> None:
    """Log what is probably a mistake in the resources."""
    for warning in (text for one in loaded for text in one.warnings):
        _log.warning("%s", warning)


def actions_of(loaded: Iterable[Loaded]) -> dict[str, str]:
    """Return the actions of applications, each with the lowest role that has it."""
    return {action: role for one in loaded for action, role in one.spec.roles().items()}


def _take(one: Loaded, taken: dict[tuple[str, ...], str]) -> None:
    if other := taken.get(one.spec.segments):
        raise unusable(one.module, f"the module {other} serves {one.spec.path} already")
    taken[one.spec.segments] = one.module


def _openers(
    modules: Iterable[str], folder: Path, *, installed: bool
) -> Iterator[Callable[[Board], list[Loaded]]]:
    """Yield a function for each module, which imports it and calls its `resources`."""
    yield from (partial(_of_module, name, folder) for name in modules)
    if installed and may_have(GROUP):
        from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import

        yield from (partial(_of_entry_point, entry) for entry in entry_points(group=GROUP))


def _of_module(name: str, folder: Path, board: Board) -> list[Loaded]:
    module = imported(name, folder)
    function = getattr(module, _FUNCTION, None)
    if function is None:
        from difflib import get_close_matches  # noqa: PLC0415 - only an error needs it

        near = get_close_matches(_FUNCTION, vars(module), n=1)
        hint = f"; is it {near[0]!r}?" if near else ""
        file = f" in {module.__file__}" if module.__file__ else ""
        raise unusable(name, f"it has no function resources(board){file}{hint}")
    return _called(name, function, board, folder)


def _of_entry_point(entry: "EntryPoint", board: Board) -> list[Loaded]:
    try:
        function: object = entry.load()
    except (Exception, SystemExit) as error:
        raise unusable(entry.name, faults.described(error, None)) from error
    return _called(entry.name, function, board, None)


def _called(name: str, function: object, board: Board, folder: Path | None) -> list[Loaded]:
    if not callable(function):
        raise unusable(name, f"resources is {type(function).__name__}, not a function of the board")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise unusable(name, "resources(board) is async; write it with `def`")
    file = _file_of(function)
    _check_signature(name, function)
    try:
        returned = function(board)
        specs = [returned] if isinstance(returned, ResourceSpec) else _listed(name, returned)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleError):
            raise
        raise unusable(name, faults.described(error, folder or file)) from error
    for spec in specs:
        check_spec(name, spec)
    return [Loaded(name, file, spec) for spec in specs]


def _check_signature(name: str, function: Callable[..., object]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of an extension module
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise unusable(
            name, f"resources{signature} cannot be called with the board: {error}"
        ) from error


def _listed(name: str, returned: object) -> list[ResourceSpec]:
    if returned is None:
        raise unusable(name, "resources(board) returned nothing; `yield` or `return` the resources")
    if not isinstance(returned, Iterable) or isinstance(returned, str | bytes):
        raise unusable(name, f"resources(board) returned {type(returned).__name__}, not a list")
    return list(returned)


def _file_of(function: Callable[..., object]) -> Path | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return Path(code.co_filename) if code is not None else None
