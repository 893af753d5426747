"""The classes of verbs, and the options that all verbs share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, Final, TypeVar

import click

from client_app.commands.device_argument import ONLY_DEVICE, DeviceArgument
from client_app.commands.invocation import Invocation
from peer.errors import TimedOut
from peer.terminal.param_types import Duration
from peer.terminal.verb_search import resolved_verb
from peer.terminal.wire_words import options_by_field

F = TypeVar("F", bound=Callable[..., object] | click.Command)


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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; if DEVICE is left out before another argument, it is the only paired device."""
        if not ctx.resilient_parsing and self._lacks_device(ctx, args):
            args = [ONLY_DEVICE, *args]
        return super().parse_args(ctx, args)

    def _lacks_device(self, ctx: click.Context, args: list[str]) -> bool:
        """Whether the first word is the argument that follows DEVICE."""
        arguments = [one for one in self.params if isinstance(one, click.Argument)]
        if len(arguments) < 2 or not isinstance(first := arguments[0], DeviceArgument):
            return False
        try:
            given, _, _ = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError:
            return False
        word = given.get(first.name or "")
        if not isinstance(word, str) or isinstance(given.get(arguments[1].name or ""), str):
            return False
        invocation = ctx.ensure_object(Invocation)
        folder = given.get("folder")
        if isinstance(folder, str):
            invocation.folder = folder
        return first.is_next(word) and not invocation.knows(word)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command, print its result, and exit with its exit code."""
        invocation = ctx.ensure_object(Invocation)
        invocation.screen.quiet = invocation.quiet
        if isinstance(ctx.parent and ctx.parent.command, Family):
            invocation.device = invocation.device or invocation.only_device()
        invocation.options = options_by_field(self.params)
        with _alarm(invocation.timeout):  # for what blocks, such as reading standard input
            value = super().invoke(ctx)
        code = type(self).show(invocation, value)
        if code:
            ctx.exit(code)


class TimedVerb(Verb):
    """A verb that uses a network. It has `--timeout`, which the command line applies."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, --timeout, the shared options, and --help."""
        own = super().get_params(ctx)
        at = next(number for number, one in enumerate(own) if one in SHARED_OPTIONS)
        return [*own[:at], *self.network_options(), *own[at:]]

    def network_options(self) -> Sequence[click.Option]:
        """The options of the network."""
        return [_TIMEOUT]


class NetworkVerb(TimedVerb):
    """A verb that talks to a paired device. It has `--timeout` and `--via`."""

    def network_options(self) -> Sequence[click.Option]:
        """The options of the network, and of the routes to the device."""
        return [*super().network_options(), _VIA]


class Family(_SharedOptions, click.Group):
    """A group of verbs for one device, as in `users DEVICE add NAME`; the default is `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add `list` if no verb is given, and the only paired device if DEVICE is left out."""
        return super().parse_args(ctx, self._completed(ctx, args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a verb; an error suggests the one that was probably meant."""
        return resolved_verb(self, super().resolve_command, ctx, args)

    def _completed(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return args
        given, rest, _ = self.make_parser(ctx).parse_args(list(args))
        word = given.get("device")
        if word in ctx.help_option_names:
            return args
        if not isinstance(word, str) or self._is_verb(ctx, word, given.get("folder")):
            args = [ONLY_DEVICE, *args]
            given, rest, _ = self.make_parser(ctx).parse_args(list(args))
        if rest and rest[0] in ctx.help_option_names:
            return [rest[0], *args]
        if rest and not rest[0].startswith("-"):
            return args
        return [*args[: len(args) - len(rest)], "list", *rest]

    def _is_verb(self, ctx: click.Context, word: str, folder: object) -> bool:
        """Whether the first word is a verb, and not the alias of a device."""
        invocation = ctx.ensure_object(Invocation)
        if isinstance(folder, str):
            invocation.folder = folder
        return word in self.commands and not invocation.knows(word)


def yes_option(function: F) -> F:
    """--yes: do not ask for confirmation."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(function)


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
    if seconds is None:
        yield
        return
    import signal  # noqa: PLC0415 - few commands have a timeout
    import threading  # noqa: PLC0415 - as above

    from client_app.limits import LEAST_ALARM_SECONDS  # noqa: PLC0415 - as above

    if threading.current_thread() is not threading.main_thread():
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

_VIA: Final = _shared_option(
    ["--via"],
    metavar="ROUTES",
    help="Use only these routes to the device: lan, address, direct, relay, separated by commas.  "
    "[default: all]",
)

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
