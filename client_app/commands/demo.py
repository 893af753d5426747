"""`handfast demo`: a device and clients on this machine."""

import click

from client_app.commands.common import Verb


@click.command(cls=Verb, epilog="handfast demo")
async def command() -> None:
    """Run a one-minute demonstration: pair, read, observe, refuse a stranger, revoke a user.

    The device daemon and the clients run as processes in temporary folders and use only the
    loopback interface. The demonstration needs no root privileges and no network, and it removes
    its files at the end.
    """
    from client_app.commands.demo_tour import tour  # noqa: PLC0415 - for this verb only

    await tour(click.echo)
