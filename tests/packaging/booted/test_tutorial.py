"""The marked commands of docs/board.md run on a booted Debian and on a host beside it."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.kit.booted import Container
from tests.kit.distribution import ROOT
from tests.kit.installed import UNIT, Suite, make_cable_local

pytestmark = [
    pytest.mark.booted,
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("systemd-nspawn", "nsenter", "unshare", "setpriv", "dpkg-deb"),
]
PAGE = ROOT / "docs" / "board.md"
MARKED = re.compile(
    r"<!-- ([^\n]*?) by tests/packaging/booted/test_tutorial\.py -->\n```\w+\n(.*?)```", re.DOTALL
)
CODE = re.compile(r"\d{4}-\d{4}")
DROP_INS = f"/etc/systemd/system/{UNIT}.d"


class Tutorial:
    """A board without handfast, and the laptop of a reader who follows the page."""

    def __init__(self, board: Container, laptop: Path) -> None:
        self.board = board
        self.laptop = laptop
        self.code = ""
        laptop.mkdir()

    def on_board(self, script: str) -> None:
        """Run a block as root, in the folder with the packages."""
        shown = self.board.shell("cd /srv/packages\n" + script.replace("sudo ", ""))
        if found := CODE.search(shown):
            self.code = found[0]

    def on_laptop(self, script: str) -> None:
        """Run a block with the code that the board has shown."""
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        variables = [f"PATH={path}", f"HANDFAST_HOME={self.laptop}"]
        script = CODE.sub(self.code, script)
        self.board.from_host("env", *variables, "sh", "-euc", script).end(code=0)


@pytest.fixture
def tutorial(suite: Suite, tmp_path: Path) -> Iterator[Tutorial]:
    with closing(Container(tmp_path / "board", [suite.tree], hostname="kitchen")) as board:
        board.boot()
        make_cable_local(board)
        board.shell("mkdir /srv/packages")
        for package in suite.packages:
            board.put(package, "/srv/packages")
        yield Tutorial(board, tmp_path / "laptop")


def test_the_marked_blocks_of_the_tutorial_run(tutorial: Tutorial) -> None:
    text = PAGE.read_text()
    blocks = MARKED.findall(text)
    assert len(blocks) == text.count("tests/packaging/booted/test_tutorial.py -->") > 5
    drop_ins = []
    for mark, block in blocks:
        match mark.split():
            case ["run", "on", "the", "board"]:
                tutorial.on_board(block)
            case ["run", "on", "the", "laptop", "after", "a", "power", "cut"]:
                tutorial.board.pull_plug()
                tutorial.board.boot()
                tutorial.on_laptop(block)
            case ["run", "on", "the", "laptop"]:
                tutorial.on_laptop(block)
            case [name, "on", "the", "board"]:
                drop_ins.append(name)
                script = f"mkdir -p {DROP_INS}; cat > {DROP_INS}/{name} <<'END'\n{block}END\n"
                tutorial.board.shell(script)
            case _:
                raise AssertionError(mark)
    check_drop_ins(tutorial, drop_ins)


def check_drop_ins(tutorial: Tutorial, names: list[str]) -> None:
    """The service starts with the drop-ins of the page, and has what they give."""
    board = tutorial.board
    assert names == ["serial.conf", "pictures.conf", "readings.conf"]
    board.shell(
        "install -d -o handfast-device -g handfast /srv/pictures\n"
        "mkdir -p /tmp/readings; echo 21.5 > /tmp/readings/hall\n"
        f"systemctl daemon-reload; systemctl restart {UNIT}"
    )
    paths = board.property_of(UNIT, "DropInPaths").split()
    assert [Path(path).name for path in paths] == sorted(names)
    inside = ["nsenter", "-t", board.property_of(UNIT, "MainPID"), "-m", "sh", "-euc"]
    user = "setpriv --reuid=handfast-device --regid=handfast --clear-groups"
    board.run(*inside, f"{user} touch /srv/pictures/1.jpg; {user} cat /tmp/readings/hall")
    board.run(*inside, "touch /srv/other", code=1)
    board.run(*inside, "touch /tmp/readings/other", code=1)
    tutorial.on_laptop("handfast get kitchen /hello")
