"""The classes of verbs, and the options that all verbs share.

This is all that `--help` and shell completion need. A verb that runs imports `commands.common`, and
with it the console.
"""

import gc
import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

import click

from peer.terminal import streams
from peer.terminal.exit_codes import EXIT_CODE_MEANINGS, ExitCode
from peer.terminal.lazy_verbs import completions
from peer.terminal.usage_errors import wants_json
from peer.terminal.verb_search import resolved_verb

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_SENTENCE: Final = 200  # characters; click cuts a longer description of a verb

SYNONYMS: Final = MappingProxyType(
    {
        "approve": "accept",
        "audit": "events",
        "daemon": "run",
        "deny": "refuse",
        "factory-reset": "reset",
        "id": "fingerprint",
        "key": "fingerprint",
        "log": "logs",
        "pair": "open",
        "qr": "label",
        "reject": "refuse",
        "revoke": "users",
        "rules": "policy",
        "serve": "run",
        "setup": "init",
        "start": "run",
        "time": "clock",
    }
)
"""Words of other programs, each with the verb that does this here."""


class _Described:
    """Adds the shared options and an example to a click command."""

    params: list[click.Parameter]
    example: str

    def __init__(self, *args: object, example: str, **options: object) -> None:
        super().__init__(*args, **options)
        self.example = example
        self.params += _shared_options()

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            formatter.write_text(self.example)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs, each with its first sentence in full."""
        if isinstance(self, Family):
            with formatter.section("Verbs"):
                formatter.write_dl(list(self.about(ctx).items()))

    def invoke(self, ctx: click.Context) -> object:
        """Take over the shared options, and run the command; errors name the options of it."""
        from device_app.commands.common import (  # noqa: PLC0415
            name_options,
            name_service,
            use_options,
        )
        from device_app.errors import AppError  # noqa: PLC0415
        from peer.errors import PeerError  # noqa: PLC0415

        use_options(ctx)
        try:
            return super().invoke(ctx)  # type: ignore[misc]  # the method of the click class
        except (AppError, PeerError) as error:
            name_options(error, self.params)
            name_service(error, ctx.obj.paths)
            raise


class Verb(_Described, click.Command):
    """A verb."""


class Family(_Described, click.Group):
    """A family of verbs, as in `users add`."""

    synonyms: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def about(self, ctx: click.Context) -> dict[str, str]:
        """Return the first sentence of the help of each verb."""
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        return {name: verb.get_short_help_str(_SENTENCE) for name, verb in verbs if verb}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a verb; an error suggests the one that was probably meant."""
        return resolved_verb(self, super().resolve_command, ctx, args, self.synonyms)


class TopLevel(Family):
    """`handfast-device` itself: imports verbs when they are used, and returns the exit codes.

    Args:
        verbs: the module in `device_app.commands`, the function in it and the first sentence of
            the help of each verb, in the order in which a new user needs them.
    """

    synonyms = SYNONYMS

    def __init__(
        self, *args: object, verbs: Mapping[str, tuple[str, str, str]], **options: object
    ) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # as click passes them
        self._verbs = verbs

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All verbs."""
        return list(self._verbs)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a verb; None if there is no verb of that name."""
        if cmd_name not in self._verbs:
            return None
        module, function, _ = self._verbs[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(f"device_app.commands.{module}"), function
        )
        return command

    def about(self, _ctx: click.Context) -> dict[str, str]:
        """Return the first sentence of the help of each verb, without importing it."""
        return {name: text for name, (_, _, text) in self._verbs.items()}

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete verbs and options without importing the verbs."""
        return completions(self, ctx, incomplete, self.about(ctx))

    def main(  # type: ignore[override]  # it never returns
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **_settings: object
    ) -> NoReturn:
        """Run the command line, and exit with its exit code."""
        streams.prepare()
        words = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(words, prog_name, standalone_mode=False)
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:
            from device_app.commands.outcome import report  # noqa: PLC0415 - most have no error

            is_verbose = any(re.fullmatch(r"-v+|--verbose", word) for word in words)
            code = report(error, as_json=wants_json(words), is_verbose=is_verbose)
        gc.freeze()  # the interpreter would look for cycles twice more, which takes 20 ms
        sys.exit(code if isinstance(code, int) else ExitCode.DONE)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example and the exit codes."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            codes = (f"{code:d} {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items())
            formatter.write_text(", ".join(codes))


def _shared_options() -> list[click.Parameter]:
    """The options that can be given before or after a verb."""
    return [
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Folder of all files of the device.  [default: the system's or your user's]",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, schema 1."),
        click.Option(
            ["-q", "--quiet"], is_flag=True, help="Print no messages, only results and errors."
        ),
        click.Option(["-v", "--verbose"], count=True, help="Print more messages; -vv prints all."),
    ]
