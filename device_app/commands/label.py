"""`label`: what to print on the board."""

import sys
from pathlib import Path

import click

from device_app.commands.common import Talk, Verb
from device_app.console import offline
from device_app.errors import NoDaemon
from device_app.terminal import picture_files, render
from peer.terminal import qr

_TOLD = """\
Above: what the QR code says, and the code to type where nothing can scan it.
Nobody is told them again. Print both, and try them while the window is open:
  handfast pair PICTURE      or      handfast pair --code CODE"""


@click.command(cls=Verb)
@click.option("--png", type=click.Path(path_type=Path), help="Write the QR code to a new file.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write the QR code to a new file.")
@click.option("--terminal", is_flag=True, help="Show the QR code (on stderr).")
@click.option("--yes", is_flag=True, help="Replace the label there is: it is worth nothing then.")
@click.option("--revive", is_flag=True, help="Keep the label; let its code be used again.")
@click.pass_obj
def label(
    talk: Talk, *, png: Path | None, svg: Path | None, terminal: bool, yes: bool, revive: bool
) -> None:
    """Make a label for the board: a QR code to scan, and a code to type where nothing can scan.

    Whoever has seen it can pair while the window is open, so put it where only those look who may.
    It is told this one time; another run makes another label.

    Too many failed tries in a row block the code, not the QR code. --revive ends that.

    Example: handfast-device label --svg box.svg
    """
    if revive:
        if png or svg or terminal or yes:
            raise click.UsageError("--revive makes no new label; give it alone.")
        _revive(talk)
        return
    pictures = [(path, draw) for path, draw in ((png, qr.png), (svg, qr.svg)) if path is not None]
    for path, _ in pictures:
        picture_files.require_new(path)
    try:
        made = talk.ask("label", {"replace": yes})["label"]
    except NoDaemon:
        made = offline.label(talk.places, replace=yes)["label"]
    talk.show({"label": made}, [made["text"], made["code"]])
    for path, draw in pictures:
        picture_files.write(path, draw(made["text"]))
    if terminal or (sys.stderr.isatty() and not pictures and talk.verbosity >= 0):
        for line in qr.stderr_lines(made["text"]):
            render.talk(line)
    if not talk.as_json:
        talk.say(_TOLD)


def _revive(talk: Talk) -> None:
    try:
        value = talk.ask("label-revive")
    except NoDaemon:
        value = offline.revive_label(talk.places)
    line = "works again" if value["revived"] else "was not blocked"
    talk.show(value, [f"the code on the label {line}"])
