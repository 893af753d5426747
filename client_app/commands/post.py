"""`handfast post`: send a body to a resource."""

from typing import BinaryIO

import click

from client_app.commands.bodies import body_of, body_options
from client_app.commands.common import Invocation, Verb, device_argument
from client_app.content import Reply


@click.command(cls=Verb, epilog="handfast post kitchen /door --data open")
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
    """Send a body to a resource for processing. Without --data or --file, the body is empty."""
    request = body_of(data, file, body_format)
    async with invocation.client() as client:
        return await (await client.connect(device)).post(
            path, request.body, body_format=request.body_format
        )
