"""`handfast discover`: devices on the LAN and the state of their pairing windows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from client_app.commands.common import Verb
from client_app.commands.invocation import Invocation
from client_app.limits import ADVERTS
from client_app.models import DiscoveredDevice, KnownDevice
from client_app.shared_ids import shared_id_notice
from client_app.terminal import render_devices  # noqa: F401 - registers the rendering of the result
from peer.terminal.param_types import Duration

if TYPE_CHECKING:
    from peer.net.discovery import Advert


@click.command(cls=Verb, epilog="handfast discover --timeout 5s")
@click.option(
    "--watch", is_flag=True, help="Keep running; print devices that appear, change or disappear."
)
@click.option(
    "--timeout", type=Duration(3600), default="3s", show_default=True, help="How long to search."
)
@click.pass_obj
def command(invocation: Invocation, watch: bool, timeout: float) -> object:
    """List the devices on this network and whether their pairing windows are open."""
    return _watched(invocation) if watch else _found(invocation, timeout)


async def _found(invocation: Invocation, timeout: float) -> list[DiscoveredDevice] | bytes:
    invocation.screen.progress("searching for devices", seconds=timeout)
    async with invocation.client() as client:
        known = _aliases(client.devices)
        found = [_seen(advert, known) for advert in await client.discover(timeout=timeout)]
    for one in found:
        if one.shared:
            invocation.screen.say(shared_id_notice(one.known_as or one.name, one.addresses))
    if found or invocation.json:
        return found
    invocation.screen.say(
        "No device was found on this network. Check that it is on and on the same network, search "
        "longer (--timeout 10s), or run `handfast doctor`."
    )
    return b""


async def _watched(invocation: Invocation) -> AsyncIterator[DiscoveredDevice]:
    async with invocation.client() as client:
        async for seen in changes_of(client.watch(), lambda: _aliases(client.devices)):
            yield seen


async def changes_of(
    adverts: AsyncIterator[Advert], aliases: Callable[[], dict[str, str]]
) -> AsyncIterator[DiscoveredDevice]:
    """Yield devices, with the addresses that were added and removed since the one before."""
    shown: dict[tuple[str, str], tuple[str, ...]] = {}
    async for advert in adverts:
        key = advert.instance, advert.device_id
        before, seen = shown.pop(key, None), _seen(advert, aliases())
        if advert.is_present:
            shown[key] = advert.addresses
            while len(shown) > ADVERTS:
                del shown[next(iter(shown))]
            if before is not None:
                added = tuple(one for one in advert.addresses if one not in before)
                gone = tuple(one for one in before if one not in advert.addresses)
                seen = replace(seen, added=added, gone=gone)
        yield seen


def _aliases(devices: list[KnownDevice]) -> dict[str, str]:
    """Aliases by device ID: a hint for the reader, since nothing has proved the ID."""
    return {one.fingerprint.device_id: one.alias for one in devices}


def _seen(advert: Advert, known: dict[str, str]) -> DiscoveredDevice:
    return DiscoveredDevice(
        id=advert.device_id,
        name=advert.name,
        addresses=advert.addresses,
        port=advert.port,
        pairing_port=advert.pairing_port,
        pairing_open=advert.pairing_open,
        present=advert.is_present,
        known_as=known.get(advert.device_id, ""),
        shared=advert.is_shared,
    )
