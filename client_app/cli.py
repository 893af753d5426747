"""`handfast`: the command line of the client.

Verbs live in `client_app.commands`, one a file, and are imported when they are asked for. They
return values; this module shows them and turns errors into exit codes.
"""

import asyncio
import importlib
import inspect
import logging
import sys
import traceback
from collections.abc import AsyncIterator, Coroutine, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any, Final, NoReturn, cast

import click

from client_app import answers, render
from client_app.setting import Setting, Verb, everywhere
from peer.errors import PeerError
from peer.terminal.text import EscapingFormatter, on_lines

VERBS: Final = MappingProxyType(
    {
        "discover": ("discover", "Show the devices on this network."),
        "pair": ("pair", "Pair with a device whose window is open, or redeem an invite."),
        "devices": ("devices", "List the devices this client knows."),
        "get": ("get", "Read a resource."),
        "put": ("put", "Replace what a resource holds."),
        "post": ("post", "Send a body to a resource for it to act on."),
        "delete": ("delete", "Remove a resource."),
        "observe": ("observe", "Show a resource whenever it changes."),
        "whoami": ("whoami", "Show who you are on a device, and what you may do."),
        "can": ("can", "Ask whether you may do something on a device."),
        "users": ("users", "Show and change who may use a device."),
        "roles": ("roles", "Show the roles of a device."),
        "invite": ("invite", "Invite somebody to a device."),
        "invites": ("invites", "Show and withdraw the invites of a device."),
        "open": ("open", "Open the pairing window of a device."),
        "events": ("events", "Show what has happened on a device."),
        "rename": ("rename", "Call a device by another name here."),
        "address": ("address", "Say where else a device can be reached."),
        "forget": ("forget", "Forget a device."),
        "export": ("export", "Print the known devices for another client."),
        "import": ("import_", "Take over the known devices of another client."),
        "doctor": ("doctor", "Look for the cause when something does not work."),
        "completion": ("completion", "Print the completion script for a shell."),
        "demo": ("demo", "The one-minute tour, on this machine alone."),
    }
)


class Verbs(click.Group):
    """The verbs, loaded one by one; and the exit codes."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Every verb, in the order in which a person meets them."""
        return list(VERBS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of a name."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"client_app.commands.{VERBS[cmd_name][0]}")
        return cast(click.Command, module.command)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing any."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, about) for name, (_, about) in VERBS.items()])

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """An example, and the exit codes."""
        with formatter.section("Example"):
            formatter.write_text("handfast pair kitchen && handfast get kitchen /hello")
        with formatter.section("Exit codes"):
            formatter.write_text(
                "0 done, 1 other, 2 usage, 3 not found or unreachable, 4 timed out, 5 the peer's "
                "key is not the pinned one, 6 wrong code or locked out, 7 denied by policy, "
                "8 other 4.xx, 9 5.xx, 10 not paired, 11 window closed, 12 refused by the device's "
                "user, 13 not local, 130 interrupted"
            )

    def main(self, args: Sequence[str] | None = None, **options: Any) -> NoReturn:  # type: ignore[override]
        """Run, and exit with the code that the outcome has."""
        setting = Setting(render.Terminal())
        options = {"prog_name": "handfast", **options, "standalone_mode": False, "obj": setting}
        sys.exit(_outcome(setting, lambda: super(Verbs, self).main(args, **options)))


def _outcome(setting: Setting, run: Any) -> int:
    """The exit code of a run; errors are told on stderr."""
    code = answers.OTHER
    try:
        code = run() or answers.DONE
    except click.exceptions.Exit as asked:
        code = asked.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = answers.INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except PeerError as error:
        render.put_error(setting, error)
        code = answers.exit_code(error)
    except Exception as error:
        _put_fault(setting, error)
    return code


def _put_fault(setting: Setting, error: Exception) -> None:
    if setting.verbose:
        click.echo(on_lines("".join(traceback.format_exception(error))), err=True, nl=False)
    own = PeerError(
        f"internal error: {type(error).__name__}: {error}",
        advice="This is a fault of handfast; the same command with -v shows where.",
    )
    render.put_error(setting, own)


def show(setting: Setting, value: object) -> int:
    """Print what a verb returned, also what it returns bit by bit. The exit code that it means."""
    _log_to_stderr(setting)
    if inspect.iscoroutine(value):
        return asyncio.run(_show_later(setting, value))
    if isinstance(value, AsyncIterator):
        return asyncio.run(_show_each(setting, value))
    return _show_one(setting, value)


async def _show_later(setting: Setting, work: Coroutine[Any, Any, object]) -> int:
    try:
        value = await work
    finally:
        setting.screen.done()
    return _show_one(setting, value)


async def _show_each(setting: Setting, values: AsyncIterator[object]) -> int:
    first_failure = 0
    try:
        async for value in values:
            setting.screen.done()
            first_failure = first_failure or _show_one(setting, value)
    finally:
        setting.screen.done()
        close = getattr(values, "aclose", None)
        if close is not None:
            await close()
    return first_failure


def _show_one(setting: Setting, value: object) -> int:
    if value is not None:
        render.put_out(setting, value)
    return int(getattr(value, "exit_code", 0))


def _log_to_stderr(setting: Setting) -> None:
    level = logging.ERROR if setting.quiet else logging.WARNING
    level = {0: level, 1: logging.INFO}.get(setting.verbose, logging.DEBUG)
    handler = logging.StreamHandler()
    handler.setFormatter(EscapingFormatter("%(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _version() -> str:
    try:
        return metadata.version("handfast")
    except metadata.PackageNotFoundError:
        return "(not installed)"


Verb.show = staticmethod(show)


@click.group(
    cls=Verbs, params=everywhere(), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(_version(), prog_name="handfast")
def main() -> None:
    """Pair with a device once, both users looking; then talk to it with both keys pinned."""


if __name__ == "__main__":
    main()
