"""`handfast` has every name that a script needs, and imports each on first use."""

from __future__ import annotations

import ast
import importlib
import inspect
import pydoc
import subprocess
import sys
import typing
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest

import client_app.errors
import client_app.sync
import handfast
import handfast.sync
import peer.errors
from peer.errors import PeerError

SOURCE = Path(str(handfast.__file__)).read_text()
FACES = pytest.mark.parametrize("face", [handfast, handfast.sync], ids=lambda face: face.__name__)
CLASSES = ("Client", "Device", "Administration")


def run(script: str, *, expected: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done
    return done


def public_methods(owner: type) -> dict[str, object]:
    return {
        name: member
        for name, member in inspect.getmembers(owner, callable)
        if not name.startswith("_") and not isinstance(member, type)
    }


def test_type_checkers_see_the_names_that_exist() -> None:
    (block,) = [one for one in ast.parse(SOURCE).body if isinstance(one, ast.If)]
    imports = [one for one in block.body if isinstance(one, ast.ImportFrom)]
    seen = [alias.name for one in imports for alias in one.names]
    assert sorted(seen) == sorted(handfast.__all__) == sorted(set(handfast.__all__))
    for name in handfast.__all__:
        assert getattr(handfast, name) is not None
        assert name in dir(handfast)
    assert {name for name in dir(handfast) if name[0] != "_"} == {*handfast.__all__}


def test_an_unknown_name_is_an_attribute_error_with_a_suggestion() -> None:
    script = "import handfast; handfast.NotPaird"
    errors = run(script, expected=1).stderr
    assert "AttributeError: module 'handfast' has no attribute 'NotPaird'" in errors
    assert "Did you mean: 'NotPaired'?" in errors
    with pytest.raises(ImportError, match="cannot import name 'Clinet'"):
        exec("from handfast import Clinet")


def test_every_error_has_a_name_here() -> None:
    for module in (peer.errors, client_app.errors):
        for name, member in vars(module).items():
            if isinstance(member, type) and issubclass(member, PeerError):
                assert getattr(handfast, name) is member


def test_the_blocking_interface_has_the_methods_of_the_asynchronous_one() -> None:
    for name in CLASSES:
        ours, theirs = getattr(handfast, name), getattr(handfast.sync, name)
        missing = public_methods(ours).keys() - public_methods(theirs).keys()
        # One is for `handfast doctor`, the other returns objects of an event loop.
        assert missing <= {"connect_at", "stream"}, name


def named_types(hint: object) -> set[type]:
    """The classes that a type hint names."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return {hint}
    origin = typing.get_origin(hint)
    found = {origin} if isinstance(origin, type) else set()
    for part in typing.get_args(hint):
        for one in part if isinstance(part, list) else [part]:
            found |= named_types(one)
    return found


def names_for_type_checkers(module: str) -> dict[str, object]:
    """The names that a module imports below `if TYPE_CHECKING`."""
    source = inspect.getsource(sys.modules[module])
    return {
        alias.name: getattr(importlib.import_module(node.module or ""), alias.name)
        for block in ast.walk(ast.parse(source))
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@FACES
@pytest.mark.parametrize("owner", CLASSES)
def test_values_of_the_interface_have_a_name_here(face: ModuleType, owner: str) -> None:
    """A script can annotate what a method takes and returns, without another import."""
    internal = {"CoapsConnection", "Net", "Address", "Limits", "BlockingIterator"}
    for name, method in public_methods(getattr(face, owner)).items():
        wrapped = inspect.unwrap(typing.cast("typing.Any", method))
        names = names_for_type_checkers(wrapped.__module__)
        for hint in typing.get_type_hints(wrapped, localns=names).values():
            for one in named_types(hint):
                ours = one.__module__.partition(".")[0] in {"client_app", "peer"}
                if ours and one.__name__ not in internal:
                    found = getattr(handfast, one.__name__, None) or getattr(face, one.__name__)
                    assert found is not None, (name, one)


@FACES
@pytest.mark.parametrize("owner", CLASSES)
def test_help_shows_the_signature_of_every_method(face: ModuleType, owner: str) -> None:
    for name, method in public_methods(getattr(face, owner)).items():
        text = pydoc.plain(pydoc.render_doc(method))
        head = text.split("\n\n")[1]
        assert f"{name}(self" in head, head
        assert "*args" not in head
        assert inspect.getdoc(method), name
        is_async = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
        assert head.startswith("async ") is is_async
        assert not (is_async and face is handfast.sync)


def test_an_import_of_handfast_loads_no_library() -> None:
    script = (
        "import sys; before = set(sys.modules); import handfast\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = set(run(script).stdout.split())
    assert loaded - sys.stdlib_module_names == {"handfast"}
    assert not loaded & {"asyncio", "socket", "ssl", "pathlib", "inspect", "typing", "re"}


def test_constants_say_what_they_are() -> None:
    assert isinstance(handfast.UNCHANGED, Enum)
    assert repr(handfast.UNCHANGED) == "UNCHANGED"
