"""`handfast put`: replace the content of a resource."""

from collections.abc import Awaitable
from typing import BinaryIO

import click

from client_app.commands.bodies import RequestBody, body_of, body_options
from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import is_path, optional_device
from client_app.commands.invocation import Invocation
from client_app.content import Reply
from client_app.terminal import render_replies  # noqa: F401 - registers the rendering of responses
from peer.errors import UsageError


@click.command(cls=NetworkVerb, epilog="handfast put kitchen /light --data on")
@optional_device(is_path)
@click.argument("path")
@body_options
@click.pass_obj
def command(
    invocation: Invocation,
    device: str,
    path: str,
    data: str | None,
    file: BinaryIO | None,
    body_format: str | None,
) -> Awaitable[Reply]:
    """Replace the content of a resource."""
    if data is None and file is None:
        raise UsageError("no body is given", advice="Give --data or --file.")
    return _sent(invocation, device, path, body_of(data, file, body_format))


async def _sent(invocation: Invocation, device: str, path: str, request: RequestBody) -> Reply:
    async with invocation.client() as client:
        return await (await client.connect(device)).put(
            path, request.body, body_format=request.body_format
        )
