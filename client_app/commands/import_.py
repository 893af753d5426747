"""`handfast import`: add the devices of another client."""

from dataclasses import replace
from typing import BinaryIO, Final

import click

from client_app.aliases import alias_taken, check_no_id, same_alias
from client_app.commands.common import Verb
from client_app.commands.invocation import Invocation
from client_app.known_devices_format import imported_untrusted
from client_app.limits import DEVICES_FILE_BYTES
from client_app.models import IMPORTED, KnownDevice
from client_app.terminal import render_known_devices  # noqa: F401 - registers the rendering of devices
from peer.errors import Malformed

_ADVICE: Final = "Give a file that `handfast export` has written."


@click.command("import", cls=Verb, epilog="handfast import devices.json")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def command(invocation: Invocation, file: BinaryIO) -> list[KnownDevice]:
    """Import a list of devices from another client.

    FILE is the output of `handfast export`, or a list of devices in JSON that you write yourself:
    [{"alias": "kitchen", "fingerprint": "1a2b…", "addresses": ["192.168.1.20"]}]. Only the
    fingerprint is required. - is standard input. If a device cannot be imported, none is.
    This client still has to pair with each device; it then recognizes the device's key.

    FILE decides which device keys this client trusts. Import only files from machines of your own.
    """
    try:
        wanted = imported_untrusted(file.read(DEVICES_FILE_BYTES + 1))
    except Malformed as error:
        raise Malformed(f"{file.name}: {error}", advice=error.advice or _ADVICE) from error
    added: list[KnownDevice] = []

    def change(book: dict[str, KnownDevice]) -> None:
        keys = {one.fingerprint: one.alias for one in book.values()}
        for alias, device in wanted.items():
            if device.fingerprint in keys:
                continue
            if (holder := same_alias(alias, book)) is not None:
                raise alias_taken(holder)
            check_no_id(alias, device.fingerprint, book.values())
            book[alias] = replace(device, user="", role="", method=IMPORTED)
            added.append(book[alias])

    invocation.book.change(change)
    invocation.screen.say(f"{len(added)} imported, {len(wanted) - len(added)} already known")
    return added
