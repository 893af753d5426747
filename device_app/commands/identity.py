"""`new-identity`: a new key for a board that was made from a copied SD card."""

import click

from device_app.commands.common import CommandLine, yes_option
from device_app.commands.verbs import Verb
from device_app.console.answers import NewIdentityAnswer
from device_app.console.console import Console
from device_app.terminal.render_status import id_and_fingerprint_lines
from peer.identity import Fingerprint


@click.command(cls=Verb, example="handfast-device new-identity --yes")
@click.option(
    "--only-if",
    metavar="FINGERPRINT",
    help="Do nothing unless this is the device's fingerprint, so that it can be repeated.",
)
@yes_option
@click.pass_obj
def new_identity(cli: CommandLine, *, only_if: str | None, yes: bool) -> None:
    """Give this device a new key, and keep its users.

    Use this on one of two devices that have the same key, because an SD card was copied. The name,
    the users, their rights and the settings stay.

    Every client knows the device by its key. Afterwards each of them has to run `handfast forget`,
    and to pair with the device again; a client whose key is known keeps its user. Invites and the
    label of the device become invalid. A running daemon starts again.
    """
    present = cli.identity()
    if only_if is None or Fingerprint.parse(only_if).hex == present["fingerprint"]:
        cli.confirm(
            f"This replaces the key {present['id']} of {present['name']}. Every client has to pair "
            "again, and all invites and the label become invalid. It cannot be undone.",
            yes=yes,
        )
    answer = cli.do(Console.new_identity, only_if=only_if)
    cli.show(answer, lambda: _lines(answer))


def _lines(answer: NewIdentityAnswer) -> list[str]:
    if not answer["changed"]:
        return [
            "nothing was changed: this device has another key",
            *id_and_fingerprint_lines(answer["fingerprint"]),
        ]
    ended = [f"{answer['invites']} invites"] if answer["invites"] else []
    ended += ["the label"] if answer["label"] else []
    found = id_and_fingerprint_lines(answer["fingerprint"])
    if ended:
        found.append(f"invalid      {' and '.join(ended)}")
    return [
        *found,
        f"users        {answer['users']}, all kept",
        "Each client has to run `handfast forget` and to pair again: `handfast-device open`.",
    ]
