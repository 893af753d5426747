"""`handfast get`: read a resource."""

import click

from client_app.commands.bodies import accept_of, accept_option, raw_option
from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import is_path, optional_device
from client_app.commands.invocation import Invocation
from client_app.content import Reply
from client_app.terminal import render_replies  # noqa: F401 - registers the rendering of responses


@click.command(cls=NetworkVerb, epilog="handfast get kitchen /hello")
@optional_device(is_path)
@click.argument("path")
@accept_option
@raw_option
@click.pass_obj
async def command(invocation: Invocation, device: str, path: str, body_format: str | None) -> Reply:
    """Read a resource. CBOR and JSON are printed as text; --raw prints the exact bytes."""
    async with invocation.client() as client:
        return await (await client.connect(device)).get(path, accept=accept_of(body_format))
