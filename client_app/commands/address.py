"""`handfast address`: where else to look for a device."""

from dataclasses import replace

import click

from client_app.addresses import Place
from client_app.answers import NotKnown
from client_app.devices import KnownDevice
from client_app.setting import Setting, Verb, device_argument


@click.command(cls=Verb, example="handfast address kitchen home.example:15684")
@device_argument
@click.argument("places", nargs=-1, metavar="HOST[:PORT]...")
@click.option("--remove", is_flag=True, help="Take these out again; without any, all of them.")
@click.pass_obj
def command(setting: Setting, device: str, places: tuple[str, ...], remove: bool) -> KnownDevice:
    """Say where else a device can be reached: a forwarded port, a VPN, a DNS name.

    Without HOST, show what is known. The key stays pinned wherever the device is found.
    """
    named = [str(Place.parse(place)) for place in places]
    book = setting.book
    known = book.find(device)
    if not named and not remove:
        return known

    def edit(one: KnownDevice) -> KnownDevice:
        if remove:
            left = [place for place in one.addresses if named and place not in named]
            return replace(one, addresses=tuple(left))
        return replace(one, addresses=tuple(dict.fromkeys((*one.addresses, *named))))

    changed = book.update(known.fingerprint, edit)
    if changed is None:
        raise NotKnown(f"{device} was forgotten meanwhile")
    return changed
