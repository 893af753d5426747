"""`handfast demo`: a real device and a real client on this machine, in one minute."""

import click

from client_app.setting import Setting, Verb


@click.command(cls=Verb, example="handfast demo")
@click.pass_obj
async def command(setting: Setting) -> None:
    """The one-minute tour: pair, read, observe, refuse, revoke.

    Runs the real daemon and the real client as processes in temporary folders on the loopback
    interface. Needs no root and no network, and leaves nothing behind.
    """
    from client_app.demo import tour  # noqa: PLC0415 - subprocess and all that is for here alone

    await tour(click.echo)
