"""`handfast-device`: the command line of the daemon (cli.md)."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from click import shell_completion

from device_app import logs, offline, render
from device_app.config import Settings
from device_app.control import call
from device_app.durations import seconds_of
from device_app.errors import AppError, Exit, NoDaemon, exit_code
from device_app.places import Places
from device_app.status import health_of, package_version
from device_app.waiting import Waiting
from iam.errors import IamError
from peer.errors import PeerError
from peer.net.onlink import LocalMode


@dataclass(slots=True)
class Talk:
    """How this call talks, and where its files are."""

    places: Places
    as_json: bool
    verbosity: int

    def ask(self, verb: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the running daemon. Raises `NoDaemon`."""
        return asyncio.run(call(self.places.socket, verb, args or {}))

    def show(self, value: dict[str, Any], lines: Sequence[str]) -> None:
        """The same answer for programs or for people."""
        if self.as_json:
            render.data(value)
        else:
            render.lines(lines)


class _Group(click.Group):
    """Turns our errors into words on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (AppError, PeerError, IamError) as error:
            render.failure(str(error), error.advice)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            render.talk("interrupted")
            ctx.exit(Exit.INTERRUPTED)


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that stand before a verb as well as after it."""
    for option in (
        click.option("--home", type=click.Path(path_type=Path), help="All files in this folder."),
        click.option("--json", "as_json", is_flag=True, help="JSON on stdout."),
        click.option("-q", "--quiet", is_flag=True, help="Errors only."),
        click.option("-v", "--verbose", count=True, help="More; twice for everything."),
    ):
        command = option(command)
    return command


