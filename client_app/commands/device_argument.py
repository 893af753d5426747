"""The argument DEVICE of verbs; it can be left out if only one device is paired."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import click

from client_app.commands.invocation import Invocation
from client_app.home import Home

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., object] | click.Command)
ONLY_DEVICE: Final = ""
"""Stands for DEVICE if it is left out."""


def family_of_device(function: F) -> F:
    """DEVICE before the verb; stored in `Invocation.device`."""

    def store(ctx: click.Context, _param: click.Parameter, value: str) -> None:
        ctx.ensure_object(Invocation).device = value or ONLY_DEVICE

    return click.argument(
        "device",
        metavar="DEVICE",
        required=False,
        expose_value=False,
        callback=store,
        shell_complete=known_aliases,
    )(function)


class DeviceArgument(click.Argument):
    """DEVICE, which can be left out if only one device is paired.

    `is_next` tells whether a single word is the argument behind DEVICE and not DEVICE itself.
    """

    is_next: Callable[[str], bool] = staticmethod(lambda _word: False)


def device_argument(function: F) -> F:
    """DEVICE: the alias or the ID of a paired device."""
    return click.argument("device", metavar="DEVICE", shell_complete=known_aliases)(function)


def optional_device(is_next: Callable[[str], bool] = lambda _word: False) -> Callable[[F], F]:
    """DEVICE, which can be left out if only one device is paired; see `DeviceArgument`."""

    def resolve(ctx: click.Context, _param: click.Parameter, value: str) -> str:
        if value or ctx.resilient_parsing:
            return value
        return ctx.ensure_object(Invocation).only_device()

    def add(function: F) -> F:
        found = click.argument(
            "device",
            cls=_argument_before(is_next),
            metavar="[DEVICE]",
            required=False,
            callback=resolve,
            shell_complete=known_aliases,
        )
        return found(function)

    return add


def _argument_before(is_next: Callable[[str], bool]) -> type[DeviceArgument]:
    return type("DeviceArgument", (DeviceArgument,), {"is_next": staticmethod(is_next)})


def is_path(word: str) -> bool:
    """Whether a word is a path, which begins with `/`."""
    return word.startswith("/")


def is_action(word: str) -> bool:
    """Whether a word is an action, as in `Hello:Get`."""
    return ":" in word


def is_anything(_word: str) -> bool:
    """Whether a word can be a name: always."""
    return True


def known_aliases(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Shell completion of aliases; an error gives no completions."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only completion needs it

    from peer.terminal.text import on_one_line  # noqa: PLC0415 - as above

    invocation = ctx.find_object(Invocation)
    home = invocation.home if invocation else Home.at()
    try:
        from client_app.known_devices import DeviceBook  # noqa: PLC0415 - see above

        found = DeviceBook(home.devices).all()
    except Exception:
        return []
    return [
        CompletionItem(one.alias, help=on_one_line(one.name))
        for one in found
        if one.alias.startswith(incomplete)
    ]
