"""`handfast events`: what has happened on a device."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from client_app import render_rights  # noqa: F401 - it teaches `render` about events
from client_app.setting import Setting, Verb, device_argument
from peer.errors import UsageError

if TYPE_CHECKING:
    from client_app.rights import Event


@click.command(cls=Verb, example="handfast events kitchen --follow --json")
@device_argument
@click.option("--follow", is_flag=True, help="Go on with each new one, until Ctrl-C.")
@click.option("--since", type=click.IntRange(0), metavar="SEQ", help="Those after this number.")
@click.option("--last", type=click.IntRange(0), metavar="N", help="The last N.  [50]")
@click.pass_obj
async def command(
    setting: Setting, device: str, follow: bool, since: int | None, last: int | None
) -> AsyncIterator[Event]:
    """Show what has happened on a device: pairings, changes, refusals. With --json, JSON lines.

    Each event is chained to the one before; a trail whose links do not hold is an error.
    """
    if since is not None and last is not None:
        raise UsageError("--since and --last exclude each other", advice="Give one of them.")
    async with setting.client() as client:
        iam = (await client.connect(device)).iam
        if not follow:
            for event in (await iam.events(since=since, last=last)).events:
                yield event
            return
        stream = iam.follow_events(since=since, last=last)
        async with contextlib.aclosing(stream) as events:  # type: ignore[type-var]
            async for event in events:
                yield event
