"""`handfast export`: the known devices as a file for another client."""

import click

from client_app.devices import book_bytes
from client_app.setting import Setting, Verb


@click.command(cls=Verb, example="handfast export > devices.json")
@click.pass_obj
def command(setting: Setting) -> bytes:
    """Print the known devices, for `handfast import` elsewhere.

    No key is in it: the other client knows these devices then, but has to be paired with each.
    """
    return book_bytes({one.alias: one for one in setting.book.all()})
