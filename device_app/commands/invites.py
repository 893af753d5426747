"""`invite` and `invites …`: texts or QR codes with which their recipients become users."""

from datetime import timedelta
from pathlib import Path

import click

from device_app.access.invitations import InviteRequest
from device_app.commands.common import CommandLine, yes_option
from device_app.commands.verbs import Family, Verb
from device_app.console.console import Console
from device_app.terminal import output, picture_files
from device_app.terminal.render_users import invite_lines, invites_lines
from iam.limits import INVITE_USES_MAX
from peer.terminal import qr
from peer.terminal.durations import TIME_EXAMPLES, resolve_time
from peer.terminal.param_types import Duration, Time


@click.command(cls=Verb, example="handfast-device invite anna --role user --for 1d --until 3d --qr")
@click.argument("name")
@click.option("--role", default="guest", show_default=True, help="Role of the new user.")
@click.option(
    "--for",
    "seconds",
    type=Duration(),
    metavar="TIME",
    help="How long the invite is valid.  [default: 2d]",
)
@click.option(
    "--until", "end", type=Time(whole_day=True), help=f"When the access ends: {TIME_EXAMPLES}."
)
@click.option(
    "--uses",
    type=click.IntRange(1, INVITE_USES_MAX),
    default=1,
    show_default=True,
    help="How many clients may use it.",
)
@click.option(
    "--key",
    metavar="FP",
    help="Only the client with this fingerprint can use it, as `handfast fingerprint` prints it.",
)
@yes_option
@click.option("--qr", "show_qr", is_flag=True, help="Also print a QR code, to stderr.")
@click.option("--png", type=click.Path(path_type=Path), help="Write the QR code to this new file.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write the QR code to this new file.")
@click.pass_obj
def invite(
    cli: CommandLine,
    *,
    name: str,
    role: str,
    seconds: float | None,
    end: float | timedelta | None,
    uses: int,
    key: str | None,
    yes: bool,
    show_qr: bool,
    png: Path | None,
    svg: Path | None,
) -> None:
    """Create an invite: a text with which its recipient becomes the user NAME.

    The recipient passes it to `handfast pair`, where an address of the device can be reached: an
    invite does not use the device's broker. Treat it like a password and send it over a private
    channel: anyone who obtains it can use it. It cannot be shown again. If --until is in the past,
    you are asked to confirm.
    """
    cli.confirm_times(end=end, yes=yes)
    pictures = picture_files.requested(png=png, svg=svg)
    request = InviteRequest(
        name=name,
        role=role,
        seconds=seconds,
        uses=uses,
        key=key,
        not_after=(resolve_time(end, cli.now()) or None) if end is not None else None,
    )
    created = cli.do(Console.invite, body=request)["invite"]
    cli.show({"invite": created}, lambda: [created["token"]])
    for line in invite_lines(created, cli.now()):
        cli.message(line)
    picture_files.write_all(pictures, created["token"])
    if show_qr:
        for line in qr.stderr_lines(created["token"]):
            output.message(line)


@click.group(cls=Family, invoke_without_command=True, example="handfast-device invites")
@click.pass_context
def invites(ctx: click.Context) -> None:
    """List and withdraw the invites that can still be used. Without a verb, list them."""
    if ctx.invoked_subcommand is None:
        _list(ctx.obj)


@invites.command(name="list", cls=Verb, example="handfast-device invites list --json")
@click.pass_obj
def invites_list(cli: CommandLine) -> None:
    """List the invites that can still be used. Their texts cannot be shown again."""
    _list(cli)


def _list(cli: CommandLine) -> None:
    answer = cli.do(Console.invites_list)
    cli.show(answer, lambda: invites_lines(answer["invites"], cli.now()))


@invites.command(name="withdraw", cls=Verb, example="handfast-device invites withdraw 3f9a")
@click.argument("invite_id", metavar="ID")
@click.pass_obj
def invites_withdraw(cli: CommandLine, *, invite_id: str) -> None:
    """Withdraw an invite, so that it can no longer be used.

    The first characters of its ID are enough, if no other invite's ID begins with them.
    """
    answer = cli.do(Console.invites_withdraw, id=invite_id)
    cli.show(answer, lambda: [f"withdrew invite {answer['withdrawn']}"])
