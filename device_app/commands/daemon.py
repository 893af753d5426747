"""`init`, `run`, `clock` and `reset`: the life of a device."""

import asyncio
import os
from dataclasses import replace
from typing import TypedDict, Unpack

import click

from device_app.access.bodies import KeyRequest, UserRequest
from device_app.commands.common import CommandLine
from device_app.commands.verbs import Verb
from device_app.console import interrupted_restore, offline
from device_app.console.console import Console
from device_app.console.views import StatusAnswer, WindowView
from device_app.errors import RESTART_IS_USELESS, NoStart
from device_app.process import logs
from device_app.settings.config import Settings
from device_app.terminal import output
from device_app.terminal.render_status import banner_lines, clock_lines, id_and_fingerprint_lines
from iam.builtin import OWNER
from peer.identity import Fingerprint
from peer.net.locality_verdict import LocalMode
from peer.pairing.names import check_name
from peer.terminal.streams import OutputFailed


@click.command(cls=Verb, example="handfast-device init --name kitchen --owner 'anna=1a2b 3c4d …'")
@click.option("--name", help="Name of this device.  [default: this machine's name]")
@click.option(
    "--owner",
    "owners",
    multiple=True,
    metavar="NAME=FP",
    help="A user who owns the device, by the fingerprint of a key; can be repeated.",
)
@click.option("--force", is_flag=True, help="Replace an existing configuration, never the key.")
@click.pass_obj
def init(cli: CommandLine, *, name: str | None, owners: tuple[str, ...], force: bool) -> None:
    """Create the device's key, its store and a commented configuration.

    Files that exist already are kept, so you can run this again. --name then changes the name in
    device.toml and nothing else there.

    With --owner, no one has to pair as the first owner: the client with this key is the owner, and
    no pairing window opens by itself. `handfast fingerprint` shows it there.
    """
    requests = [_owner(text) for text in owners]
    cli.note_own_files()
    answer = offline.init(cli.paths, name=name, force=force)
    for request in requests:
        cli.do(Console.users_add, body=request)
    answer["owners"] = [request.name for request in requests]
    owned = [f"owners       {', '.join(answer['owners'])}"] if requests else []
    cli.show(
        answer,
        lambda: [
            f"name         {answer['name']}",
            *id_and_fingerprint_lines(answer["fingerprint"]),
            f"settings     {answer['config']}",
            f"state        {answer['state']}",
            *owned,
        ],
    )


def _owner(text: str) -> UserRequest:
    """An owner to add. Raises `Malformed`."""
    name, equals, key = text.partition("=")
    if not equals:
        raise click.UsageError(f"--owner {text!r} has not the form NAME=FINGERPRINT.")
    found = KeyRequest(fingerprint=Fingerprint.parse(key).hex)
    return UserRequest(name=check_name(name.strip()), role=OWNER, keys=(found,))


class _RunOptions(TypedDict):
    port: int | None
    pairing_port: int | None
    listen: tuple[str, ...]
    interface: tuple[str, ...]
    allow_loopback: bool
    local: str | None


@click.command(cls=Verb, example="handfast-device run --pair")
@click.option("--pair", is_flag=True, help="Open the pairing window at the start.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="UDP port for paired clients; 0 = any free port."
)
@click.option(
    "--pairing-port", type=click.IntRange(0, 65535), help="UDP port while the window is open."
)
@click.option("--listen", multiple=True, metavar="ADDR", help="Address to listen on; repeatable.")
@click.option(
    "--interface", multiple=True, metavar="NAME|ADDR", help="Announce the device only here."
)
@click.option(
    "--allow-loopback", is_flag=True, help="Treat this machine as the local network, for tests."
)
@click.option(
    "--local",
    type=click.Choice([mode.value for mode in LocalMode]),
    help="Addresses that count as the local network.",
)
@click.pass_obj
def run(cli: CommandLine, /, *, pair: bool, **options: Unpack[_RunOptions]) -> None:
    """Run the device until Ctrl-C or SIGTERM.

    On a terminal, it shows the pairing window and asks whether to accept a client. Otherwise use
    `handfast-device open`, `pending`, `accept` and `refuse`. A device that has never had an owner
    opens the window by itself.

    Options take precedence over the configuration file.

    The exit code is 2 if a start cannot succeed before someone corrects the settings, a policy, a
    module, the key or the version of the store. A service manager then need not try again.
    """
    try:
        _run(cli, pair=pair, **options)
    except RESTART_IS_USELESS as error:
        raise NoStart(error) from error


