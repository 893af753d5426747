"""`handfast invites`: the invites that a device has out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from client_app.render_rights import Gone, Invites
from client_app.setting import Family, Setting, Verb, family_of_device
from peer.errors import UsageError

if TYPE_CHECKING:
    from client_app.administration import Administration


@click.group(cls=Family, example="handfast invites kitchen withdraw 3f9a")
@family_of_device
def command() -> None:
    """Show and withdraw the invites of a device that nobody has used yet.

    Without a verb, they are listed.
    """


@command.command("list", cls=Verb, example="handfast invites kitchen list --json")
@click.pass_obj
async def list_(setting: Setting) -> Invites:
    """List the invites that can still be used; never their tokens."""
    async with setting.client() as client:
        return Invites(await (await client.connect(setting.device)).iam.invites())


@command.command("withdraw", cls=Verb, example="handfast invites kitchen withdraw 3f9a")
@click.argument("invite_id", metavar="ID")
@click.pass_obj
async def withdraw(setting: Setting, invite_id: str) -> Gone:
    """Make an invite worth nothing. The first digits of its ID will do."""
    wanted = invite_id.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", wanted):
        raise UsageError(
            "an invite's id is of hex digits", advice="`handfast invites DEVICE` lists them."
        )
    async with setting.client() as client:
        iam = (await client.connect(setting.device)).iam
        whole = wanted if len(wanted) == 32 else await _whole(iam, wanted)
        await iam.withdraw(whole)
    return Gone("withdrawn", whole)


async def _whole(iam: Administration, beginning: str) -> str:
    found = [one.id for one in await iam.invites() if one.id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    said = "several invites begin" if found else "no invite begins"
    raise UsageError(
        f"{said} with {beginning}", advice="`handfast invites DEVICE` lists them with their ids."
    )
