"""The Python of README and docs passes `mypy --strict` as a user runs it; a typing error does not.

mypy reads the installed wheel: only what has a `py.typed` there has types.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.kit.distribution import ROOT, TEST_SECONDS

if TYPE_CHECKING:
    from tests.kit.distribution import Environment

pytestmark = pytest.mark.slow

PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*.md")]
    if "```python\n" in page.read_text()
)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# aiocoap has no types: a resource derives from Any. aiomqtt is not a dependency.
CONFIGURATION = """
[mypy]
strict = true
disallow_subclassing_any = false
[mypy-aiocoap.*,aiomqtt.*]
ignore_missing_imports = true
"""
BLOCKING = "from handfast.sync import Client\nkitchen = Client().connect('kitchen')\n"
ASYNC = "from handfast import Client\nasync def main() -> None:\n    "
MISTAKES = {
    "from handfast import Clinet": "has no attribute",
    "from handfast import NotPaird": "has no attribute",
    "from handfast.sync import Clinet": "has no attribute",
    "from handfast.snyc import Client": "handfast.snyc",
    "from client_app import Clinet": "has no attribute",
    "from device_app.exposed import Expose": "has no attribute",
    "import handfast\nhandfast.Clinet()": "has no attribute",
    "import handfast\nhandfast.sync.Clinet()": "has no attribute",
    BLOCKING + "kitchen.gte('/')": "has no attribute",
    BLOCKING + "kitchen.get(1)": "incompatible type",
    BLOCKING + "kitchen.get('/', acept=None)": "Unexpected keyword",
    BLOCKING + "kitchen.get()": "Too few arguments",
    BLOCKING + "kitchen.get('/').txt": "has no attribute",
    BLOCKING + "kitchen.iam.add_user('anna', roll='user')": "Unexpected keyword",
    ASYNC + "(await Client().connect('kitchen')).gte": "has no attribute",
    ASYNC + "(await Client().connect('kitchen')).get('/').text": "has no attribute",
}
TYPES = {
    "handfast.sync.Client().connect('x')": "client_app.sync.Device",
    "handfast.sync.Client().connect('x').get('/').text": "str",
    "handfast.sync.Client().connect('x').get('/').value": "Any",
    "handfast.sync.Client().connect('x').iam.users()": "tuple[client_app.models.User, ...]",
    "handfast.sync.Client().discover()": "list[peer.net.adverts.Advert]",
    "handfast.sync.Client().pair('x').device.fingerprint": "peer.fingerprint.Fingerprint",
    "[one.text for one in handfast.sync.Client().connect('x').observe('/')]": "list[str]",
    "handfast.NotPaired('x').advice": "str",
    "handfast.Client().devices": "list[client_app.known_device.KnownDevice]",
}


@dataclass(frozen=True)
class Checked:
    """The messages of mypy, by the name of the file that they are about."""

    output: str

    def messages(self, name: str) -> list[str]:
        return re.findall(rf"^{name}\.py:.*", self.output, re.MULTILINE)


def snippets() -> dict[str, str]:
    """Each Python block of a page, by a name for its file; and each example."""
    found = {}
    for page in PAGES:
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        for number, text in enumerate(blocks, 1):
            found[f"{page.stem.lower()}_{number}"] = text
    return found | {f"example_{file.stem}": file.read_text() for file in EXAMPLES}


SNIPPETS = snippets()


@pytest.fixture(scope="module")
def checked(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """One run of mypy over all files, each of them a module of its own."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "mypy.ini").write_text(CONFIGURATION)
    files = {
        **SNIPPETS,
        **{f"mistake_{number}": text for number, text in enumerate(MISTAKES)},
        "revealed": "import handfast\n" + "".join(f"reveal_type({text})\n" for text in TYPES),
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    options = ("--no-error-summary", "--cache-dir", str(folder))
    run = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--python-executable", str(installed.python)),
            *options,
            *(f"{name}.py" for name in files),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TEST_SECONDS,
        check=False,
    )
    assert not run.stderr
    return Checked(run.stdout)


@pytest.mark.parametrize("name", SNIPPETS)
def test_the_python_of_the_pages_and_examples_passes(checked: Checked, name: str) -> None:
    assert checked.messages(name) == []


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[*MISTAKES])
def test_a_typing_error_is_found(checked: Checked, number: int) -> None:
    assert [*MISTAKES.values()][number] in "\n".join(checked.messages(f"mistake_{number}"))


def test_values_have_types(checked: Checked) -> None:
    revealed = re.findall(r'Revealed type is "(.*)"', checked.output)
    assert [one.replace("builtins.", "") for one in revealed] == [*TYPES.values()]


def test_the_pages_with_python_are_found() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "docs/tutorial.md", "docs/howto/scripts.md"} <= names
