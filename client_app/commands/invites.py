"""`handfast invites`: the unused invites of a device."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from client_app.commands.common import Family, NetworkVerb
from client_app.commands.device_argument import family_of_device
from client_app.commands.invocation import Invocation
from client_app.terminal.render_administration import Invites, Removed
from peer.errors import RequestFailed, UsageError
from peer.pasted import compact

if TYPE_CHECKING:
    from client_app.administration import Administration


@click.group(cls=Family, epilog="handfast invites kitchen withdraw 3f9a")
@family_of_device
def command() -> None:
    """List and withdraw the invites of a device that can still be used.

    Without a verb, list them. If only one device is paired, DEVICE can be left out.
    """


@command.command("list", cls=NetworkVerb, epilog="handfast invites kitchen list --json")
@click.pass_obj
async def list_(invocation: Invocation) -> Invites:
    """List the invites that can still be used. Their texts cannot be shown again."""
    async with invocation.client() as client:
        return Invites(await (await client.connect(invocation.device)).iam.invites())


@command.command("withdraw", cls=NetworkVerb, epilog="handfast invites kitchen withdraw 3f9a")
@click.argument("invite_id", metavar="ID")
@click.pass_obj
async def withdraw(invocation: Invocation, invite_id: str) -> Removed:
    """Withdraw an invite, so that it can no longer be used.

    You can shorten ID to its first digits. Users who have already used the invite stay.
    """
    wanted = compact(invite_id).lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", wanted):
        raise UsageError(
            "the ID of an invite consists of hex digits",
            advice="Run `handfast invites DEVICE` to list them.",
        )
    async with invocation.client() as client:
        iam = (await client.connect(invocation.device)).iam
        whole = wanted if len(wanted) == 32 else await _whole(iam, wanted)
        await iam.withdraw(whole)
    return Removed("withdrawn", whole)


async def _whole(iam: Administration, beginning: str) -> str:
    found = [one.id for one in await iam.invites() if one.id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    advice = "Run `handfast invites DEVICE` to list them."
    if found:
        raise UsageError(f"several invites have IDs that start with {beginning}", advice=advice)
    raise RequestFailed(
        f"no invite has an ID that starts with {beginning}",
        advice=advice,
        code="4.04",
        reason="not-found",
    )
