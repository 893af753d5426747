"""`handfast invite`: a text or QR code that lets its recipient become a user."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from client_app.commands.common import NetworkVerb, yes_option
from client_app.commands.device_argument import is_anything, optional_device
from client_app.commands.invocation import Invocation
from client_app.terminal import render_administration  # noqa: F401 - registers the rendering of invites
from peer.terminal.durations import TIME_EXAMPLES, format_time
from peer.terminal.param_types import Duration, Time

if TYPE_CHECKING:
    from client_app.models import Invitation


@click.command(cls=NetworkVerb, epilog="handfast invite kitchen mia --for 2d --until 3d --qr")
@optional_device(is_anything)
@click.argument("name")
@click.option("--role", default="", help="Role of the new user, not above yours.  [default: guest]")
@click.option(
    "--for",
    "seconds",
    type=Duration(),
    metavar="TIME",
    help="How long the invite is valid.  [default: 2d]",
)
@click.option(
    "--uses",
    type=click.IntRange(1, 32),
    default=1,
    show_default=True,
    help="How many clients may use it.",
)
@click.option(
    "--until", "ends", type=Time(whole_day=True), help=f"When the access ends: {TIME_EXAMPLES}."
)
@click.option(
    "--key",
    metavar="FP",
    help="Only the client with this fingerprint can use it, as `handfast fingerprint` prints it.",
)
@yes_option
@click.option("--qr", "show_qr", is_flag=True, help="Also print a QR code, to stderr.")
@click.pass_obj
async def command(  # noqa: PLR0917 - click passes them by name
    invocation: Invocation,
    device: str,
    name: str,
    role: str,
    seconds: float | None,
    uses: int,
    ends: float | timedelta | None,
    key: str | None,
    yes: bool,
    show_qr: bool,
) -> Invitation:
    """Create an invite to a device: a text with which its recipient becomes the user NAME.

    The recipient passes it to `handfast pair`, where an address of the device can be reached: an
    invite does not use the device's broker. Treat it like a password and send it over a private
    channel: anyone who obtains it can use it. It cannot be shown again. If --until is in the past,
    you are asked to confirm.
    """
    await invocation.agreed_to_times(end=ends, yes=yes)
    async with invocation.client() as client:
        made = await (await client.connect(device)).iam.invite(
            name, role=role, seconds=seconds, uses=uses, key=key, not_after=ends
        )
    one = made.invite
    times = "once" if one.uses == 1 else f"{one.uses} times"
    invocation.screen.say(
        f"invite for user {one.name}, role {one.role}; "
        f"can be used {times}, until {format_time(one.expires)}; ID {one.id}"
    )
    if show_qr:
        invocation.draw_qr(made.token)
    return made
