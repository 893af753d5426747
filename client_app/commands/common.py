"""The options that all verbs share, and the objects that verbs get from them.

Modules that use the network are slow to import, so they are imported when a verb needs them.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from client_app.clock import wall_clock
from client_app.home import Home
from client_app.limits import LEAST_ALARM_SECONDS
from client_app.terminal.screen import Screen
from peer.errors import TimedOut, UsageError
from peer.terminal.durations import past_times
from peer.terminal.param_types import Duration
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from client_app.client import Client
    from client_app.known_devices import DeviceBook


F = TypeVar("F", bound=Callable[..., object] | click.Command)


@dataclass(slots=True)
class Invocation:
    """One run of the command line: the values of the shared options, and the screen."""

    screen: Screen
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    folder: str = ""
    interfaces: tuple[str, ...] = ()
    raw: bool = field(default=False)
    device: str = field(default="")
    """The DEVICE argument of a group of verbs."""
    timeout: float | None = None
    """The seconds that the verb may take, None for the limits of its steps."""
    began: float = field(default_factory=time.monotonic)

    def seconds_left(self, default: float | None = None) -> float | None:
        """Return the seconds that are left of `--timeout`, or the default without that option."""
        if self.timeout is None:
            return default
        return max(0.0, self.began + self.timeout - time.monotonic())

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

    async def agreed_to_times(
        self,
        *,
        begin: float | timedelta | None = None,
        end: float | timedelta | None,
        yes: bool,
    ) -> None:
        """Ask for confirmation if a time has passed, by the clock of this machine.

        Raises as `agreed` does.
        """
        if past := past_times(wall_clock(), begin=begin, end=end):
            await self.agreed(f"{past} Continue?", yes=yes)

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
        if not await self.screen.ask(f"{on_one_line(question)} [yes/no]"):
            raise Declined("nothing was changed")


class _SharedOptions(click.Command):
    """A command that accepts the shared options; its epilog is an example for its help."""

    @property
    def example(self) -> str:
        """An example of the command."""
        return self.epilog or ""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, the shared options, and --help."""
        params = super().get_params(ctx)
        last = [one for one in params if one.name == "help"]
        return [*(one for one in params if one not in last), *SHARED_OPTIONS, *last]

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            formatter.write_text(self.example)


class Verb(_SharedOptions):
    """A verb. Its function returns a value, a coroutine, or an asynchronous iterator of values.

    `show`, which the command line sets, prints them.
    """

    show: ClassVar[Callable[[Invocation, object], int]]

    def invoke(self, ctx: click.Context) -> None:
        """Run the command, print its result, and exit with its exit code."""
        invocation = ctx.ensure_object(Invocation)
        invocation.screen.quiet = invocation.quiet
        with _alarm(invocation.timeout):  # for what blocks, such as reading standard input
            value = super().invoke(ctx)
        code = type(self).show(invocation, value)
        if code:
            ctx.exit(code)


class NetworkVerb(Verb):
    """A verb that talks to a device. It has `--timeout`, which the command line applies."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, --timeout, the shared options, and --help."""
        own = super().get_params(ctx)
        at = next(number for number, one in enumerate(own) if one in SHARED_OPTIONS)
        return [*own[:at], _TIMEOUT, *own[at:]]


class Family(_SharedOptions, click.Group):
    """A group of verbs for one device, as in `users DEVICE add NAME`; the default is `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add `list` if no verb is given."""
        return super().parse_args(ctx, self._completed(ctx, args))

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


def family_of_device(function: F) -> F:
    """DEVICE before the verb; stored in `Invocation.device`."""

    def store(ctx: click.Context, _param: click.Parameter, value: str) -> None:
        ctx.ensure_object(Invocation).device = value

    return click.argument(
        "device",
        metavar="DEVICE",
        expose_value=False,
        callback=store,
        shell_complete=known_aliases,
    )(function)


def yes_option(function: F) -> F:
    """--yes: do not ask for confirmation."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(function)


def device_argument(function: F) -> F:
    """DEVICE: the alias or the ID of a paired device."""
    return click.argument("device", metavar="DEVICE", shell_complete=known_aliases)(function)


def known_aliases(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Shell completion of aliases; an error gives no completions."""
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


def _store(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Store a shared option, which can stand before or after the verb."""
    if value:
        assert param.name is not None
        setattr(ctx.ensure_object(Invocation), param.name, value)


def _store_timeout(ctx: click.Context, _param: click.Parameter, seconds: float | None) -> None:
    ctx.ensure_object(Invocation).timeout = seconds


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """End what blocks after some seconds, with `TimedOut`; only in the main thread."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: object) -> None:
        raise TimedOut(
            f"timed out after {seconds:g} s while reading the input",
            advice="Allow more time, or give the input at once.",
        )

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, LEAST_ALARM_SECONDS))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


_TIMEOUT: Final = click.Option(
    ["--timeout"],
    type=Duration(),
    metavar="TIME",
    expose_value=False,
    callback=_store_timeout,
    help="How long the command may take in all, with your answers: 5s, 2m.  "
    "[default: 1m to connect, 30s for a request]",
)

_shared_option = partial(click.Option, expose_value=False, callback=_store)

SHARED_OPTIONS: Final[Sequence[click.Option]] = (
    _shared_option(["--json"], is_flag=True, help="Print JSON, schema 1."),
    _shared_option(
        ["-q", "--quiet"], is_flag=True, help="Print no messages, only results and errors."
    ),
    _shared_option(["-v", "--verbose"], count=True, help="Print more messages; -vv prints all."),
    _shared_option(
        ["--home", "folder"],
        metavar="DIR",
        help="Folder of the key and the list of devices  [env: HANDFAST_HOME]",
    ),
    _shared_option(
        ["--interface", "interfaces"],
        multiple=True,
        metavar="NAME",
        help="Search for devices only on this interface (name or address)  "
        "[env: HANDFAST_INTERFACES]",
    ),
)
"""The options that every command accepts."""
