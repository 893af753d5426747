"""`handfast events`: the events of a device."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import optional_device
from client_app.commands.invocation import Invocation
from client_app.limits import CONNECT_SECONDS, LIST_SECONDS
from client_app.terminal import render_administration  # noqa: F401 - registers the rendering of events
from peer.errors import UsageError

if TYPE_CHECKING:
    from client_app.models import Event


@click.command(cls=NetworkVerb, epilog="handfast events kitchen --follow --json")
@optional_device()
@click.option("--follow", is_flag=True, help="Keep running and print new events, until Ctrl-C.")
@click.option(
    "--no-retry",
    is_flag=True,
    help="With --follow: end with an error when the connection is lost.",
)
@click.option(
    "--since", type=click.IntRange(0), metavar="SEQ", help="Only events after this number."
)
@click.option(
    "--last", type=click.IntRange(0), metavar="N", help="Only the last N events.  [default: 50]"
)
@click.pass_obj
async def command(
    invocation: Invocation,
    device: str,
    follow: bool,
    no_retry: bool,
    since: int | None,
    last: int | None,
) -> AsyncIterator[Event]:
    """Show the events of a device: pairings, changes to users, refused requests.

    With --json, each event is one line of JSON. Each event contains the digest of the one before
    it; handfast checks these digests and fails if one does not match.
    """
    if since is not None and last is not None:
        raise UsageError("--since and --last cannot be used together", advice="Give one of them.")
    async with invocation.client() as client:
        found = await client.connect(device, timeout=invocation.seconds_left(CONNECT_SECONDS))
        iam, seconds = found.iam, invocation.seconds_left(LIST_SECONDS)
        if not follow:
            events = (await iam.events(since=since, last=last, timeout=seconds)).events
            for event in events:
                yield event
            if not events:
                invocation.screen.say("No events. `--last 50` shows the newest ones.")
            return
        stream = iam.follow_events(
            since=since,
            last=last,
            timeout=seconds,
            retry=not no_retry,
            on_note=invocation.screen.say,
        )
        async with contextlib.aclosing(stream) as following:
            async for event in following:
                yield event
