"""The handfast client: a Python library, and the command line built on it.

Scripts import `handfast`, which has all public names. Those of this package are imported on first
use, because the command line imports it for every verb and most verbs need no network.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client_app.administration import UNCHANGED, Administration
    from client_app.client import Client
    from client_app.content import Format, Reply
    from client_app.device import Device
    from client_app.models import KnownDevice, Paired, Whoami
    from client_app.pairing.ceremony import Comparison

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

if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    import importlib

    _HOMES = {
        "Administration": "client_app.administration",
        "UNCHANGED": "client_app.administration",
        "Client": "client_app.client",
        "Comparison": "client_app.pairing.ceremony",
        "Paired": "client_app.models",
        "Device": "client_app.device",
        "Whoami": "client_app.models",
        "KnownDevice": "client_app.models",
        "Format": "client_app.content",
        "Reply": "client_app.content",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)
