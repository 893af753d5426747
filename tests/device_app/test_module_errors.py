"""A module that cannot be used: the error has words, the module, the file and the line."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from device_app.errors import ModuleError
from device_app.modules import loading
from device_app.resource_spec import Board
from iam.model import Subject

pytestmark = pytest.mark.usefixtures("clean_imports")

HEAD = """from aiocoap.resource import Resource
from device_app.resource_spec import ResourceSpec
"""
LAMP = (
    HEAD
    + """
class Lamp(Resource):
    async def render_get(self, request):
        return "on"

    async def render_put(self, request): ...

def resources(board):
    yield ResourceSpec("/lamp", Lamp(), actions={"GET": "Lamp:Read", "PUT": "Lamp:Set"})
"""
)


def unknown_sender(_request: object) -> Subject:
    raise LookupError


def load(folder: Path, name: str, files: Mapping[str, str]) -> list[loading.Loaded]:
    """Write the files and load one module."""
    folder.mkdir(exist_ok=True)
    for file, text in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    board = Board("kitchen", "ABCDEFGH", unknown_sender)
    return loading.load([name], folder, board, installed=False)


def lamp(old: str, new: str) -> str:
    assert old in LAMP
    return LAMP.replace(old, new)


CASES = {
    # what the module's file has → what the error has, beside the name
    "an error at import": ("x = 1\n\ny = x / 0\n", ["my_lamp.py, line 3", "ZeroDivisionError"]),
    "a syntax error": ("def broken(:\n", ["my_lamp.py, line 1", "SyntaxError"]),
    "wrong indentation": ("def f():\nreturn 1\n", ["my_lamp.py, line 2", "IndentationError"]),
    "an undefined name": ("\nprint(nme)\n", ["my_lamp.py, line 2", "'nme' is not defined"]),
    "sys.exit at import": ("import sys\nsys.exit(3)\n", ["my_lamp.py, line 2", "ends the program"]),
    "exit at import": ("raise SystemExit\n", ["my_lamp.py, line 1", "ends the program"]),
    "a package that is not installed": (
        "import os\nimport gpiozero_of_nobody\n",
        ["my_lamp.py, line 2", "no module 'gpiozero_of_nobody'", "install it for"],
    ),
    "a name that a module does not have": (
        "from aiocoap.resource import Resurce\n",
        ["my_lamp.py, line 1", "Resurce"],
    ),
    "asyncio.run at import": (
        "import asyncio\n\nasync def main(): raise OSError('no bus')\n\nasyncio.run(main())\n",
        ["my_lamp.py, line 3", "no bus"],
    ),
    "no function": ("x = 1\n", ["no function resources(board)", "my_lamp.py"]),
    "a misspelt function": ("def resource(board): ...\n", ["is it 'resource'?"]),
    "no parameter": ("def resources(): return []\n", ["resources()", "with the board"]),
    "two parameters": ("def resources(board, led): return []\n", ["'led'"]),
    "an async function": ("async def resources(board): return []\n", ["is async"]),
    "a list": ("resources = []\n", ["list, not a function"]),
    "nothing returned": (
        HEAD + "def resources(board):\n    ResourceSpec('/x', Resource(), {})\n",
        ["returned nothing"],
    ),
    "an error in the function": (
        "def resources(board):\n    import os\n    os.stat('/nothing/there')\n",
        ["my_lamp.py, line 3", "/nothing/there"],
    ),
    "sys.exit in the function": (
        "import sys\ndef resources(board):\n    sys.exit('no LED')\n",
        ["my_lamp.py, line 3", "no LED"],
    ),
    "an error after the first resource": (
        LAMP + "    yield 1 / 0\n",
        ["my_lamp.py, line 12", "ZeroDivisionError"],
    ),
    "a class": (lamp("Lamp(), a", "Lamp, a"), ["the class Lamp; write Lamp()"]),
    "a method in lower case": (lamp('"GET"', '"get"'), ["'get', no CoAP method; write GET"]),
    "a misspelt method": (lamp('"GET"', '"GTE"'), ["'GTE', no CoAP method; is it GET?"]),
    "a method of HTTP": (lamp('"GET"', '"HEAD"'), ["'HEAD', no CoAP method"]),
    "a misspelt handler": (
        lamp("render_put", "rendr_put"),
        ["an action for PUT", "Lamp has no render_put"],
    ),
    "a handler that is named almost right": (
        lamp("render_put", "render_ptu"),
        ["has no render_put; is it render_ptu?"],
    ),
    "a plain handler that waits": (
        """
from device_app.resource_spec import ResourceSpec
from device_app.resources.plain_resource import PlainWrites
class Lamp(PlainWrites):
    async def answer_put(self, write, sender): ...
def resources(board):
    yield ResourceSpec("/lamp", Lamp(), {"PUT": "Lamp:Set"})
