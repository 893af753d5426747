"""`completion`: a script for the completion of verbs and options in a shell."""

import click
from click import shell_completion

from device_app.commands.verbs import Verb
from device_app.terminal import output


@click.command(cls=Verb, example="source <(handfast-device completion bash)")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, /, *, shell: str) -> None:
    """Print a shell completion script."""
    kind = shell_completion.get_completion_class(shell)
    assert kind is not None
    main = ctx.find_root().command
    output.lines([kind(main, {}, "handfast-device", "_HANDFAST_DEVICE_COMPLETE").source()])
