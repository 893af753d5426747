"""The `handfast` command line.

Each verb is a module in `client_app.commands` that is imported when the verb is used. Verbs return
values; this module prints them and maps errors to exit codes.
"""

import asyncio
import importlib
import inspect
import logging
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from importlib import metadata
from types import MappingProxyType
from typing import Final, NoReturn

import click

from client_app.commands.common import SHARED_OPTIONS, Verb
from client_app.commands.invocation import Invocation
from client_app.deadline import Deadline, report_waits
from client_app.terminal import render, render_devices  # noqa: F401 - registers the rendering of devices
from client_app.terminal.screen import Screen
from peer.errors import PeerError
from peer.terminal import streams
from peer.terminal.exit_codes import EXIT_CODE_MEANINGS, ExitCode, exit_code_of
from peer.terminal.streams import ReaderGone
from peer.terminal.text import EscapingFormatter, on_lines
from peer.terminal.usage_errors import usage_error, wants_json
from peer.terminal.verb_search import resolved_verb
from peer.terminal.wire_words import in_typed_words

VERBS: Final = MappingProxyType(
    {
        "discover": ("discover", "List the devices on this network."),
        "pair": ("pair", "Pair with a device, or redeem an invite."),
        "devices": ("devices", "List the devices that this client is paired with."),
        "ls": ("ls", "List the resources of a device."),
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
        "fingerprint": ("fingerprint", "Print the fingerprint of this client."),
        "import-key": ("import_key", "Use the private key in FILE as the key of this client."),
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


SYNONYMS: Final = MappingProxyType(
    {
        "add": "pair",
        "delete-device": "forget",
        "find": "discover",
        "id": "fingerprint",
        "key": "fingerprint",
        "list": "devices",
        "login": "pair",
        "ping": "doctor",
        "read": "get",
        "remove": "forget",
        "resources": "ls",
        "scan": "discover",
        "search": "discover",
        "status": "doctor",
        "unpair": "forget",
        "watch": "observe",
        "write": "put",
    }
)
"""Words of other programs, each with the verb that does this here."""


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
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a verb; an error suggests the one that was probably meant."""
        return resolved_verb(self, super().resolve_command, ctx, args, SYNONYMS)

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

    def main(  # type: ignore[override]  # it never returns
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **_settings: object,
    ) -> NoReturn:
        """Run the command line and exit with its exit code."""
        streams.prepare()
        invocation = Invocation(Screen())
        words = sys.argv[1:] if args is None else list(args)
        invocation.json = wants_json(words)  # also if the command line has an error
        run = partial(
            super().main, words, prog_name or "handfast", standalone_mode=False, obj=invocation
        )
        sys.exit(_outcome(invocation, run))


def _outcome(invocation: Invocation, run: Callable[[], object]) -> int:
    """Run a command and return its exit code; errors are printed to stderr."""
    try:
        code = run()
        sys.stdout.flush()
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        if invocation.json:
            click.echo(render.json_line({"error": usage_error(error)}), err=True)
        else:
            error.show()
        return error.exit_code
    except PeerError as error:
        if not isinstance(error, ReaderGone):
            _put_error(invocation, error)
        return exit_code_of(error)
    except Exception as error:
        _put_fault(invocation, error)
        return ExitCode.OTHER
    return code if isinstance(code, int) else ExitCode.DONE


def _put_error(invocation: Invocation, error: PeerError) -> None:
    message, advice = in_typed_words(str(error), error.advice, invocation.options)
    if message != str(error):
        error.args, error.advice = (message,), advice
    render.put_error(error, is_json=invocation.json, quiet=invocation.quiet)


def _put_fault(invocation: Invocation, error: Exception) -> None:
    if invocation.verbose:
        click.echo(on_lines("".join(traceback.format_exception(error))), err=True, nl=False)
    own = PeerError(
        f"internal error: {type(error).__name__}: {error}",
        advice="This is a bug in handfast. Run the command again with -v to get a traceback.",
    )
    _put_error(invocation, own)


def show(invocation: Invocation, value: object) -> int:
    """Print the value, or each value, that a verb returns. Return the exit code."""
    _log_to_stderr(invocation)
    if inspect.iscoroutine(value):
        return _run(_show_later(invocation, value), invocation.screen)
    if isinstance(value, AsyncIterator):
        return _run(_show_each(invocation, value), invocation.screen)
    return _show_one(invocation, value)


def _run(work: Coroutine[object, object, int], screen: Screen) -> int:
    """Run a verb. SIGTERM and SIGHUP end it as Ctrl-C does: sessions are closed first.

    Returns the exit code; 128 and the number of the signal if one ended it, as shells do.
    """
    received: list[int] = []

    async def main() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) ignores SIGHUP
                loop.add_signal_handler(number, stop, number)
        report_waits(screen.begin_wait)
        return await work

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0]


async def _show_later(invocation: Invocation, work: Coroutine[object, object, object]) -> int:
    try:
        if (seconds := invocation.seconds_left()) is None:
            value = await work
        else:
            async with Deadline(seconds):
                value = await work
    finally:
        invocation.screen.done()
    return _show_one(invocation, value)


async def _show_each(invocation: Invocation, values: AsyncIterator[object]) -> int:
    first_failure = 0
    try:
        async for value in values:
            invocation.screen.done()
            first_failure = first_failure or _show_one(invocation, value)
    finally:
        invocation.screen.done()
        close = getattr(values, "aclose", None)
        if close is not None:
            await close()
    return first_failure


def _show_one(invocation: Invocation, value: object) -> int:
    if value is not None:
        render.put_out(value, invocation.screen, is_json=invocation.json, is_raw=invocation.raw)
    return int(getattr(value, "exit_code", 0))


def _log_to_stderr(invocation: Invocation) -> None:
    level = logging.ERROR if invocation.quiet else logging.WARNING
    level = {0: level, 1: logging.INFO}.get(invocation.verbose, logging.DEBUG)
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
    cls=Verbs, params=list(SHARED_OPTIONS), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(_version(), prog_name="handfast")
def main() -> None:
    """Pair with a device once; afterwards every connection is authenticated by both keys."""


if __name__ == "__main__":
    main()
