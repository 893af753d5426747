"""The client: a library for scripts, and the command line on top of it.

`from client_app import Client` is the asynchronous face, `from client_app.sync import Client` the
blocking one. The names are loaded when they are first asked for: the command line imports this
package for every verb, and most of them need no network.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client_app.administration import UNCHANGED, Administration
    from client_app.client import Client
    from client_app.device import Device
    from client_app.devices import KnownDevice
    from client_app.pairing import Comparison
    from client_app.reply import Format, Reply
    from client_app.values import Paired, Whoami

__all__ = [
    "UNCHANGED",
    "Administration",
    "Client",
    "Comparison",
    "Device",
    "Format",
    "KnownDevice",
    "Paired",
    "Reply",
    "Whoami",
]

_HOMES = {
    "Administration": "client_app.administration",
    "UNCHANGED": "client_app.administration",
    "Client": "client_app.client",
    "Comparison": "client_app.pairing",
    "Paired": "client_app.values",
    "Device": "client_app.device",
    "Whoami": "client_app.values",
    "KnownDevice": "client_app.devices",
    "Format": "client_app.reply",
    "Reply": "client_app.reply",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
