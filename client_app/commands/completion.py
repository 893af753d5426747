"""`handfast completion`: shell completion of verbs, options and devices."""

import click
from click.shell_completion import get_completion_class

from client_app.commands.common import Verb
from client_app.commands.invocation import Invocation

VARIABLE = "_HANDFAST_COMPLETE"


@click.command(cls=Verb, epilog='eval "$(handfast completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> bytes:
    """Print a shell completion script."""
    found = get_completion_class(shell)
    assert found is not None
    ctx.ensure_object(Invocation)
    source = found(ctx.find_root().command, {}, "handfast", VARIABLE).source()
    return f"{source}\n".encode()
