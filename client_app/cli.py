"""The `handfast` command line.

Each verb is a module in `client_app.commands` that is imported when the verb is used. Verbs return
values; this module prints them and maps errors to exit codes.
"""

import gc
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NoReturn

import click

from client_app.commands.common import SHARED_OPTIONS, Verb
from client_app.commands.invocation import Invocation
from client_app.terminal.screen import Screen
from peer.errors import PeerError
from peer.terminal import streams
from peer.terminal.exit_codes import EXIT_CODE_MEANINGS, ExitCode, exit_code_of
from peer.terminal.lazy_verbs import completions
from peer.terminal.streams import ReaderGone
from peer.terminal.usage_errors import usage_error, wants_json
from peer.terminal.verb_search import resolved_verb
from peer.terminal.version import version_option
from peer.terminal.wire_words import in_typed_words

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

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
        "tunnel": ("tunnel", "Forward local ports to TCP services of a device."),
        "connect": ("connect", "Connect standard input and output to a TCP service of a device."),
        "services": ("services", "List the TCP services of a device."),
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
        "remote": ("remote", "Show how a device is reached from other networks."),
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
        "forward": "tunnel",
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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete verbs and options without importing the verbs."""
        return completions(
            self, ctx, incomplete, {name: about for name, (_, about) in VERBS.items()}
        )

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
        code = _outcome(invocation, run)
        gc.freeze()  # the interpreter would look for cycles twice more, which takes 20 ms
        sys.exit(code)


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
            from client_app.terminal.render import json_line  # noqa: PLC0415 - for this error only

            click.echo(json_line({"error": usage_error(error)}), err=True)
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
    from client_app.terminal.render import put_error  # noqa: PLC0415 - only errors need it

    put_error(error, is_json=invocation.json, quiet=invocation.quiet)


def _put_fault(invocation: Invocation, error: Exception) -> None:
    if invocation.verbose:
        import traceback  # noqa: PLC0415 - slow, and this is a bug

        from peer.terminal.text import on_lines  # noqa: PLC0415 - as above

        click.echo(on_lines("".join(traceback.format_exception(error))), err=True, nl=False)
    own = PeerError(
        f"internal error: {type(error).__name__}: {error}",
        advice="This is a bug in handfast. Run the command again with -v to get a traceback.",
    )
    _put_error(invocation, own)


def show(invocation: Invocation, value: object) -> int:
    """Print the value, or each value, that a verb returns. Return the exit code."""
    if isinstance(value, Coroutine | AsyncIterator):
        from client_app.commands.running import run  # noqa: PLC0415 - other verbs need no loop

        return run(invocation, value, _show_one)
    return _show_one(invocation, value)


def _show_one(invocation: Invocation, value: object) -> int:
    if value is not None:
        from client_app.terminal.render import put_out  # noqa: PLC0415 - `--help` needs it not

        put_out(value, invocation.screen, is_json=invocation.json, is_raw=invocation.raw)
    return int(getattr(value, "exit_code", 0))


Verb.show = staticmethod(show)


@click.group(
    cls=Verbs, params=list(SHARED_OPTIONS), context_settings={"help_option_names": ["-h", "--help"]}
)
@version_option("handfast")
def main() -> None:
    """Pair with a device once; afterwards every connection is authenticated by both keys."""


if __name__ == "__main__":
    main()
