"""The command line `handfast` in this process."""

from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from client_app.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    raw: bytes


class Shell:
    """The command line in this process, with one home and a LAN that a test provides."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, stdin: bytes | None = None) -> Outcome:
        result = CliRunner().invoke(main, ["--home", str(self.home), *words], input=stdin)
        return Outcome(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)
