"""The option `--version` of both command lines."""

from collections.abc import Callable
from typing import TypeVar

import click

_CommandT = TypeVar("_CommandT", bound=Callable[..., object] | click.Command)


def package_version(otherwise: str) -> str:
    """Return the version of the installed distribution; a source tree has none."""
    from peer.terminal.installed import VERSION  # noqa: PLC0415 - it is read when it is imported

    return VERSION or otherwise


def version_option(program: str) -> Callable[[_CommandT], _CommandT]:
    """--version: print the version and exit. click's own option reads it at every start."""

    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(f"{program}, version {package_version('(not installed)')}", color=ctx.color)
            ctx.exit()

    return click.option(
        "--version",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show the version and exit.",
    )
