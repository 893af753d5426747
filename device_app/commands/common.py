"""What all verbs share: where the files are, how to talk, and errors as words and exit codes."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from device_app.console import offline
from device_app.console.control_client import call
from device_app.errors import AppError, Exit, NoDaemon, exit_code
from device_app.paths import Paths
from device_app.terminal import render
from iam.errors import IamError
from peer.errors import PeerError


@dataclass(slots=True)
class Talk:
    """How this call talks, and where its files are."""

    places: Paths
    as_json: bool
    verbosity: int

    def ask(self, verb: str, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the running daemon. Raises `NoDaemon`."""
        return asyncio.run(call(self.places.socket, verb, args or {}))

    def do(self, verb: str, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the running daemon, where it takes effect at once; or do it on the files alone."""
        try:
            return self.ask(verb, args)
        except NoDaemon:
            return offline.do(self.places, verb, args or {})

    def now(self) -> float:
        """The device's time, which users' limits go by: seconds since 1970."""
        return float(self.do("clock")["now"])

    def show(self, value: Mapping[str, Any], lines: Sequence[str]) -> None:
        """The same answer for programs or for people."""
        if self.as_json:
            render.data(value)
        else:
            render.lines(lines)

    def say(self, text: str) -> None:
        """A word to the person on stderr, unless they want none."""
        if self.verbosity >= 0:
            render.talk(text)


class Group(click.Group):
    """The outermost group: our errors become words on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb that was asked for."""
        try:
            return super().invoke(ctx)
        except (AppError, PeerError, IamError) as error:
            render.failure(str(error), error.advice)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            render.talk("interrupted")
            ctx.exit(Exit.INTERRUPTED)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that stand before a verb as well as after it."""
    for option in (
        click.option("--home", type=click.Path(path_type=Path), help="All files in this folder."),
        click.option("--json", "as_json", is_flag=True, help="JSON on stdout."),
        click.option("-q", "--quiet", is_flag=True, help="Errors only."),
        click.option("-v", "--verbose", count=True, help="More; twice for everything."),
    ):
        command = option(command)
    return command


class _TakesCommon:
    """Makes a click command take the common options in its own place, too."""

    params: list[click.Parameter]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        common(self)  # type: ignore[arg-type]  # click adds to a command that exists

    def invoke(self, ctx: click.Context) -> Any:
        """Take the common options off, and run."""
        note_common(ctx, **{name: ctx.params.pop(name) for name in _COMMON})
        return super().invoke(ctx)  # type: ignore[misc]  # of the click class beside this one


class Verb(_TakesCommon, click.Command):
    """One verb."""


class Verbs(_TakesCommon, click.Group):
    """A family of verbs."""


_COMMON = ("home", "as_json", "quiet", "verbose")


def note_common(
    ctx: click.Context, *, home: Path | None, as_json: bool, quiet: bool, verbose: int
) -> None:
    """Merge what stood here with what stood before the verb."""
    before: Talk | None = ctx.find_object(Talk)
    verbosity = -1 if quiet else verbose
    if before is None or home is not None:
        places = Paths.of(home, os.environ, root=os.geteuid() == 0)
    else:
        places = before.places
    if before is not None:
        as_json = as_json or before.as_json
        verbosity = verbosity or before.verbosity
    ctx.obj = Talk(places, as_json, verbosity)
