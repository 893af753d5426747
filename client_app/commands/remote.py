"""`handfast remote`: the stored settings for reaching a device from other networks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from client_app.commands.common import TimedVerb
from client_app.commands.device_argument import optional_device
from client_app.models import RemoteServer, RemoteView
from client_app.terminal import render_remote  # noqa: F401 - registers the rendering of the result
from peer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client_app.commands.invocation import Invocation
    from client_app.known_device import KnownDevice
    from client_app.remote_settings import RemoteEntry
    from peer.remote.settings import Server


@click.command(cls=TimedVerb, epilog="handfast remote kitchen --refresh")
@optional_device()
@click.option("--refresh", is_flag=True, help="Ask the device for the settings now.")
@click.option("--forget", is_flag=True, help="Remove the settings from this client.")
@click.pass_obj
async def command(invocation: Invocation, device: str, refresh: bool, forget: bool) -> RemoteView:
    """Show how a device is reached from other networks: its brokers and relays.

    The device gives this client these settings at the pairing, and handfast fetches them again when
    they have changed. It sends them only to a client that reaches it at one of its addresses. The
    secret and the passwords among them are never shown.
    """
    if refresh and forget:
        raise UsageError("--refresh and --forget cannot be used together", advice="Give one.")
    known = invocation.book.find(device)
    if forget:
        had = invocation.remote_book.forget(known.fingerprint)
        said = "are removed from this client" if had else "were not stored"
        invocation.screen.say(f"the settings for reaching {known.alias} {said}")
        return RemoteView(known.alias)
    if refresh:
        await _refresh(invocation, known)
        known = invocation.book.find(device)  # it may have answered at another address
    return view_of(known, _stored(invocation, known))


async def _refresh(invocation: Invocation, known: KnownDevice) -> None:
    """Fetch the settings at an address of the device, and store them."""
    from client_app.remote_refresh import fetch  # noqa: PLC0415 - slow; see `invocation`

    invocation.via = "lan,address"  # the device gives them over no path
    async with invocation.client() as client:
        await fetch(client.remote, await client.connect(known.alias), known)


def _stored(invocation: Invocation, known: KnownDevice) -> RemoteEntry | None:
    if not invocation.home.remote.exists():
        return None
    from peer.identity import Identity  # noqa: PLC0415 - slow, and only for a file that exists

    own = Identity.load(invocation.home.identity).fingerprint
    return invocation.remote_book.find(known.fingerprint, own=own)


def view_of(known: KnownDevice, entry: RemoteEntry | None) -> RemoteView:
    """Return what can be shown of an entry. Raises `Malformed` if its settings are not valid."""
    route = entry.route if entry is not None else ""
    view = RemoteView(
        known.alias,
        asked=entry.asked or None if entry is not None else None,
        last_route=route or ("address" if known.last_seen else ""),
        address=known.last_seen,
    )
    if entry is None or not entry.encoded:
        return view
    settings = entry.settings(known.alias)
    return replace(
        view,
        stored=True,
        brokers=_servers(settings.brokers),
        relays=_servers(settings.turn),
        stun=settings.stun,
        prefix=settings.prefix,
        revision=entry.revision,
        outdated=entry.is_outdated,
        fetched=entry.fetched or None,
    )


def _servers(servers: Sequence[Server]) -> tuple[RemoteServer, ...]:
    return tuple(RemoteServer(one.url, one.username, bool(one.pin)) for one in servers)
