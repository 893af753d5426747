"""`handfast-device`: the command line of the daemon.

Verbs live in `device_app.commands`, one file per family; `common` has what they share.
"""

from pathlib import Path

import click
from click import shell_completion

from device_app.commands import (
    daemon,
    events,
    invites,
    label,
    policy,
    restore,
    status,
    users,
    window,
)
from device_app.commands.common import Group, Talk, Verb, common, note_common
from device_app.console.status import package_version
from device_app.terminal import render


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_version(), prog_name="handfast-device")
@common
@click.pass_context
def main(
    ctx: click.Context, *, home: Path | None, as_json: bool, quiet: bool, verbose: int
) -> None:
    """The device's side of handfast: run it, pair with it, say who may what.

    Example: handfast-device run --pair
    """
    note_common(ctx, home=home, as_json=as_json, quiet=quiet, verbose=verbose)


@click.command(cls=Verb)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def completion(_talk: Talk, *, shell: str) -> None:
    """Completion for a shell, to be sourced by it.

    Example: source <(handfast-device completion bash)
    """
    kind = shell_completion.get_completion_class(shell)
    assert kind is not None
    name = "handfast-device"
    render.lines([kind(main, {}, name, "_HANDFAST_DEVICE_COMPLETE").source()])


for verb in (
    daemon.init,
    daemon.run,
    window.open_window,
    window.close_window,
    window.press,
    window.pending,
    window.accept,
    window.refuse,
    status.status,
    status.health,
    status.fingerprint,
    label.label,
    users.users,
    invites.invite,
    invites.invites,
    policy.policy,
    events.events,
    daemon.clock,
    restore.restore,
    daemon.reset,
    completion,
):
    main.add_command(verb)
