"""`handfast address`: the stored addresses of a device."""

from dataclasses import replace

import click

from client_app.commands.common import Verb
from client_app.commands.device_argument import device_argument
from client_app.commands.invocation import Invocation
from client_app.errors import NotKnown
from client_app.host_port import HostPort
from client_app.known_device import KnownDevice
from client_app.terminal import render_known_devices  # noqa: F401 - registers the rendering of devices
from peer.errors import UsageError


@click.command(cls=Verb, epilog="handfast address kitchen home.example:15684")
@device_argument
@click.argument("places", nargs=-1, metavar="[HOST[:PORT]]...")
@click.option("--remove", is_flag=True, help="Remove these addresses; without HOST, remove all.")
@click.pass_obj
def command(
    invocation: Invocation, device: str, places: tuple[str, ...], remove: bool
) -> KnownDevice:
    """Add addresses where a device can be reached: a forwarded port, a VPN address, a DNS name.

    Without HOST, show the stored addresses. At every address the device has to prove the key that
    was pinned at pairing.
    """
    named = [str(HostPort.parse(place)) for place in places]
    book = invocation.book
    known = book.find(device)
    if not named and not remove:
        return known

    def edit(one: KnownDevice) -> KnownDevice:
        if remove:
            left = [place for place in one.addresses if named and _canonical(place) not in named]
            gone = {_with_port(place, one.port) for place in named or one.addresses}
            last = "" if _with_port(one.last_seen, one.port) in gone else one.last_seen
            return replace(one, addresses=tuple(left), last_seen=last)
        return replace(one, addresses=tuple(dict.fromkeys((*one.addresses, *named))))

    changed = book.update(known.fingerprint, edit)
    if changed is None:
        raise NotKnown(f"{device} has just been removed by another command")
    return changed


def _with_port(place: str, port: int) -> str:
    """An address with its port; without one it has that of the device."""
    try:
        found = HostPort.parse(place)
    except UsageError:
        return place
    return str(replace(found, port=found.port or port))


def _canonical(place: str) -> str:
    """A stored address as `HostPort` writes it; a file that was edited may have another form."""
    try:
        return str(HostPort.parse(place))
    except UsageError:
        return place
