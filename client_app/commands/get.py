"""`handfast get`: read a resource."""

import click

from client_app.commands.bodies import accept_of, accept_option, raw_option
from client_app.commands.common import Invocation, NetworkVerb, device_argument
from client_app.content import Reply


@click.command(cls=NetworkVerb, epilog="handfast get kitchen /hello")
@device_argument
@click.argument("path")
@accept_option
@raw_option
@click.pass_obj
async def command(invocation: Invocation, device: str, path: str, body_format: str | None) -> Reply:
    """Read a resource. CBOR and JSON are printed as text; --raw prints the exact bytes."""
    async with invocation.client() as client:
        return await (await client.connect(device)).get(path, accept=accept_of(body_format))
