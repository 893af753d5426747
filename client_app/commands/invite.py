"""`handfast invite`: a string or a QR code that makes whoever gets it a user."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from client_app import render_rights  # noqa: F401 - it teaches `render` about invites
from client_app.moments import MOMENTS, Moment, Seconds, shown
from client_app.setting import Setting, Verb, device_argument

if TYPE_CHECKING:
    from client_app.rights import Invitation


@click.command(cls=Verb, example="handfast invite kitchen mia --for 2d --until 3d --qr")
@device_argument
@click.argument("name")
@click.option("--role", default="", help="What they will be, at most what you are.  [guest]")
@click.option("--for", "seconds", type=Seconds(), metavar="TIME", help="How long it is good.  [2d]")
@click.option("--uses", type=click.IntRange(1, 32), default=1, show_default=True)
@click.option(
    "--until", "ends", type=Moment(whole_day=True), help=f"When their access ends: {MOMENTS}."
)
@click.option("--key", metavar="FP", help="Only the client with this fingerprint may use it.")
@click.option("--qr", "show_qr", is_flag=True, help="Show it as a QR code too, on stderr.")
@click.pass_obj
async def command(  # noqa: PLR0917 - click passes them by name
    setting: Setting,
    device: str,
    name: str,
    role: str,
    seconds: float | None,
    uses: int,
    ends: float | timedelta | None,
    key: str | None,
    show_qr: bool,
) -> Invitation:
    """Invite somebody: prints a text that makes its holder the user NAME, also from afar.

    Send it as you would send a key: whoever has it first can use it. It is shown this one time.
    They use it with `handfast pair`.
    """
    async with setting.client() as client:
        made = await (await client.connect(device)).iam.invite(
            name, role=role, seconds=seconds, uses=uses, key=key, not_after=ends
        )
    one = made.invite
    times = "once" if one.uses == 1 else f"{one.uses} times"
    who = f"{one.name} as {one.role}"
    setting.screen.say(f"an invite for {who}, good {times} until {shown(one.expires)}, id {one.id}")
    if show_qr:
        _draw(setting, made.token)
    return made


def _draw(setting: Setting, text: str) -> None:
    from client_app import qr  # noqa: PLC0415 - only for those who want a picture

    is_terminal = sys.stderr.isatty()
    size = os.get_terminal_size(sys.stderr.fileno()) if is_terminal else shutil.get_terminal_size()
    columns = size.columns or 80  # a terminal that does not know says 0
    coloured = is_terminal and not os.environ.get("NO_COLOR")
    if picture := qr.drawn(text, columns=columns, coloured=coloured):
        setting.screen.draw(picture)
        return
    setting.screen.warn(
        f"the QR code is {qr.width(text)} columns wide and the terminal {columns}: "
        "make it wider, or use the text"
    )
