"""Output of the settings for reaching a device. Importing this registers the type with `render`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from client_app.models import RemoteView
from client_app.terminal.render import as_text
from client_app.terminal.render_routes import ROUTE_WORDS
from peer.terminal.durations import format_time
from peer.terminal.layout import fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client_app.models import RemoteServer

_NONE: Final = "none are stored; this client reaches the device at its addresses only"
_NOT_OFFERED: Final = "the device has none for this client, or its policy does not permit them"


@as_text.register
def _(value: RemoteView) -> str:
    pairs = [("device", value.device)]
    if value.stored:
        pairs += _settings(value)
    else:
        pairs.append(("settings", _NOT_OFFERED if value.asked else _NONE))
        if value.asked:
            pairs.append(("asked", format_time(value.asked)))
    if value.last_route == "address":
        pairs.append(("last route", f"an address of the device: {value.address}"))
    elif value.last_route:
        pairs.append(("last route", ROUTE_WORDS[value.last_route]))
    return "\n".join(fields(pairs))


def _settings(value: RemoteView) -> list[tuple[str, str]]:
    revision = f"{value.revision:08x}"
    if value.outdated:
        revision += ", outdated: fetched again at the next session at an address of the device"
    return [
        *_rows("brokers", [_server(one) for one in value.brokers]),
        *_rows("relays", [_server(one) for one in value.relays] or ["none"]),
        *_rows("STUN", list(value.stun) or ["none"]),
        ("topics", f"below {value.prefix}"),
        ("revision", revision),
        ("fetched", format_time(value.fetched) if value.fetched else "unknown"),
    ]


def _rows(name: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    return [("" if number else name, line) for number, line in enumerate(lines)]


def _server(server: RemoteServer) -> str:
    account = f"as {server.username}" if server.username else "without an account"
    return f"{server.url}, {account}{', key pinned' if server.pinned else ''}"
