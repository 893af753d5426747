"""`invite` and `invites …`: a string or a QR code that makes whoever gets it a user."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from device_app.commands.common import Talk, Verb, Verbs
from device_app.terminal import picture_files, render
from peer.terminal import qr
from peer.terminal.durations import TIME_EXAMPLES, resolve_time
from peer.terminal.param_types import Duration, Time


@click.command(cls=Verb)
@click.argument("name")
@click.option("--role", default="guest", show_default=True, help="What they will be.")
@click.option(
    "--for",
    "seconds",
    type=Duration(),
    metavar="TIME",
    help="How long it is good: 2d (default), 1h.",
)
@click.option(
    "--until",
    type=Time(whole_day=True),
    metavar="TIME",
    help=f"When their access ends. {TIME_EXAMPLES}.",
)
@click.option("--uses", type=int, default=1, show_default=True, help="How many may use it.")
@click.option("--key", metavar="FP", help="Only the client with this fingerprint may use it.")
@click.option("--qr", "show_qr", is_flag=True, help="Show it as a QR code as well (on stderr).")
@click.option("--png", type=click.Path(path_type=Path), help="Write the QR code to a new file.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write the QR code to a new file.")
@click.pass_obj
def invite(
    talk: Talk,
    *,
    name: str,
    role: str,
    seconds: float | None,
    until: float | timedelta | None,
    uses: int,
    key: str | None,
    show_qr: bool,
    png: Path | None,
    svg: Path | None,
) -> None:
    """Invite somebody: prints a token that makes its holder a user, once, also from afar.

    Send it as you would send a key: whoever has it can use it. It is shown this one time.

    Example: handfast-device invite anna --role user --for 1d --qr
    """
    pictures = [(path, draw) for path, draw in ((png, qr.png), (svg, qr.svg)) if path is not None]
    for path, _ in pictures:
        picture_files.require_new(path)  # before there is an invite that nobody has seen
    wish: dict[str, Any] = {"name": name, "role": role, "uses": uses}
    if seconds is not None:
        wish["seconds"] = seconds
    if until is not None:
        wish["not_after"] = resolve_time(until, talk.now()) or None
    if key is not None:
        wish["key"] = key
    made = talk.do("invite", {"wish": wish})["invite"]
    talk.show({"invite": made}, [made["token"]])
    for line in render.invite_lines(made, talk.now()):
        talk.say(line)
    for path, draw in pictures:
        picture_files.write(path, draw(made["token"]))
    if show_qr:
        for line in qr.stderr_lines(made["token"]):
            render.talk(line)


@click.group(cls=Verbs, invoke_without_command=True)
@click.pass_context
def invites(ctx: click.Context) -> None:
    """The invites that can still be used; without a verb it lists them.

    Example: handfast-device invites
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.obj)


@invites.command(name="list", cls=Verb)
@click.pass_obj
def invites_list(talk: Talk) -> None:
    """Every invite that can still be used; never its token.

    Example: handfast-device invites list --json
    """
    _list(talk)


def _list(talk: Talk) -> None:
    value = talk.do("invites-list")
    talk.show(value, render.invites_lines(value["invites"], talk.now()))


@invites.command(name="withdraw", cls=Verb)
@click.argument("invite_id", metavar="ID")
@click.pass_obj
def invites_withdraw(talk: Talk, *, invite_id: str) -> None:
    """Make an invite worth nothing. The first digits of its id will do.

    Example: handfast-device invites withdraw 3f9a
    """
    value = talk.do("invites-withdraw", {"id": invite_id})
    talk.show(value, [f"withdrawn {value['withdrawn']}"])
