"""`handfast export`: the list of devices as a file for another client."""

import click

from client_app.commands.common import Verb
from client_app.commands.invocation import Invocation
from client_app.known_devices_format import book_bytes


@click.command(cls=Verb, epilog="handfast export > devices.json")
@click.pass_obj
def command(invocation: Invocation) -> bytes:
    """Export the list of devices, for `handfast import` on another client.

    The list contains the fingerprints and addresses of the devices, but no private key. The other
    client can recognize the devices; to use them it still has to pair with each.
    """
    return book_bytes({one.alias: one for one in invocation.book.all()})
