"""`watch`: the state of the device, for displays and scripts."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Never

import click

from device_app.access.clock import wall_clock
from device_app.commands.common import CommandLine
from device_app.commands.verbs import Verb
from device_app.console.console import Console
from device_app.console.device_state import DeviceState
from device_app.console.views import StateEvent, WatchView
from device_app.errors import AppError, DaemonExited, DaemonUnreachable, NoDaemon
from device_app.limits import WATCH_RECONNECT_SECONDS
from device_app.terminal.reader_watch import while_read
from device_app.terminal.render_watch import watch_lines
from peer.terminal.exit_codes import ExitCode
from peer.terminal.streams import ReaderGone


@click.command(cls=Verb, example="handfast-device watch --json --reconnect")
@click.option(
    "--reconnect",
    is_flag=True,
    help="Keep running while no daemon runs; the state is `stopped` then.",
)
@click.pass_obj
def watch(cli: CommandLine, *, reconnect: bool) -> None:
    """Show the state of the device and every change of it, for a display or a script.

    The state is printed at once, and then once for each change, until Ctrl-C. It is the first of
    these that applies: `trouble` (`health` reports a problem), `asking` (a client waits to be
    accepted or refused), `working` (a client is pairing), `refused` (for 60 seconds after two
    clients tried to pair, a code or number was wrong, or the client was refused here), `paired`
    (for 3 seconds), `blocked` (no client can pair after too many failed attempts), `open` and
    `idle`.

    With --json, each state is one line of JSON. `pairing` is the state without regard to problems.
    `seconds_left` is the time until `pairing` ends by itself, as of that line: count down from
    there, since no line is printed for a second that passes. `since` is the device's time at which
    the state began.

    The exit code is 3 if no daemon runs, or if it ends and --reconnect is not given.
    """
    watcher = _Watcher(cli)
    try:
        if reconnect:
            asyncio.run(while_read(watcher.follow_always()))
        watcher.follow()
    except ReaderGone:  # as after `| head`
        sys.exit(ExitCode.DONE)


@dataclass(slots=True)
class _Watcher:
    """Prints the states of the device that a command line names."""

    cli: CommandLine
    state: str = ""  # the last one

    def follow(self) -> None:
        """Print the states until the daemon ends.

        Raises:
            AppError: no daemon runs, or it has ended (`ExitCode.NOT_FOUND`).
        """
        try:
            self.cli.follow(Console.watch, self._on_event)
        except DaemonExited as error:
            raise AppError(
                "the daemon has exited",
                advice="Give --reconnect to wait for the next one.",
                code=ExitCode.NOT_FOUND,
            ) from error

    async def follow_always(self) -> Never:
        """Print the states of one daemon after another, and `stopped` between them."""
        while True:
            try:
                await self.cli.client.follow(Console.watch, self._on_event)
            except (NoDaemon, DaemonExited, DaemonUnreachable):
                if self.state != DeviceState.STOPPED:
                    state = DeviceState.STOPPED.value
                    self._show({"state": state, "pairing": state, "since": int(wall_clock())})
            await asyncio.sleep(WATCH_RECONNECT_SECONDS)

    def _on_event(self, event: StateEvent) -> None:
        self._show(event["state"])

    def _show(self, view: WatchView) -> None:
        self.state = view["state"]
        is_large = sys.stdout.isatty()
        self.cli.show(view, lambda: watch_lines(view, wall_clock(), is_large=is_large))
