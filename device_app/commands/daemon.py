"""`init`, `run`, `clock` and `reset`: a device comes to be, lives, and forgets."""

import asyncio
import os
import sys
from dataclasses import replace
from typing import Any

import click

from device_app import logs
from device_app.commands.common import Talk, Verb
from device_app.config import Settings
from device_app.console import offline
from device_app.errors import AppError, NoDaemon
from device_app.terminal import render
from peer.net.onlink import LocalMode


@click.command(cls=Verb)
@click.option("--name", help="What people call this device.")
@click.option("--force", is_flag=True, help="Write the configuration anew (never the key).")
@click.pass_obj
def init(talk: Talk, *, name: str | None, force: bool) -> None:
    """Make key, store and a commented configuration; safe to repeat.

    Example: handfast-device init --name kitchen
    """
    value = offline.init(talk.places, name=name, force=force)
    talk.show(value, [f"name         {value['name']}", *render.fingerprint_lines(value)])


@click.command(cls=Verb)
@click.option("--pair", is_flag=True, help="Open the pairing window at the start.")
@click.option("--port", type=click.IntRange(0, 65535), help="For paired clients; 0 = any.")
@click.option("--pairing-port", type=click.IntRange(0, 65535), help="While the window is open.")
@click.option("--listen", multiple=True, metavar="ADDR", help="Listen here (repeatable).")
@click.option("--interface", multiple=True, metavar="NAME|ADDR", help="Announce here only.")
@click.option("--allow-loopback", is_flag=True, help="Loopback is local: demo and tests only.")
@click.option("--local", type=click.Choice([mode.value for mode in LocalMode]))
@click.pass_obj
def run(talk: Talk, /, *, pair: bool, **options: Any) -> None:
    """The daemon. On a terminal it asks in place who may pair.

    Example: handfast-device run --pair
    """
    from device_app import daemon  # noqa: PLC0415  # the other verbs do without its start-up time

    logs.set_up(talk.verbosity)
    daemon.protect(talk.places)
    settings = _with_options(offline.settings(talk.places), **options)

    def ready(status: dict[str, Any]) -> None:
        if talk.as_json:
            render.data({"event": "ready", **_without_code(status)})
        elif talk.verbosity >= 0:
            render.lines(render.banner_lines(status))
        render.talk("ready")

    quiet = talk.as_json or talk.verbosity < 0
    asyncio.run(daemon.run(talk.places, settings, pair=pair, quiet=quiet, on_ready=ready))


def _without_code(status: dict[str, Any]) -> dict[str, Any]:
    """What a daemon prints may stay in a log; who shows the code asks `status` or `open` for it."""
    window = {name: value for name, value in status["window"].items() if name != "code"}
    return {**status, "window": window}


def _with_options(
    settings: Settings,
    *,
    port: int | None,
    pairing_port: int | None,
    listen: tuple[str, ...],
    interface: tuple[str, ...],
    allow_loopback: bool,
    local: str | None,
) -> Settings:
    """What the command line and the environment say wins over the files."""
    named = os.environ.get("HANDFAST_INTERFACES", "")
    interface = interface or tuple(part.strip() for part in named.split(",") if part.strip())
    return replace(
        settings,
        port=settings.port if port is None else port,
        pairing_port=settings.pairing_port if pairing_port is None else pairing_port,
        listen=listen or settings.listen,
        interfaces=interface or settings.interfaces,
        allow_loopback=allow_loopback or settings.allow_loopback,
        local=LocalMode(local) if local else settings.local,
    )


@click.command(cls=Verb)
@click.option("--trust-system", is_flag=True, help="The system's clock is right: go by it.")
@click.pass_obj
def clock(talk: Talk, *, trust_system: bool) -> None:
    """The time that users and invites end by; it never runs back by itself.

    Example: handfast-device clock --trust-system
    """
    value = talk.do("clock", {"trust_system": trust_system})
    talk.show(value, render.clock_lines(value))


@click.command(cls=Verb)
@click.option("--keep-identity", is_flag=True, help="Keep the key; forget the users only.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(talk: Talk, *, keep_identity: bool, yes: bool) -> None:
    """Factory reset: forget every user, and make a new key.

    Example: handfast-device reset --yes
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("This asks first; without a terminal, give --yes.")
        what = "every user" if keep_identity else "every user, and this device's identity"
        render.talk(f"This forgets {what}. There is no way back.")
        if not click.confirm("Go on?", err=True):
            raise AppError("nothing was changed")
    try:
        value = talk.ask("reset", {"keep_identity": keep_identity})
    except NoDaemon:
        value = offline.reset(talk.places, keep_identity=keep_identity)
    talk.show(value, ["this device has forgotten everybody"])
