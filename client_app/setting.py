"""What every verb is given: the options that are the same everywhere, and what they lead to.

The network's half of the client takes a while to import; it is loaded when a verb asks for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import click
from click.shell_completion import CompletionItem

from client_app.home import Home
from peer.errors import UsageError
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from client_app.client import Client
    from client_app.devices import DeviceBook


class Screen(Protocol):
    """Where talk goes, and answers come from; `render.Terminal` is the real one."""

    quiet: bool

    def say(self, text: str) -> None:
        """A line of talk, unless `-q`."""

    def warn(self, text: str) -> None:
        """A line of talk, also with `-q`."""

    def draw(self, picture: str) -> None:
        """Lines that are shown as they are, where talk goes."""

    def progress(self, text: str, *, seconds: float = 0.0) -> None:
        """What is being done or waited for, until `done`; with a countdown if `seconds`."""

    def done(self) -> None:
        """The end of what `progress` said."""

    @property
    def can_ask(self) -> bool:
        """Whether there is a person at a terminal."""

    async def ask(self, question: str, *, also: str = "") -> bool:
        """A yes or no from the person at the terminal; typing `also` is a yes, too."""

    async def read(self, question: str) -> str:
        """A line from the person at the terminal."""


@dataclass(slots=True)
class Setting:
    """The options of every verb."""

    screen: Screen
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    folder: str = ""
    interfaces: tuple[str, ...] = ()
    raw: bool = field(default=False)
    device: str = field(default="")
    """DEVICE of a family of verbs."""

    @property
    def home(self) -> Home:
        """The folder of this client."""
        return Home.at(self.folder)

    @property
    def book(self) -> "DeviceBook":
        """The known devices, without any network."""
        from client_app.devices import DeviceBook  # noqa: PLC0415 - see above

        return DeviceBook(self.home.devices)

    def client(self) -> "Client":
        """A client; use it as an asynchronous context."""
        from client_app.client import Client  # noqa: PLC0415 - see above

        return Client(home=self.home.folder, interfaces=self.interfaces or None)

    async def agreed(self, question: str, *, yes: bool) -> None:
        """Return if the person says yes, or has said `--yes`. Raises `UsageError` if nobody can be
        asked, `Declined` for a no."""
        from client_app.answers import Declined  # noqa: PLC0415 - see above

        if yes:
            return
        if not self.screen.can_ask:
            raise UsageError("nobody is at this terminal to be asked", advice="Give --yes.")
        if not await self.screen.ask(f"{on_one_line(question)} [y/n]"):
            raise Declined("nothing was changed")


class Verb(click.Command):
    """A command with the options of every verb and an example in its help.

    Its function returns a value, a coroutine, or an asynchronous iterator of values; `show`, which
    the command line sets, prints them.
    """

    show: ClassVar[Callable[[Setting, object], int]]

    def __init__(self, *args: Any, example: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.example = example
        self.params += everywhere()

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, as it is typed."""
        with formatter.section("Example"):
            formatter.write_text(self.example)

    def invoke(self, ctx: click.Context) -> None:
        """Do it, show what came out, and exit with what that means."""
        setting = ctx.ensure_object(Setting)
        setting.screen.quiet = setting.quiet
        code = type(self).show(setting, super().invoke(ctx))
        if code:
            ctx.exit(code)


class Family(click.Group):
    """Verbs about one device, as in `users DEVICE add NAME`; without a verb it is `list`."""

    def __init__(self, *args: Any, example: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.example = example
        self.params += everywhere()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in what is left out."""
        return super().parse_args(ctx, self._completed(ctx, args))

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, as it is typed."""
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
    """DEVICE before the verb; the verb finds it in its setting."""

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
    """The options that may stand before or after the verb."""

    def take(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def store(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
            if value:
                setattr(ctx.ensure_object(Setting), name, value)

        return store

    def option(*names: str, to: str, **how: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=take(to), **how)

    return [
        option("--json", to="json", is_flag=True, help="Machine-readable output, schema 1."),
        option("-q", "--quiet", to="quiet", is_flag=True, help="No talk on stderr."),
        option("-v", "--verbose", to="verbose", count=True, help="More talk; twice for all."),
        option(
            "--home", to="folder", metavar="DIR", help="Folder of key and devices [HANDFAST_HOME]."
        ),
        option(
            "--interface",
            to="interfaces",
            multiple=True,
            metavar="NAME",
            help="Look for devices here only; name or own address [HANDFAST_INTERFACES].",
        ),
    ]


def known_aliases(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """For the shell's completion: the devices this client knows. Never an error there."""
    setting = ctx.find_object(Setting)
    home = setting.home if setting else Home.at()
    try:
        from client_app.devices import DeviceBook  # noqa: PLC0415 - see above

        found = DeviceBook(home.devices).all()
    except Exception:
        return []
    return [
        CompletionItem(one.alias, help=on_one_line(one.name))
        for one in found
        if one.alias.startswith(incomplete)
    ]


def device_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """DEVICE: an alias of a known device, or its id."""
    return click.argument("device", metavar="DEVICE", shell_complete=known_aliases)(function)
