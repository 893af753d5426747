"""`remote …`: how clients reach the device from other networks."""

import asyncio
import sys
from collections.abc import Callable

import click

from device_app.commands.common import CommandLine, yes_option
from device_app.commands.verbs import Family, Verb
from device_app.console import offline, remote_test
from device_app.console.answers import SelfTestAnswer, SelfTestEvent
from device_app.console.console import Console
from device_app.terminal import output
from device_app.terminal.render_remote import StepLines, remote_lines
from iam import files
from peer.terminal.exit_codes import ExitCode


@click.group(cls=Family, invoke_without_command=True, example="handfast-device remote test")
@click.pass_context
def remote(ctx: click.Context) -> None:
    """Show and test how clients reach the device from other networks.

    Without a verb, this is `remote status`.
    """
    if ctx.invoked_subcommand is None:
        _status(ctx.obj)


@remote.command(name="status", cls=Verb, example="handfast-device remote status --json")
@click.pass_obj
def status(cli: CommandLine) -> None:
    """Show the state of the brokers, the public address, and the paths of clients."""
    _status(cli)


@remote.command(name="test", cls=Verb, example="handfast-device remote test")
@click.pass_obj
def test(cli: CommandLine) -> None:
    """Try every broker and relay of the settings, and say what to do about each failure.

    It looks up names, connects, checks the server's key, logs in, waits for a message to itself,
    and sends a datagram through each relay. It also asks for the public address and the kind of
    NAT, and connects to each service of tunnels. Nothing is changed, and the daemon need not run.

    The exit code is 0 if no step has failed, and 1 otherwise.
    """
    shown = StepLines()

    def show(event: SelfTestEvent) -> None:
        if not cli.as_json:
            output.lines(shown.of(event["step"]))

    if cli.paths.service_socket is not None:  # its files are not this user's
        answer = cli.follow(Console.remote_test, show)
    else:
        answer = _test_files(cli, show)
    cli.show(answer, lambda: [shown.summary(answer)])
    sys.exit(ExitCode.DONE if answer["passed"] else ExitCode.OTHER)


def _test_files(cli: CommandLine, show: Callable[[SelfTestEvent], None]) -> SelfTestAnswer:
    """Test the settings as they are in the files now, as the user of the daemon reads them."""
    cli.identity()  # an error without a device
    with files.acting_as_owner_of(cli.paths.state):
        settings = offline.settings(cli.paths)
        servers = remote_test.servers_of(settings, cli.paths.config)

    async def tell(event: SelfTestEvent) -> None:
        show(event)

    return asyncio.run(remote_test.run(servers, settings.tunnel.services, tell))


@remote.command(name="rotate", cls=Verb, example="handfast-device remote rotate")
@yes_option
@click.pass_obj
def rotate(cli: CommandLine, *, yes: bool) -> None:
    """Replace the remote secrets of all clients, for example after one was stolen.

    With its old secret, no client can connect from another network any more. A client gets its new
    one by itself when it next reaches the device on the device's own network, or by an address of
    the device. Paths that are open now stay open: both keys were proved on them.
    """
    cli.confirm(
        "This invalidates the remote secrets of all clients. None of them can connect from another "
        "network before it has reached the device on its own network, or by an address.",
        yes=yes,
    )
    answer = cli.do(Console.remote_rotate)
    cli.show(
        answer,
        lambda: [
            f"generation   {answer['generation']}",
            "Each client gets its new secret by itself when it next reaches the device on the",
            "device's own network, or by an address. Until then, it cannot connect from elsewhere.",
        ],
    )


def _status(cli: CommandLine) -> None:
    answer = cli.do(Console.remote)
    cli.show(answer, lambda: remote_lines(answer["remote"]))