class _Verb(click.Command):
    """A command that takes the common options in its own place, too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _common(self)  # click adds to a command that exists

    def invoke(self, ctx: click.Context) -> Any:
        _note_common(ctx, **{name: ctx.params.pop(name) for name in _COMMON})
        return super().invoke(ctx)


_COMMON = ("home", "as_json", "quiet", "verbose")


def _note_common(
    ctx: click.Context, *, home: Path | None, as_json: bool, quiet: bool, verbose: int
) -> None:
    """Merge what stood here with what stood before the verb."""
    before: Talk | None = ctx.find_object(Talk)
    verbosity = -1 if quiet else verbose
    if before is None or home is not None:
        places = Places.of(home, os.environ, root=os.geteuid() == 0)
    else:
        places = before.places
    if before is not None:
        as_json = as_json or before.as_json
        verbosity = verbosity or before.verbosity
    ctx.obj = Talk(places, as_json, verbosity)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_version(), prog_name="handfast-device")
@_common
@click.pass_context
def main(
    ctx: click.Context, *, home: Path | None, as_json: bool, quiet: bool, verbose: int
) -> None:
    """The device's side of handfast: run it, pair with it, say who may what.

    Example: handfast-device run --pair
    """
    _note_common(ctx, home=home, as_json=as_json, quiet=quiet, verbose=verbose)


# -- the daemon ---------------------------------------------------------------------------------


@main.command(cls=_Verb)
@click.option("--name", help="What people call this device.")
@click.option("--force", is_flag=True, help="Write the configuration anew (never the key).")
@click.pass_obj
def init(talk: Talk, *, name: str | None, force: bool) -> None:
    """Make key, store and a commented configuration; safe to repeat.

    Example: handfast-device init --name kitchen
    """
    value = offline.init(talk.places, name=name, force=force)
    talk.show(value, [f"name         {value['name']}", *render.fingerprint_lines(value)])


@main.command(cls=_Verb)
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
    settings = _with_options(offline.settings(talk.places), **options)

    def ready(status: dict[str, Any]) -> None:
        if talk.as_json:
            render.data({"event": "ready", **status})
        elif talk.verbosity >= 0:
            render.lines(render.banner_lines(status))
        render.talk("ready")

    asyncio.run(daemon.run(talk.places, settings, pair=pair, on_ready=ready))


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


# -- the window ---------------------------------------------------------------------------------


@main.command(name="open", cls=_Verb)
@click.option("--for", "duration", metavar="TIME", help="How long, for example 120s or 2m.")
@click.option("--role", help="The role of whoever pairs.")
@click.option("--methods", help="Methods to offer, separated by commas.")
@click.option("--no-wait", is_flag=True, help="Open it and return.")
@click.pass_obj
def open_window(
    talk: Talk, *, duration: str | None, role: str | None, methods: str | None, no_wait: bool
) -> None:
    """Open the pairing window, and wait until somebody has paired or it closes.

    Example: handfast-device open --for 5m --role user
    """
    args = {
        "seconds": seconds_of(duration) if duration else None,
        "role": role,
        "methods": [one.strip() for one in methods.split(",")] if methods else [],
    }
    if no_wait:
        window = talk.ask("open", args)["window"]
        left = f"{window['seconds_left']:.0f} s"
        talk.show({"window": window}, [f"open for {left} on port {window['port']}"])
        return
    waiting = Waiting(talk.places.socket, as_json=talk.as_json, quiet=talk.verbosity < 0)
    sys.exit(asyncio.run(waiting.open(args)))


@main.command(name="close", cls=_Verb)
@click.pass_obj
def close_window(talk: Talk) -> None:
    """Close the pairing window; whoever is pairing is refused.

    Example: handfast-device close
    """
    value = talk.ask("close")
    talk.show(value, ["closed" if value["closed"] else "it was closed already"])


@main.command(cls=_Verb)
@click.pass_obj
def pending(talk: Talk) -> None:
    """What waits for the device's user.

    Example: handfast-device pending
    """
    value = talk.ask("pending")
    talk.show(value, render.pending_lines(value["pending"]))


@main.command(cls=_Verb)
@click.argument("ceremony", metavar="[ID]", required=False)
@click.pass_obj
def accept(talk: Talk, *, ceremony: str | None) -> None:
    """Say yes to the client that wants to pair, after comparing its fingerprint.

    Example: handfast-device accept
    """
    done = talk.ask("accept", {"id": ceremony})["ceremony"]
    talk.show({"ceremony": done}, [f"accepted {done['name']} as {done['role']}"])


@main.command(cls=_Verb)
@click.argument("ceremony", metavar="[ID]", required=False)
@click.pass_obj
def refuse(talk: Talk, *, ceremony: str | None) -> None:
    """Say no to the client that wants to pair.

    Example: handfast-device refuse
    """
    done = talk.ask("refuse", {"id": ceremony})["ceremony"]
    talk.show({"ceremony": done}, [f"refused {done['name']}"])


# -- looking ------------------------------------------------------------------------------------


@main.command(cls=_Verb)
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


@main.command(cls=_Verb)
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


@main.command(cls=_Verb)
@click.pass_obj
def fingerprint(talk: Talk) -> None:
    """This device's fingerprint, to compare with what a client shows.

    Example: handfast-device fingerprint
    """
    value = offline.fingerprint(talk.places)
    talk.show(value, [*render.fingerprint_lines(value), f"uri          {value['ni']}"])


# -- users --------------------------------------------------------------------------------------


def _users(talk: Talk, verb: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
    """On the running daemon, where it takes effect at once, or on the store."""
    try:
        return talk.ask(verb, args)
    except NoDaemon:
        return offline.users(talk.places, verb, args or {})


@main.group()
def users() -> None:
    """The whitelist: who may do what. Changes take effect at once.

    Example: handfast-device users list
    """


@users.command(name="list", cls=_Verb)
@click.pass_obj
def users_list(talk: Talk) -> None:
    """Everybody.

    Example: handfast-device users list --json
    """
    value = _users(talk, "users-list")
    talk.show(value, render.users_lines(value["users"]))


@users.command(name="show", cls=_Verb)
@click.argument("name")
@click.pass_obj
def users_show(talk: Talk, *, name: str) -> None:
    """One user with all keys.

    Example: handfast-device users show anna
    """
    value = _users(talk, "users-show", {"name": name})
    talk.show(value, render.user_lines(value["user"]))


@users.command(name="add", cls=_Verb)
@click.argument("name")
@click.option("--role", default="guest", show_default=True)
@click.option("--key", "keys", multiple=True, metavar="FP", help="A client's fingerprint.")
@click.option("--display", default="", help="A name for people.")
@click.option("--from", "begins", type=float, help="Seconds since 1970.")
@click.option("--until", type=float, help="Seconds since 1970.")
@click.pass_obj
def users_add(
    talk: Talk,
    *,
    name: str,
    role: str,
    keys: tuple[str, ...],
    display: str,
    begins: float | None,
    until: float | None,
) -> None:
    """A user without pairing, by the fingerprint of a key you know.

    Example: handfast-device users add anna --role user --key "1a2b 3c4d …"
    """
    wish: dict[str, Any] = {"name": name, "role": role, "display": display, "keys": list(keys)}
    wish |= _times(begins, until)
    value = _users(talk, "users-add", {"wish": wish})
    talk.show(value, render.user_lines(value["user"]))


@users.command(name="set", cls=_Verb)
@click.argument("name")
@click.option("--role")
@click.option("--display")
@click.option("--rename", help="A new name.")
@click.option("--from", "begins", type=float, help="Seconds since 1970; 0 = always.")
@click.option("--until", type=float, help="Seconds since 1970; 0 = for ever.")
@click.pass_obj
def users_set(
    talk: Talk,
    *,
    name: str,
    role: str | None,
    display: str | None,
    rename: str | None,
    begins: float | None,
    until: float | None,
) -> None:
    """Change a user: role, names, from when and until when.

    Example: handfast-device users set anna --role admin
    """
    given = {"role": role, "display": display, "name": rename}
    wish = {field: value for field, value in given.items() if value is not None}
    wish |= _times(begins, until)
    if not wish:
        raise click.UsageError(
            "Nothing to change: give --role, --display, --rename, --from or --until."
        )
    value = _users(talk, "users-set", {"name": name, "wish": wish})
    talk.show(value, render.user_lines(value["user"]))


def _times(begins: float | None, until: float | None) -> dict[str, Any]:
    given = {"not_before": begins, "not_after": until}
    return {field: value or None for field, value in given.items() if value is not None}


@users.command(name="remove", cls=_Verb)
@click.argument("name")
@click.pass_obj
def users_remove(talk: Talk, *, name: str) -> None:
    """Remove a user with all keys; their sessions end at once.

    Example: handfast-device users remove anna
    """
    value = _users(talk, "users-remove", {"name": name})
    talk.show(value, [f"removed {name}"])


@users.command(name="add-key", cls=_Verb)
@click.argument("name")
@click.argument("fingerprint", metavar="FP")
@click.option("--key-name", default="", help="To tell the user's keys apart: laptop, phone.")
@click.pass_obj
def users_add_key(talk: Talk, *, name: str, fingerprint: str, key_name: str) -> None:
    """One more key for a user.

    Example: handfast-device users add-key anna "1a2b 3c4d …" --key-name phone
    """
    args = {"name": name, "fingerprint": fingerprint, "key_name": key_name}
    value = _users(talk, "users-add-key", args)
    talk.show(value, render.user_lines(value["user"]))


@users.command(name="remove-key", cls=_Verb)
@click.argument("name")
@click.argument("fingerprint", metavar="FP")
@click.pass_obj
def users_remove_key(talk: Talk, *, name: str, fingerprint: str) -> None:
    """Take one key from a user; its sessions end at once, those of other keys go on.

    Example: handfast-device users remove-key anna "1a2b 3c4d …"
    """
    value = _users(talk, "users-remove-key", {"name": name, "fingerprint": fingerprint})
    talk.show(value, render.user_lines(value["user"]))


# -- the rest --------------------------------------------------------------------------------------


@main.command(cls=_Verb)
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
    args = {"keep_identity": keep_identity}
    try:
        value = talk.ask("reset", args)
    except NoDaemon:
        value = offline.reset(talk.places, keep_identity=keep_identity)
    talk.show(value, ["this device has forgotten everybody"])


@main.command(cls=_Verb)
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
