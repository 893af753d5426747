"""`handfast forget`: drop a device on this side."""

import click

from client_app.devices import KnownDevice
from client_app.setting import Setting, Verb, device_argument


@click.command(cls=Verb, example="handfast forget kitchen")
@device_argument
@click.pass_obj
def command(setting: Setting, device: str) -> KnownDevice:
    """Forget a device. It still knows this client: an owner removes that on the device."""
    gone = setting.book.forget(device)
    setting.screen.say(
        f"{gone.alias} is forgotten here. On the device this client is still "
        f"{gone.user or 'a user'}; `handfast-device users remove` ends that."
    )
    return gone
