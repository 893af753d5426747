"""`handfast observe`: each state of a resource."""

import contextlib
from collections.abc import AsyncIterator

import click

from client_app.commands.bodies import accept_of, accept_option, raw_option
from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import is_path, optional_device
from client_app.commands.invocation import Invocation
from client_app.content import Reply
from client_app.limits import CONNECT_SECONDS, REQUEST_SECONDS
from client_app.terminal import render_replies  # noqa: F401 - registers the rendering of responses


@click.command(cls=NetworkVerb, epilog="handfast observe kitchen /board --count 5")
@optional_device(is_path)
@click.argument("path")
@click.option("--no-retry", is_flag=True, help="End with an error when the connection is lost.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many states.")
@accept_option
@raw_option
@click.pass_obj
async def command(
    invocation: Invocation,
    device: str,
    path: str,
    no_retry: bool,
    count: int | None,
    body_format: str | None,
) -> AsyncIterator[Reply]:
    """Print a resource each time it changes, starting with its present state, until Ctrl-C.

    If the connection is lost, handfast connects again, for as long as it takes, and says so on
    stderr; with --json, the next state has a field `gap`. --timeout limits the time to the first
    state.
    """
    left = count
    async with invocation.client() as client:
        found = await client.connect(device, timeout=invocation.seconds_left(CONNECT_SECONDS))
        states = found.observe(
            path,
            accept=accept_of(body_format),
            timeout=invocation.seconds_left(REQUEST_SECONDS),
            retry=not no_retry,
            on_note=invocation.screen.say,
        )
        async with contextlib.aclosing(states) as stream:
            async for reply in stream:
                yield reply
                left = left - 1 if left is not None else None
                if left == 0:
                    return
        invocation.screen.say(f"{path} cannot be observed; this is its present state.")