""",
        ["/lamp: Lamp.answer_put is async", "write render_put if it waits"],
    ),
    "a handler of another method": (lamp('"PUT"', '"POST"'), ["Lamp has no render_post"]),
    "a handler that is no function": (
        lamp("async def render_put(self, request): ...", "render_put = 7"),
        ["Lamp has no render_put"],
    ),
    "actions without methods": (
        lamp('{"GET": "Lamp:Read", "PUT": "Lamp:Set"}', '["Lamp:Read"]'),
        ["not a dict"],
    ),
    "a role that does not exist": (
        lamp('"Lamp:Set"}', '"Lamp:Set"}, least_role={"Lamp:Set": "usr"}'),
        ["usr"],
    ),
    "a misspelt action": (
        lamp('"Lamp:Set"}', '"Lamp:Set"}, least_role={"Lamp:Sett": "user"}'),
        ["Lamp:Sett", "is it Lamp:Set?"],
    ),
    "a path that is no text": (lamp('"/lamp"', "7"), ["the path 7 is not text"]),
    "a misspelt argument": (
        lamp("actions=", "action="),
        ["my_lamp.py, line 11", "unexpected keyword argument 'action'"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_names_the_module_the_file_and_the_line(tmp_path: Path, case: str) -> None:
    text, expected = CASES[case]
    with pytest.raises(ModuleError) as caught:
        load(tmp_path / "modules", "my_lamp", {"my_lamp.py": text})
    message = str(caught.value)
    assert "'my_lamp'" in message
    assert [part for part in expected if part not in message] == []
    assert caught.value.advice


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("my_lamp", {"my_other.py": LAMP}, "no my_lamp.py in"),
        ("my_lmap", {"my_lamp.py": LAMP}, "is it 'my_lamp'?"),
        ("my_board.lamp", {"my_board/__init__.py": ""}, "no my_board.lamp"),
        ("my_lamp.py", {"my_lamp.py": LAMP}, "'my_lamp'"),
        ("modules/my_lamp.py", {"my_lamp.py": LAMP}, "it is a path"),
        ("my-lamp", {"my-lamp.py": LAMP}, "not the name of a Python module"),
        (".my_lamp", {"my_lamp.py": LAMP}, "not the name of a Python module"),
        ("", {"my_lamp.py": LAMP}, "not the name of a Python module"),
        ("random", {"random.py": LAMP}, "has the name of a module of Python"),
        ("my_lamp", {"my_lamp.py": LAMP, "queue.py": ""}, "queue.py has the name of a module"),
        ("my_lamp", {"my_lamp.py": LAMP, "aiocoap.py": ""}, "aiocoap.py has the name"),
        ("my_lamp", {"my_lamp.py": LAMP, "peer/__init__.py": ""}, "a module of handfast"),
        ("random", {"my_lamp.py": LAMP}, "a module of Python"),
        ("device_app", {"my_lamp.py": LAMP}, "a module of handfast"),
        (
            "my_one",
            {"my_one.py": "from my_two import x\n", "my_two.py": "from my_one import y\n"},
            "two modules import each other",
        ),
    ],
)
def test_an_error_about_a_name_says_which_one_is_meant(
    tmp_path: Path, name: str, files: Mapping[str, str], expected: str
) -> None:
    with pytest.raises(ModuleError) as caught:
        load(tmp_path / "modules", name, files)
    assert expected in f"{caught.value} {caught.value.advice}"


def test_an_error_in_a_file_of_the_author_names_that_file(tmp_path: Path) -> None:
    files = {"my_lamp.py": "import my_led\n", "my_led.py": "\n\nimport json\njson.loads('{')\n"}
    with pytest.raises(ModuleError, match=r"my_led\.py, line 4: JSONDecodeError"):
        load(tmp_path / "modules", "my_lamp", files)


@pytest.mark.parametrize(
    "text",
    [
        LAMP,
        lamp("    yield ", "    return "),  # one resource, not in a list
        lamp("async def", "def"),  # plain handlers
        LAMP.replace("board", "_"),
        LAMP + "\ndef main(): ...\n\nif __name__ == '__main__':\n    main()\n",
    ],
)
def test_a_module_that_can_be_used_is_loaded(tmp_path: Path, text: str) -> None:
    (one,) = load(tmp_path / "modules", "my_lamp", {"my_lamp.py": text})
    assert (one.module, one.spec.path, one.warnings) == ("my_lamp", "/lamp", [])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (', "PUT": "Lamp:Set"', "", "Lamp.render_put is never called: `actions` has no PUT"),
        ("render_get", "render_get(self, request): ...\n    def render_gte", "is it render_get?"),
    ],
)
def test_a_handler_that_no_request_reaches_is_a_warning(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    (one,) = load(tmp_path / "modules", "my_lamp", {"my_lamp.py": lamp(old, new)})
    (warning,) = one.warnings
    assert expected in warning


def test_a_warning_names_the_function_that_the_author_wrote(tmp_path: Path) -> None:
    text = """
from device_app.resource_spec import ResourceSpec
from device_app.resources.plain_resource import PlainWrites
class Lamp(PlainWrites):
    def answer_put(self, write, sender): ...
    def answer_post(self, write, sender): ...
def resources(board):
    yield ResourceSpec("/lamp", Lamp(), {"PUT": "Lamp:Set"})
"""
    (one,) = load(tmp_path / "modules", "my_lamp", {"my_lamp.py": text})
    (warning,) = one.warnings
    assert "Lamp.answer_post is never called: `actions` has no POST" in warning


def test_each_module_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    files = {"my_a.py": "1 / 0\n", "my_b.py": LAMP, "my_c.py": LAMP, "my_d.py": "x = 1\n"}
    load(tmp_path, "my_b", files)
    board = Board("kitchen", "ABCDEFGH", unknown_sender)
    names = ["my_a", "my_b", "my_c", "my_d"]
    results = list(loading.load_each(names, tmp_path, board, installed=False))
    assert [isinstance(one, ModuleError) for one in results] == [True, False, True, True]
    assert "the module my_b serves /lamp already" in str(results[2])