def _run(cli: CommandLine, *, pair: bool, **options: Unpack[_RunOptions]) -> None:
    from device_app import daemon  # noqa: PLC0415  # other verbs start faster without it
    from peer.net import key_log  # noqa: PLC0415  # the same

    logs.set_up(cli.verbosity)
    interrupted_restore.finish_interrupted(cli.paths)
    daemon.protect(cli.paths)
    key_log.start(os.environ)
    settings = _with_options(offline.settings(cli.paths), **options)

    def ready(status: StatusAnswer) -> None:
        try:
            if cli.as_json:
                output.json_line({"event": "ready", **_without_code(status)})
            elif cli.verbosity >= 0:
                output.lines(banner_lines(status))
        except OutputFailed as error:  # a service may run without standard output
            output.warning(str(error))
        output.message("ready")

    quiet = cli.as_json or cli.verbosity < 0
    asyncio.run(daemon.run(cli.paths, settings, pair=pair, quiet=quiet, on_ready=ready))


def _without_code(status: StatusAnswer) -> StatusAnswer:
    """The status without the pairing code, since a daemon's output may be kept in a log."""
    window: WindowView = {**status["window"]}
    window.pop("code", None)
    return {**status, "window": window}


def _with_options(settings: Settings, **options: Unpack[_RunOptions]) -> Settings:
    """The settings with the options and the environment applied, which take precedence."""
    named = os.environ.get("HANDFAST_INTERFACES", "")
    interfaces = tuple(part.strip() for part in named.split(",") if part.strip())
    port, pairing_port, local = options["port"], options["pairing_port"], options["local"]
    return replace(
        settings,
        port=settings.port if port is None else port,
        pairing_port=settings.pairing_port if pairing_port is None else pairing_port,
        listen=options["listen"] or settings.listen,
        interfaces=options["interface"] or interfaces or settings.interfaces,
        allow_loopback=options["allow_loopback"] or settings.allow_loopback,
        local=LocalMode(local) if local else settings.local,
    )


@click.command(cls=Verb, example="handfast-device clock --trust-system")
@click.option("--trust-system", is_flag=True, help="Set the device's time to the system's time.")
@click.pass_obj
def clock(cli: CommandLine, *, trust_system: bool) -> None:
    """Show the device's time, which decides when access and invites begin and end.

    This time never runs backwards, even if the system's clock does. If the system's clock was wrong
    and is right now, run this with --trust-system.
    """
    answer = cli.do(Console.clock, trust_system=trust_system)
    cli.show(answer, lambda: clock_lines(answer))


@click.command(cls=Verb, example="handfast-device reset --yes")
@click.option("--keep-identity", is_flag=True, help="Keep the device's key; delete only its users.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def reset(cli: CommandLine, *, keep_identity: bool, yes: bool) -> None:
    """Factory reset: delete all users, invites and events, and create a new key."""
    deleted = "all users, invites and events"
    if not keep_identity:
        deleted += ", and the key of this device"
    cli.confirm(f"This deletes {deleted}. It cannot be undone.", yes=yes)
    answer = cli.do(Console.reset, keep_identity=keep_identity)
    cli.show(
        answer, lambda: ["this device has no users now; the first client to pair becomes the owner"]
    )
