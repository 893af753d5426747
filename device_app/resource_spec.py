"""Resources of your own: the small, documented interface for a board's application.

A module named in the configuration (`[resources] modules = ["my_board.lamp"]`), or an entry point
of the group `handfast.resources`, has one function:

    from device_app.resource_spec import Board, ResourceSpec

    def resources(board: Board):
        yield ResourceSpec(
            "/lamp",
            Lamp(),  # any aiocoap.resource.Resource
            actions={"GET": "Lamp:Read", "PUT": "Lamp:Set"},
            least_role={"Lamp:Set": "user"},  # default: guest for GET, user for the rest
            attributes=lambda request: {"Lamp:Room": "hall"},  # for the conditions of policies
        )

Each method asks for its action; a method without one is 4.05. An unpaired key never comes so far.
`attributes` are texts that tell requests apart, by path, query and sender: it is asked before the
body is there, for each request and for each notification. Names in handfast's own modules
(`Connection`, `IAM`, `Clock`) are left out.
In a handler, `board.subject(request)` is the user who sent the request; Observe works as in aiocoap
(`ObservableResource`). A module that cannot be used is a refusal to start that names it: a lamp
that silently is not there would be worse.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import all_suffixes
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import aiocoap
from aiocoap import interfaces

from device_app.errors import ModuleError
from iam.access import Access
from iam.errors import IamError
from iam.model import Subject

GROUP = "handfast.resources"
_IMPORTED = tuple(all_suffixes())
_OURS = frozenset({"iam", "pair", "hello", "board", ".well-known", "events"})


@dataclass(frozen=True, slots=True)
class Board:
    """What an application's module may know of the device it runs on."""

    name: str
    device_id: str
    subject: Callable[[aiocoap.Message], Subject]


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """One resource at one path: method → action, action → the lowest role that may, and request →
    attributes for conditions."""

    path: str
    resource: interfaces.Resource
    actions: Mapping[str, str]
    least_role: Mapping[str, str] = field(default_factory=dict)
    attributes: Callable[[aiocoap.Message], Mapping[str, str]] | None = None

    @property
    def segments(self) -> tuple[str, ...]:
        """The path as CoAP has it."""
        return tuple(part for part in self.path.split("/") if part)

    def roles(self) -> dict[str, str]:
        """Action → lowest role, with the defaults."""
        reading = {action for method, action in self.actions.items() if method == "GET"}
        return {
            action: self.least_role.get(action, "guest" if action in reading else "user")
            for action in self.actions.values()
        }


def load(
    modules: Iterable[str], folder: Path, board: Board, *, installed: bool = True
) -> list[ResourceSpec]:
    """What the modules of the configuration and the installed ones offer. Raises `ModuleError`."""
    found: dict[tuple[str, ...], tuple[str, ResourceSpec]] = {}
    for name, function in _functions(modules, folder, installed=installed):
        for one in _called(name, function, board):
            if one.segments in found:
                other = found[one.segments][0]
                raise _broken(name, f"{one.path} is taken by the module {other}")
            found[one.segments] = (name, one)
    return [one for _, one in found.values()]


def _functions(
    modules: Iterable[str], folder: Path, *, installed: bool
) -> Iterable[tuple[str, Any]]:
    if folder.is_dir():
        _check_folder(folder)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    for name in modules:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever a module does when it is imported
            raise _broken(name, f"{type(error).__name__}: {error}") from error
        yield name, getattr(module, "resources", None)
    for entry in entry_points(group=GROUP) if installed else ():
        try:
            yield entry.name, entry.load()
        except Exception as error:
            raise _broken(entry.name, f"{type(error).__name__}: {error}") from error


def _check_folder(folder: Path) -> None:
    """Everything that an import might open has to be a regular file: a FIFO would make the daemon
    wait for ever. Raises `ModuleError`."""
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(_IMPORTED) and not path.is_dir() and not path.is_file():
            raise ModuleError(
                f"{path} is not a regular file, so nothing in {folder} can be loaded",
                advice="Remove it.",
            )


def _called(name: str, function: Any, board: Board) -> list[ResourceSpec]:
    if not callable(function):
        raise _broken(name, "it has no function resources(board)")
    try:
        found = list(function(board))
    except Exception as error:
        raise _broken(name, f"{type(error).__name__}: {error}") from error
    for one in found:
        _check(name, one)
    return found


def _check(name: str, one: object) -> None:
    if not isinstance(one, ResourceSpec):
        raise _broken(name, f"resources() gave {type(one).__name__}, not ResourceSpec")
    if not isinstance(one.resource, interfaces.Resource):
        raise _broken(name, f"{one.path} is not an aiocoap resource")
    if not one.segments or one.segments[0] in _OURS:
        raise _broken(name, f"the path {one.path!r} belongs to handfast")
    if not one.actions:
        raise _broken(name, f"{one.path} has no actions, so nobody could reach it")
    if one.attributes is not None and not callable(one.attributes):
        raise _broken(name, f"the attributes of {one.path} are no function of the request")
    if unknown := set(one.least_role) - set(one.actions.values()):
        raise _broken(name, f"least_role names {min(unknown)}, which no method asks for")
    try:
        Access(app_actions=one.roles())
    except IamError as error:
        raise _broken(name, f"{error} {error.advice}".strip()) from error


def _broken(name: str, why: str) -> ModuleError:
    return ModuleError(
        f"the resources of the module {name!r} cannot be used: {why}",
        advice="Repair it, or take it out of [resources] modules.",
    )
