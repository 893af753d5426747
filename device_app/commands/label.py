"""`label`: what to print on the board."""

import sys
from pathlib import Path
from typing import Final

import click

from device_app.commands.common import CommandLine
from device_app.commands.verbs import Verb
from device_app.console.console import Console
from device_app.terminal import output, picture_files
from peer.terminal import qr

_NEXT_STEPS: Final = """\
These are the text of the QR code, and the code to type. Print both on the
label; they cannot be shown again. To try them, run `handfast-device open`, and
on a client:
  handfast pair PICTURE      or      handfast pair --code CODE"""


@click.command(cls=Verb, example="handfast-device label --svg box.svg")
@click.option("--png", type=click.Path(path_type=Path), help="Write the QR code to this new file.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write the QR code to this new file.")
@click.option("--terminal", is_flag=True, help="Print the QR code, to stderr.")
@click.option("--yes", is_flag=True, help="Replace an existing label, which becomes invalid.")
@click.option("--revive", is_flag=True, help="Create no label, but unblock the code on this one.")
@click.pass_obj
def label(
    cli: CommandLine, *, png: Path | None, svg: Path | None, terminal: bool, yes: bool, revive: bool
) -> None:
    """Create a label for the board: a QR code to scan, and a code to type instead.

    While the pairing window is open, anyone who has seen the label can pair. Put it where only the
    right people can see it. The label is shown once; the device stores nothing that it can be
    printed from again. A picture also has the name, the ID and the code to type, below the QR code.

    After too many failed attempts, the code on the label is blocked; the QR code is not. --revive
    unblocks it.
    """
    if revive:
        if png or svg or terminal or yes:
            raise click.UsageError("--revive cannot be combined with other options.")
        answer = cli.do(Console.label_revive)
        state = "unblocked" if answer["revived"] else "not blocked"
        cli.show(answer, lambda: [f"the code on the label is {state}"])
        return
    pictures = picture_files.requested(png=png, svg=svg)
    own = cli.identity()
    created = cli.do(Console.label, replace=yes)["label"]
    cli.show({"label": created}, lambda: [created["text"], created["code"]])
    caption = (own["name"], own["id"], created["code"])
    picture_files.write_all(pictures, created["text"], caption)
    if terminal or (sys.stderr.isatty() and not pictures and cli.verbosity >= 0):
        for line in qr.stderr_lines(created["text"]):
            output.message(line)
    if not cli.as_json:
        from peer.pairing import jpake  # noqa: PLC0415 - takes long, for this verb only

        cli.message(_NEXT_STEPS)
        if no_curve := jpake.unavailable():
            cli.message(f"The code cannot be used here: {no_curve}.")
