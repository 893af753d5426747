"""The options that all verbs share, and the objects that verbs get from them.

The modules that use the network are slow to import, so they are imported when a verb needs them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import click
from click.shell_completion import CompletionItem

from client_app.home import Home
from client_app.terminal.screen import Screen
from peer.errors import UsageError
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from client_app.client import Client
    from client_app.known_devices import DeviceBook


@dataclass(slots=True)
class Setting:
    """The values of the shared options."""

    screen: Screen
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    folder: str = ""
    interfaces: tuple[str, ...] = ()
    raw: bool = field(default=False)
    device: str = field(default="")
    """The DEVICE argument of a group of verbs."""

    @property
    def home(self) -> Home:
        """The folder of this client's files."""
        return Home.at(self.folder)

    @property
    def book(self) -> "DeviceBook":
        """The file of paired devices; uses no network."""
        from client_app.known_devices import DeviceBook  # noqa: PLC0415 - see above

        return DeviceBook(self.home.devices)

    def client(self) -> "Client":
        """Create a client; use it in `async with`."""
        from client_app.client import Client  # noqa: PLC0415 - see above

        return Client(home=self.home.folder, interfaces=self.interfaces or None)

    async def agreed(self, question: str, *, yes: bool) -> None:
        """Ask for confirmation, unless `--yes` is given.

        Raises `UsageError` without a terminal, `Declined` if the answer is no.
        """
        from client_app.errors import Declined  # noqa: PLC0415 - see above

        if yes:
            return
        if not self.screen.can_ask:
            raise UsageError(
                "this command needs a terminal to ask for confirmation",
                advice="Give --yes to run it without confirmation.",
            )
        if not await self.screen.ask(f"{on_one_line(question)} [y/n]"):
            raise Declined("nothing was changed")


class Verb(click.Command):
    """A command with the shared options and an example in its help.

    Its function returns a value, a coroutine, or an asynchronous iterator of values; `show`, which
    the command line sets, prints them.
    """

    show: ClassVar[Callable[[Setting, object], int]]

    def __init__(self, *args: Any, example: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.example = example
        self.params += everywhere()

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            formatter.write_text(self.example)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command, print its result, and exit with its exit code."""
        setting = ctx.ensure_object(Setting)
        setting.screen.quiet = setting.quiet
        code = type(self).show(setting, super().invoke(ctx))
        if code:
            ctx.exit(code)


class Family(click.Group):
    """A group of verbs for one device, as in `users DEVICE add NAME`; the default is `list`."""

    def __init__(self, *args: Any, example: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.example = example
        self.params += everywhere()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add `list` if no verb is given."""
        return super().parse_args(ctx, self._completed(ctx, args))

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            formatter.write_text(self.example)

    def _completed(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return args
        given, rest, _ = self.make_parser(ctx).parse_args(list(args))
        if not isinstance(given.get("device"), str):
            return args
        if rest and rest[0] in ctx.help_option_names:
            return [rest[0], *args]
        if rest and not rest[0].startswith("-"):
            return args
        return [*args[: len(args) - len(rest)], "list", *rest]


def family_of_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """DEVICE before the verb; stored in `Setting.device`."""

    def take(ctx: click.Context, _param: click.Parameter, value: str) -> None:
        ctx.ensure_object(Setting).device = value

    return click.argument(
        "device",
        metavar="DEVICE",
        expose_value=False,
        callback=take,
        shell_complete=known_aliases,
    )(function)


def everywhere() -> list[click.Parameter]:
    """The options that can be given before or after the verb."""

    def take(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def store(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
            if value:
                setattr(ctx.ensure_object(Setting), name, value)

        return store

    def option(*names: str, to: str, **how: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=take(to), **how)

    return [
        option("--json", to="json", is_flag=True, help="Print JSON, schema 1."),
        option(
            "-q",
            "--quiet",
            to="quiet",
            is_flag=True,
            help="Print no messages, only results and errors.",
        ),
        option(
            "-v", "--verbose", to="verbose", count=True, help="Print more messages; -vv prints all."
        ),
        option(
            "--home",
            to="folder",
            metavar="DIR",
            help="Folder of the key and the list of devices  [env: HANDFAST_HOME]",
        ),
        option(
            "--interface",
            to="interfaces",
            multiple=True,
            metavar="NAME",
            help="Search for devices only on this interface (name or address)  "
            "[env: HANDFAST_INTERFACES]",
        ),
    ]


def known_aliases(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Shell completion of aliases; an error gives no completions."""
    setting = ctx.find_object(Setting)
    home = setting.home if setting else Home.at()
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


def device_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """DEVICE: the alias or the ID of a paired device."""
    return click.argument("device", metavar="DEVICE", shell_complete=known_aliases)(function)
