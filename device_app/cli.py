"""The `handfast-device` command line. Its verbs are in `device_app.commands`."""

import click
from click import shell_completion

from device_app.commands import (
    backup,
    check,
    daemon,
    events,
    identity,
    invites,
    label,
    logs,
    policy,
    restore,
    status,
    users,
    window,
)
from device_app.commands.common import TopLevel, Verb
from device_app.console.status import package_version
from device_app.terminal import output


@click.group(
    cls=TopLevel,
    context_settings={"help_option_names": ["-h", "--help"]},
    example="handfast-device run --pair",
)
@click.version_option(package_version(), prog_name="handfast-device")
def main() -> None:
    """Run a handfast device and manage its users, pairing and policies.

    The verbs that manage users, invites, policies and the store also work while the device is not
    running.
    """


@click.command(cls=Verb, example="source <(handfast-device completion bash)")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print a shell completion script."""
    kind = shell_completion.get_completion_class(shell)
    assert kind is not None
    script = kind(main, {}, "handfast-device", "_HANDFAST_DEVICE_COMPLETE").source()
    output.lines([script])


for verb in (
    daemon.init,
    check.check,
    daemon.run,
    window.open_window,
    window.close_window,
    window.press,
    window.pending,
    window.accept,
    window.refuse,
    status.status,
    status.health,
    logs.logs,
    status.fingerprint,
    label.label,
    users.users,
    invites.invite,
    invites.invites,
    policy.policy,
    events.events,
    daemon.clock,
    backup.backup,
    restore.restore,
    identity.new_identity,
    daemon.reset,
    completion,
):
    main.add_command(verb)
