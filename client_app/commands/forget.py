"""`handfast forget`: remove a device from this client."""

import click

from client_app.commands.common import Verb
from client_app.commands.device_argument import device_argument
from client_app.commands.invocation import Invocation
from client_app.errors import BookError
from client_app.known_device import KnownDevice
from client_app.terminal import render_known_devices  # noqa: F401 - registers the rendering of devices


@click.command(cls=Verb, epilog="handfast forget kitchen")
@device_argument
@click.pass_obj
def command(invocation: Invocation, device: str) -> KnownDevice:
    """Remove a device from this client, with the settings for reaching it from other networks.

    The device still accepts this client's key until an owner removes it on the device.
    """
    gone = invocation.book.forget(device)
    try:
        invocation.remote_book.forget(gone.fingerprint)
    except BookError as error:  # the device is removed, and no route leads to it any more
        invocation.screen.warn(f"warning: {error}. {error.advice}")
    invocation.screen.say(
        f"{gone.alias} is removed from this client. The device still accepts this client's key"
        f"{f' as user {gone.user}' if gone.user else ''}; to remove it there, run "
        "`handfast-device users remove` on the device."
    )
    return gone
