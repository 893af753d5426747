"""Resources of applications: how a module of your own adds CoAP resources to the device.

A module that the configuration names (`[resources] modules = ["my_board.lamp"]`), or an entry point
of the group `handfast.resources`, has one function:

    from device_app.resource_spec import Board, ResourceSpec

    def resources(board: Board):
        yield ResourceSpec(
            "/lamp",
            Lamp(),  # any aiocoap.resource.Resource
            actions={"GET": "Lamp:Read", "PUT": "Lamp:Set"},
            least_role={"Lamp:Set": "user"},
            attributes=lambda request: {"Lamp:Room": "hall"},
        )

docs/howto/resources.md explains it. A module that cannot be used stops the start with an error that
names it: a device without its lamp would be harder to find out about.
"""

import importlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import all_suffixes
from importlib.metadata import entry_points
from pathlib import Path

import aiocoap
from aiocoap import interfaces

from device_app.errors import ModuleError
from device_app.limits import PATH_SEGMENT_BYTES
from iam.access import Access
from iam.errors import IamError
from iam.model import Subject

GROUP = "handfast.resources"
#: First path segments of the device's own resources.
RESERVED_SEGMENTS = frozenset({"iam", "pair", "hello", "board", ".well-known", "events"})
_IMPORTED_SUFFIXES = tuple(all_suffixes())


@dataclass(frozen=True, slots=True)
class Board:
    """The device, for an application's module.

    Attributes:
        name: what people call the device.
        device_id: its short ID.
        subject: returns the user (and key) that sent a request.
    """

    name: str
    device_id: str
    subject: Callable[[aiocoap.Message], Subject]


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """One resource of an application, at one path.

    Attributes:
        path: where it is served, such as `/lamp`.
        resource: answers the requests; with Observe if it is an `ObservableResource`.
        actions: method → the action that it needs. A method without one is answered with 4.05.
        least_role: action → the lowest role that may perform it. The default is `guest` for the
            action of GET, and `user` for every other.
        attributes: returns what the conditions of policies can compare, from the path, the query
            and the sender of a request. It is called for every request and notification of a user,
            before the body is read. Attributes of handfast's own modules (`Connection`, `IAM`,
            `Clock`) are left out.
        options: the critical options that the resource handles itself: the numbers of If-Match (1)
            and If-None-Match (5), or of the application's own. A request with a critical option
            that is not handled is answered with 4.02 (RFC 7252 §5.4.1). If the resource has a GET,
            handfast handles If-Match and If-None-Match unless they are named here.
    """

    path: str
    resource: interfaces.Resource
    actions: Mapping[str, str]
    least_role: Mapping[str, str] = field(default_factory=dict)
    attributes: Callable[[aiocoap.Message], Mapping[str, str]] | None = None
    options: Collection[int] = ()

    @property
    def segments(self) -> tuple[str, ...]:
        """The path in CoAP's form."""
        return tuple(part for part in self.path.split("/") if part)

    def roles(self) -> dict[str, str]:
        """Return the lowest role of every action."""
        reading = {action for method, action in self.actions.items() if method == "GET"}
        return {
            action: self.least_role.get(action, "guest" if action in reading else "user")
            for action in self.actions.values()
        }


def load(
    modules: Iterable[str], folder: Path, board: Board, *, installed: bool = True
) -> list[ResourceSpec]:
    """Return the resources of all modules.

    Args:
        modules: names of the modules in the configuration.
        folder: where they can be, beside the installed packages.
        board: handed to each module.
        installed: also load the entry points of installed packages.

    Raises:
        ModuleError: a module cannot be used.
    """
    found: dict[tuple[str, ...], tuple[str, ResourceSpec]] = {}
    for name, function in _functions(modules, folder, installed=installed):
        for spec in _called(name, function, board):
            if spec.segments in found:
                other = found[spec.segments][0]
                raise _unusable(name, f"the module {other} serves {spec.path} already")
            found[spec.segments] = (name, spec)
    return [spec for _, spec in found.values()]


def _functions(
    modules: Iterable[str], folder: Path, *, installed: bool
) -> Iterable[tuple[str, object]]:
    if folder.is_dir():
        _check_folder(folder)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    for name in modules:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # importing a module runs its code
            raise _unusable(name, f"{type(error).__name__}: {error}") from error
        yield name, getattr(module, "resources", None)
    for entry in entry_points(group=GROUP) if installed else ():
        try:
            yield entry.name, entry.load()
        except Exception as error:
            raise _unusable(entry.name, f"{type(error).__name__}: {error}") from error


def _check_folder(folder: Path) -> None:
    """Reject a folder in which an import could open anything but a regular file.

    A FIFO would block the daemon indefinitely.
    """
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # a hidden name is no module; Emacs makes `.#lamp.py`, a link to nothing
        if path.name.endswith(_IMPORTED_SUFFIXES) and not path.is_dir() and not path.is_file():
            raise ModuleError(
                f"{path} is not a regular file, so nothing in {folder} can be loaded",
                advice="Remove it.",
            )


def _called(name: str, function: object, board: Board) -> list[ResourceSpec]:
    if not callable(function):
        raise _unusable(name, "it has no function resources(board)")
    try:
        found = list(function(board))
    except Exception as error:
        raise _unusable(name, f"{type(error).__name__}: {error}") from error
    for spec in found:
        check_spec(name, spec)
    return found


def check_spec(name: str, spec: object) -> None:
    """Check one value that `resources()` of a module returned. Raises `ModuleError`."""
    if not isinstance(spec, ResourceSpec):
        raise _unusable(name, f"resources() returned {type(spec).__name__}, not ResourceSpec")
    if not isinstance(spec.resource, interfaces.Resource):
        raise _unusable(name, f"{spec.path} is not an aiocoap resource")
    if not spec.segments or spec.segments[0] in RESERVED_SEGMENTS:
        raise _unusable(name, f"the path {spec.path!r} belongs to handfast")
    if any(part in (".", "..") or not _fits(part) for part in spec.segments):
        raise _unusable(name, f"no request can name the path {spec.path!r}")
    if not all(map(_is_critical, spec.options)):
        raise _unusable(name, f"the options of {spec.path} are not numbers of critical options")
    if not spec.actions:
        raise _unusable(name, f"{spec.path} has no actions, so no user could reach it")
    if spec.attributes is not None and not callable(spec.attributes):
        raise _unusable(name, f"the attributes of {spec.path} are not a function of the request")
    if unknown := set(spec.least_role) - set(spec.actions.values()):
        raise _unusable(name, f"least_role names {min(unknown)}, which no method needs")
    try:
        Access(app_actions=spec.roles())
    except IamError as error:
        raise _unusable(name, f"{error} {error.advice}".strip()) from error


def _is_critical(number: object) -> bool:
    return isinstance(number, int) and number & 1 == 1


def _fits(segment: str) -> bool:
    """Return whether a request can have this segment (RFC 7252 §5.10.1, table 4)."""
    return len(segment.encode(errors="surrogatepass")) <= PATH_SEGMENT_BYTES and not any(
        "\ud800" <= character <= "\udfff" for character in segment
    )


def _unusable(name: str, reason: str) -> ModuleError:
    return ModuleError(
        f"the resources of the module {name!r} cannot be used: {reason}",
        advice="Correct the module, or remove it from [resources] modules.",
    )
