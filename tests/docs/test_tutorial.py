"""Every command of docs/tutorial.md runs, in order, and prints what the page shows."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_readme import missing
from tests.kit.process import Program, environment
from tests.kit.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?```(\w+)\n(.*?)```\n", re.DOTALL)
CODE = re.compile(r"\b\d{4}-\d{4}\b")
RUN = "handfast-device --home board run\n"
FREE_PORTS = "[network]\nport = 0\npairing_port = 0\n"  # the page uses the standard ports


class Reader:
    """A person who follows the page with two terminals, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = environment() | {"LAMP_MODULE": str(ROOT / "examples" / "lamp.py")}
        self._env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), self._env["PATH"]))
        self._exports = ""
        self._device: Program | None = None

    def run_device(self, script: str) -> str:
        """Restart the device with a block of the first terminal; return what it shows."""
        self.stop_device()
        assert script.endswith(RUN)
        self.shell(script.removesuffix(RUN))
        (self._folder / "board" / "device.d" / "z-test.toml").write_text(FREE_PORTS)
        argv = ["sh", "-c", f"cd {self._folder} && exec {RUN}"]
        self._device = Program(argv, self._env, terminal=True)
        self._device.until("ready\n", on="screen")
        if "window       open" in self._device.output("screen"):
            self._device.until("attempt)", on="screen")
        return self._device.output("screen")

    def shell(self, script: str) -> str:
        """Run a block of the second terminal; return its output."""
        self._exports += "".join(re.findall(r"^export .*\n", script, re.MULTILINE))
        done = subprocess.run(
            ["sh", "-c", self._exports + script.replace("/tmp/lamp.py", "$LAMP_MODULE")],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return done.stdout

    def stop_device(self) -> None:
        if self._device is not None:
            self._device.send(signal.SIGINT)
            self._device.end(code=0)
            self._device.close()
            self._device = None


def test_the_tutorial_prints_what_it_shows(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    output = code = ""
    compared = 0
    try:
        for mark, language, text in BLOCK.findall(PAGE):
            match language, mark:
                case "sh", "first terminal":
                    output = reader.run_device(text)
                    if shown := CODE.search(output):
                        code = shown[0]
                case "sh", "":
                    output = reader.shell(CODE.sub(code, text))
                case "python", name:
                    (tmp_path / name).write_text(text)
                case "text", "":
                    assert missing(text, output) == [], output
                    compared += 1
                case other:
                    raise AssertionError(other)
    finally:
        reader.stop_device()
    assert compared == len(re.findall(r"^```text$", PAGE, re.MULTILINE)) > 5
