"""Constructors finish their objects: no code assigns an attribute of another object.

An attribute that is assigned from outside is missing until then, and no type checker finds the
code that reads it too early.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import device_app

ROOT = Path(device_app.__file__).parent
#: (file, assignment target): the reason why it is allowed.
ALLOWED = {
    ("commands/common.py", "ctx.obj"): "how click passes an object to the commands below",
    ("commands/common.py", "error.advice"): "an error keeps its class; its words become the user's",
    ("commands/common.py", "error.args"): "as above",
    ("console/control_server.py", "server._server"): "ControlServer.start finishes its own object",
    ("process/logs.py", "record.msg"): "how a filter of the standard library changes a record",
}


def targets(tree: ast.AST) -> Iterator[str]:
    """Every assigned attribute, except those of `self`."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and not (isinstance(node.value, ast.Name) and node.value.id == "self")
        ):
            yield ast.unparse(node)


def test_no_object_assigns_attributes_of_another() -> None:
    found = {
        (str(path.relative_to(ROOT)), target)
        for path in ROOT.rglob("*.py")
        for target in targets(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == ALLOWED.keys()


def test_every_form_of_assignment_is_found() -> None:
    """Each form of assignment is found, and assignments to `self` are not."""
    code = """
a.b = 1
a.b.c, (d.e, self.f) = 1, (2, 3)
a.n += 1
a.t: int = 1
with x as a.w: pass
for a.i in x: pass
self.g = 1
self.h.i = 1
"""
    assert set(targets(ast.parse(code))) == {
        "a.b", "a.b.c", "d.e", "a.n", "a.t", "a.w", "a.i", "self.h.i"
    }  # fmt: skip
