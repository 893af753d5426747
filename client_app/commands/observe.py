"""`handfast observe`: each state of a resource."""

import contextlib
from collections.abc import AsyncIterator

import click

from client_app.commands.bodies import accept_of, accept_option, raw_option
from client_app.commands.common import Invocation, Verb, device_argument
from client_app.content import Reply


@click.command(cls=Verb, epilog="handfast observe kitchen /board --count 5")
@device_argument
@click.argument("path")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many states.")
@accept_option
@raw_option
@click.pass_obj
async def command(
    invocation: Invocation, device: str, path: str, count: int | None, body_format: str | None
) -> AsyncIterator[Reply]:
    """Print a resource each time it changes, starting with its present state, until Ctrl-C."""
    left = count
    async with invocation.client() as client:
        states = (await client.connect(device)).observe(
            path, accept=accept_of(body_format), on_note=invocation.screen.say
        )
        async with contextlib.aclosing(states) as stream:
            async for reply in stream:
                yield reply
                left = left - 1 if left is not None else None
                if left == 0:
                    return
