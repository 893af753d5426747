"""`open`, `close`, `press`, `pending`, `accept` and `refuse`: pair with clients."""

import asyncio
import sys

import click

from device_app.commands.common import CommandLine
from device_app.commands.verbs import Verb
from device_app.console.console import Console
from device_app.console.views import WindowEvent
from device_app.terminal.render_pairing import pending_lines, window_lines
from device_app.terminal.window_watch import WindowWatch
from peer.terminal.param_types import Duration


@click.command(name="open", cls=Verb, example="handfast-device open --for 5m --role user")
@click.option("--for", "seconds", type=Duration(), metavar="TIME", help="How long it stays open.")
@click.option("--role", help="Role of the users who pair.  [default: guest; the first is owner]")
@click.option(
    "--methods",
    metavar="NAME,…",
    help="Pairing methods to offer.  [default: all that are possible]",
)
@click.option("--no-wait", is_flag=True, help="Open the window and exit; it stays open.")
@click.pass_obj
def open_window(
    cli: CommandLine, *, seconds: float | None, role: str | None, methods: str | None, no_wait: bool
) -> None:
    """Open the pairing window, and wait until a client has paired or the window closes.

    On a terminal, this asks whether to accept a client. Ctrl-C closes the window. If the window is
    open already, it is extended. Opening it also ends a pause after failed attempts.

    The exit code is 0 if a client has paired, 4 if none has in time, 6 after too many failed
    attempts, and 12 if the client was refused here.
    """
    names = tuple(name.strip() for name in methods.split(",")) if methods else ()
    if no_wait:

        def ignore(_event: WindowEvent) -> None:
            """Only a command that waits is told events."""

        answer = cli.follow(Console.open, ignore, seconds=seconds, role=role, methods=names)
        cli.show(answer, lambda: window_lines(answer["window"]))
        return
    watch = WindowWatch(cli.client, as_json=cli.as_json, quiet=cli.verbosity < 0)
    sys.exit(asyncio.run(watch.open(seconds=seconds, role=role, methods=names)))


@click.command(name="close", cls=Verb, example="handfast-device close")
@click.pass_obj
def close_window(cli: CommandLine) -> None:
    """Close the pairing window. A client that is pairing is refused."""
    answer = cli.ask(Console.close)
    cli.show(answer, lambda: ["closed" if answer["closed"] else "was not open"])


@click.command(cls=Verb, example="handfast-device pending")
@click.pass_obj
def pending(cli: CommandLine) -> None:
    """Show the client that is waiting to be accepted or refused."""
    answer = cli.ask(Console.pending)
    cli.show(answer, lambda: pending_lines(answer["pending"]))


@click.command(cls=Verb, example="handfast-device accept 5f0c3a9e1b7d248866")
@click.argument("client", metavar="ID|FINGERPRINT", nargs=-1)
@click.pass_obj
def accept(cli: CommandLine, *, client: tuple[str, ...]) -> None:
    """Accept the client that wants to pair. First compare what both sides show.

    `handfast-device pending` shows the ID, and the fingerprint if that is what you compare. Give
    one of them, so that your answer cannot apply to another client.
    """
    answer = cli.ask(Console.accept, id=_joined(client))
    ceremony = answer["ceremony"]
    cli.show(answer, lambda: [f"accepted {ceremony['name']} as {ceremony['role']}"])


@click.command(cls=Verb, example="handfast-device refuse 5f0c3a9e1b7d248866")
@click.argument("client", metavar="ID|FINGERPRINT", nargs=-1)
@click.pass_obj
def refuse(cli: CommandLine, *, client: tuple[str, ...]) -> None:
    """Refuse the client that wants to pair.

    `handfast-device pending` shows the ID, and the fingerprint if that is what you compare.
    """
    answer = cli.ask(Console.refuse, id=_joined(client))
    cli.show(answer, lambda: [f"refused {answer['ceremony']['name']}"])


@click.command(cls=Verb, example="handfast-device press --held 300ms")
@click.option(
    "--held",
    type=Duration(least=0),
    default=0.0,
    metavar="TIME",
    help="How long the button was held: 300ms, 5s, or 0.3 (seconds).",
)
@click.pass_obj
def press(cli: CommandLine, *, held: float) -> None:
    """Report that the board's button was pressed. The board's software runs this.

    A short press opens the pairing window; the first client that pairs with the method `button`
    becomes a guest, and its key is not verified. A press of 5 seconds also ends a pause after
    failed attempts. After a press of 10 seconds, the window gives the role `owner` to a client
    that pairs with a code, a label or a comparison.
    """
    answer = cli.ask(Console.press, held=held)
    cli.show(answer, lambda: window_lines(answer["window"]))


def _joined(client: tuple[str, ...]) -> str:
    """An ID, or a fingerprint whose groups are arguments of their own."""
    if not client:
        raise click.UsageError(
            "Give the client's ID or fingerprint. `handfast-device pending` shows them."
        )
    return " ".join(client)
