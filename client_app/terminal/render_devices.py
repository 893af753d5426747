"""Output of devices, their resources and this client as text and as JSON.

Importing this module registers these types with `render`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from client_app.host_port import HostPort
from client_app.models import DiscoveredDevice, OwnKey, Paired, Resources, Whoami
from client_app.terminal import render_known_devices  # noqa: F401 - registers the rendering of devices
from client_app.terminal.render import NEXT_STEPS, as_json, as_text, lists
from client_app.terminal.render_replies import FORMATS
from client_app.terminal.render_routes import ROUTE_WORDS
from peer.digit_groups import in_groups
from peer.terminal.durations import format_time
from peer.terminal.layout import fields, table
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

NEXT_STEPS[Resources] = "The device has no resources that you may see."


# -- JSON -----------------------------------------------------------------------------------------


@as_json.register
def _(value: Resources) -> dict[str, object]:
    return {"resources": [asdict(one) for one in value.resources]}


@as_json.register
def _(value: OwnKey) -> dict[str, object]:
    return {
        "fingerprint": value.fingerprint.hex,
        "id": value.id,
        "ni": value.ni,
        "created": value.created,
    }


@as_json.register
def _(value: Paired) -> dict[str, object]:
    return {**value.device.record(), "new": value.is_new, "until": value.until}


# -- for people -----------------------------------------------------------------------------------


@as_text.register
def _(value: Paired) -> str:
    device = value.device
    word = "paired with" if value.is_new else "already paired with"
    until = f", until {format_time(value.until)}" if value.until is not None else ""
    # A device does not tell every role its user name.
    who = f" as user {device.user}, role {device.role}" if device.user else ""
    return on_one_line(f"{word} {device.alias}{who}{until}")


@as_text.register
def _(value: DiscoveredDevice) -> str:
    return on_one_line("  ".join(filter(None, _discovered(value))))


def _discovered_devices(devices: Sequence[DiscoveredDevice]) -> str:
    headers = ("NAME", "ID", "ADDRESS", "PAIRING", "KNOWN AS")
    rows = ((*_discovered(one)[:-1], one.known_as or "-") for one in devices)
    return "\n".join(table(rows, headers=headers))


def _discovered(value: DiscoveredDevice) -> tuple[str, ...]:
    known = f"(known as {value.known_as})" if value.known_as else ""
    device_id = f"{value.id} (two devices)" if value.shared else value.id
    if not value.present:
        return value.name, value.id, "left", "", known
    window = "open for pairing" if value.pairing_open else "closed"
    where = ", ".join(str(HostPort(host, value.port)) for host in value.addresses)
    if value.added or value.gone:
        signed = [("+", one) for one in value.added] + [("-", one) for one in value.gone]
        where = ", ".join(f"{sign}{HostPort(host, value.port)}" for sign, host in signed)
    return value.name, device_id, where, window, known


lists[DiscoveredDevice] = _discovered_devices


@as_text.register
def _(value: OwnKey) -> str:
    return value.fingerprint.grouped


@as_text.register
def _(value: Resources) -> str:
    return "\n".join(
        table(
            (
                (
                    one.path,
                    " ".join(one.kinds) or "-",
                    ", ".join(str(FORMATS.get(each, each)) for each in one.formats) or "-",
                    "yes" if one.observable else "no",
                    one.title,
                )
                for one in value.resources
            ),
            headers=("PATH", "TYPE", "FORMAT", "OBSERVE", "TITLE")
            if any(one.title for one in value.resources)
            else ("PATH", "TYPE", "FORMAT", "OBSERVE"),
        )
    )


@as_text.register
def _(value: Whoami) -> str:
    until = f"until {format_time(value.until)}" if value.until is not None else "no expiry"
    pairs = [
        ("user", value.user),
        ("role", f"{value.role}, {until}"),
        *_key_fields(value),
        ("path", _path(value)),
        ("may", ", ".join(value.actions) or "nothing"),
    ]
    if value.conditional:
        sometimes = ", ".join(value.conditional)
        conditions = "at other times, from other places, or for some requests only"
        pairs.append(("also", f"{sometimes} ({conditions})"))
    return "\n".join(fields(pairs))


def _path(value: Whoami) -> str:
    """How this client is connected: the route that it knows, else the word of the device."""
    route = value.route or value.path
    address = f" ({value.address})" if value.address else ""
    return f"{ROUTE_WORDS.get(route, route)}{address}"


def _key_fields(value: Whoami) -> list[tuple[str, str]]:
    """The name of the key and its fingerprint, which is split so that no terminal folds it."""
    groups = in_groups(value.fingerprint).split()
    halves = (" ".join(groups[:8]), " ".join(groups[8:]))
    shown = [one for one in (value.key, *halves) if one]
    return [("" if number else "key", one) for number, one in enumerate(shown)]
