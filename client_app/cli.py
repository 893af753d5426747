"""The `handfast` command line.

Each verb is a module in `client_app.commands` that is imported when the verb is used. Verbs return
values; this module prints them and maps errors to exit codes.
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

from client_app.commands.common import Setting, Verb, everywhere
from client_app.terminal import render
from client_app.terminal.screen import Screen
from peer.errors import PeerError
from peer.terminal.exit_codes import EXIT_CODE_MEANINGS, ExitCode, exit_code_of
from peer.terminal.text import EscapingFormatter, on_lines

VERBS: Final = MappingProxyType(
    {
        "discover": ("discover", "List the devices on this network."),
        "pair": ("pair", "Pair with a device, or redeem an invite."),
        "devices": ("devices", "List the devices that this client is paired with."),
        "get": ("get", "Read a resource."),
        "put": ("put", "Replace the content of a resource."),
        "post": ("post", "Send a body to a resource for processing."),
        "delete": ("delete", "Delete a resource."),
        "observe": ("observe", "Print a resource each time it changes."),
        "whoami": ("whoami", "Show your user, role and permissions on a device."),
        "can": ("can", "Check whether a device allows you an action."),
        "users": ("users", "Manage the users of a device."),
        "roles": ("roles", "List the roles of a device."),
        "invite": ("invite", "Create an invite to a device."),
        "invites": ("invites", "List and withdraw the invites of a device."),
        "open": ("open", "Open the pairing window of a device."),
        "events": ("events", "Show the events of a device."),
        "rename": ("rename", "Change the alias of a device on this client."),
        "address": ("address", "Add addresses where a device can be reached."),
        "forget": ("forget", "Remove a device from this client."),
        "export": ("export", "Export the list of devices."),
        "import": ("import_", "Import a list of devices from another client."),
        "doctor": ("doctor", "Diagnose connection problems."),
        "completion": ("completion", "Print a shell completion script."),
        "demo": ("demo", "Run a one-minute demonstration on this machine."),
    }
)


class Verbs(click.Group):
    """The top-level command: imports a verb when it is used, and returns the exit codes."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All verbs, in the order in which a new user needs them."""
        return list(VERBS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a verb; None if there is no verb of that name."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"client_app.commands.{VERBS[cmd_name][0]}")
        return cast(click.Command, module.command)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, about) for name, (_, about) in VERBS.items()])

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write an example and the exit codes."""
        with formatter.section("Example"):
            formatter.write_text("handfast pair kitchen && handfast get kitchen /hello")
        with formatter.section("Exit codes"):
            codes = (f"{code:d} {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items())
            formatter.write_text(", ".join(codes))

    def main(self, args: Sequence[str] | None = None, **options: Any) -> NoReturn:  # type: ignore[override]
        """Run the command line and exit with its exit code."""
        setting = Setting(Screen())
        options = {"prog_name": "handfast", **options, "standalone_mode": False, "obj": setting}
        sys.exit(_outcome(setting, lambda: super(Verbs, self).main(args, **options)))


def _outcome(setting: Setting, run: Any) -> int:
    """Run a command and return its exit code; errors are printed to stderr."""
    code: int = ExitCode.OTHER
    try:
        code = run() or ExitCode.DONE
    except click.exceptions.Exit as asked:
        code = asked.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except PeerError as error:
        _put_error(setting, error)
        code = exit_code_of(error)
    except Exception as error:
        _put_fault(setting, error)
    return code


def _put_error(setting: Setting, error: PeerError) -> None:
    render.put_error(error, is_json=setting.json, quiet=setting.quiet)


def _put_fault(setting: Setting, error: Exception) -> None:
    if setting.verbose:
        click.echo(on_lines("".join(traceback.format_exception(error))), err=True, nl=False)
    own = PeerError(
        f"internal error: {type(error).__name__}: {error}",
        advice="This is a bug in handfast. Run the command again with -v to get a traceback.",
    )
    _put_error(setting, own)


def show(setting: Setting, value: object) -> int:
    """Print the value, or each value, that a verb returns. Return the exit code."""
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
        render.put_out(value, setting.screen, is_json=setting.json, is_raw=setting.raw)
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
    """Pair with a device once; afterwards every connection is authenticated by both keys."""


if __name__ == "__main__":
    main()
