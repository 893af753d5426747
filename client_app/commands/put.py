"""`handfast put`: replace the content of a resource."""

from typing import BinaryIO

import click

from client_app.commands.bodies import body_of, body_options
from client_app.commands.common import Invocation, Verb, device_argument
from client_app.content import Reply
from peer.errors import UsageError


@click.command(cls=Verb, epilog="handfast put kitchen /light --data on")
@device_argument
@click.argument("path")
@body_options
@click.pass_obj
async def command(
    invocation: Invocation,
    device: str,
    path: str,
    data: str | None,
    file: BinaryIO | None,
    body_format: str | None,
) -> Reply:
    """Replace the content of a resource."""
    if data is None and file is None:
        raise UsageError("no body is given", advice="Give --data or --file.")
    request = body_of(data, file, body_format)
    async with invocation.client() as client:
        return await (await client.connect(device)).put(
            path, request.body, body_format=request.body_format
        )
