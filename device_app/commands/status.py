"""`status`, `health` and `fingerprint`: looking, without touching anything."""

import sys

import click

from device_app.commands.common import Talk, Verb
from device_app.console import offline
from device_app.console.status import health_of
from device_app.errors import Exit, NoDaemon
from device_app.terminal import render


@click.command(cls=Verb)
@click.pass_obj
def status(talk: Talk) -> None:
    """Everything a person asks first; works without a daemon as well.

    Example: handfast-device status --json
    """
    try:
        value = talk.ask("status")
    except NoDaemon:
        value = offline.status(talk.places)
    talk.show(value, render.status_lines(value))


@click.command(cls=Verb)
@click.pass_obj
def health(talk: Talk) -> None:
    """Exit 0 if all is well, 1 if not: for service managers and scripts.

    Example: handfast-device health && echo fine
    """
    try:
        value, code = health_of(talk.ask("status"))
    except NoDaemon as error:
        value, code = {"healthy": False, "problems": [str(error)]}, Exit.OTHER
    talk.show(value, value["problems"] or ["healthy"])
    sys.exit(code)


@click.command(cls=Verb)
@click.pass_obj
def fingerprint(talk: Talk) -> None:
    """This device's fingerprint, to compare with what a client shows.

    Example: handfast-device fingerprint
    """
    value = offline.fingerprint(talk.places)
    talk.show(value, [*render.fingerprint_lines(value), f"uri          {value['ni']}"])
