"""Resolving the TARGET of a pairing: which device it names, and the addresses of its pairing port.

TARGET is an address, the name or device ID of a device on the LAN, the alias of a paired device, or
a host name. Announcements are hints, since any host can send them; the pairing method authenticates
the device.
"""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from client_app.finder import Finder
from client_app.host_port import PAIRING_PORT, HostPort
from client_app.limits import DISCOVERY_SECONDS, LISTED_DEVICES, TARGET_CHARACTERS
from client_app.models import KnownDevice
from peer.errors import Cause, PeerError, Unreachable, UsageError, WindowClosed
from peer.identity import Fingerprint
from peer.net.address import Address, resolve
from peer.pasted import crockford
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from peer.net.discovery import Advert

_OPEN_IT = "Run `handfast-device open` on the device, then start again."


@dataclass(frozen=True, slots=True)
class Target:
    """A device to pair with, and how to find its pairing port.

    Attributes:
        host_ports: addresses of the pairing port.
        name: the announced or stored name of the device, if known.
        port: the regular port of the device, 0 if unknown.
        device_id: the device ID that the device must have, if known.
        pinned: the key that the device must have, if known.
        adverts: announcements with further addresses.
        is_sought: search the LAN for more addresses of the holder of `pinned`.
        host: a host name to try if that search finds nothing.
        named: those of `host_ports` that the user gave as IP addresses, or where the device
            answered last; they may be addresses of this machine.
    """

    host_ports: tuple[HostPort, ...] = ()
    name: str = ""
    port: int = 0
    device_id: str = ""
    pinned: Fingerprint | None = None
    adverts: tuple[Advert, ...] = ()
    is_sought: bool = False
    host: str = ""
    named: tuple[HostPort, ...] = ()


async def resolve_target(
    text: str, *, paired: KnownDevice | None, expect: Fingerprint | None, finder: Finder
) -> Target:
    """Resolve the text of a target; `paired` is the paired device with this alias, if any.

    If the key is known, the LAN is searched later, for that key.
    """
    if (found := address_target(text)) is not None:
        return replace(found, pinned=expect)
    if paired is not None:
        return known_target(paired)
    if expect is not None:
        return Target(pinned=expect, is_sought=True, host=text)
    adverts = await finder.all(DISCOVERY_SECONDS)
    if not text:
        return the_open_one(adverts)
    return named_target(text, adverts) or await _resolved_host(text, adverts)


async def _resolved_host(text: str, adverts: Sequence[Advert]) -> Target:
    """The target if the text names a host that can be resolved. Raises as `host_target` does."""
    found = host_target(text, adverts)
    try:
        await resolve(found.host_ports[0].host, PAIRING_PORT)
    except Unreachable as error:
        raise not_seen(text, adverts) from error
    return found


def address_target(text: str) -> Target | None:
    """The target if the text is an address: an IP address, or a host with a port."""
    try:
        parsed = HostPort.parse(text)
    except UsageError:
        return None
    if not (parsed.is_ip or parsed.port):
        return None
    found = HostPort(parsed.host, parsed.port or PAIRING_PORT)
    return Target((found,), named=(found,) if parsed.is_ip else ())


def no_window(error: Unreachable) -> WindowClosed:
    """The error if nothing listens on the pairing port."""
    return WindowClosed(f"the device is not open for pairing: {error}", advice=_OPEN_IT)


def no_daemon(regular: Address, pairing: Address | None = None) -> Unreachable:
    """The error if nothing listens on the regular port of a host, nor on the pairing port."""
    where = f"{pairing}, nor on the regular port {regular.port}" if pairing else str(regular)
    return Unreachable(
        f"nothing listens at {where}",
        advice="The host is on, but no device runs there. Start `handfast-device run` on it, or "
        "check the address.",
        cause=Cause.REFUSED,
    )


def check_target(text: str) -> None:
    """Raise `UsageError` if the text is too long for a name or address.

    The error does not repeat the text, which may be part of an invite.
    """
    if len(text) > TARGET_CHARACTERS:
        raise UsageError(
            f"TARGET is longer than {TARGET_CHARACTERS} characters: neither a name nor an address",
            advice="If it is an invite, give the whole text, starting with HANDFAST:I:",
        )


def the_open_one(adverts: Sequence[Advert]) -> Target:
    """The only device that is open for pairing.

    Raises `Unreachable` if there is no device, `WindowClosed` if none is open, `UsageError` if
    several are.
    """
    if not adverts:
        raise Unreachable(
            "no device was found on this network",
            advice="Check that the device is on and on this network, or give its address.",
        )
    opened = {advert.device_id for advert in adverts if advert.pairing_open}
    if not opened:
        raise WindowClosed(
            f"no device on this network is open for pairing; found: {listed(adverts)}",
            advice=_OPEN_IT,
        )
    mine = [advert for advert in adverts if advert.device_id in opened]
    if len(opened) > 1:
        raise UsageError(
            f"several devices are open for pairing: {listed(mine)}",
            advice="Run `handfast pair NAME` with the name of one of them.",
        )
    return announced_target(mine)


def named_target(text: str, adverts: Sequence[Advert]) -> Target | None:
    """The announced device with that name or device ID, or None.

    Raises `UsageError` if several devices have the name, `WindowClosed` if the window is closed.
    """
    wanted = text.casefold()
    found = [a for a in adverts if a.device_id == crockford(text)]
    found = found or [a for a in adverts if a.name.casefold() == wanted]
    if not found:
        return None
    if len({advert.device_id for advert in found}) > 1:
        raise UsageError(
            f"several devices have the name {text!r}: {listed(found)}",
            advice="Give the ID of one of them instead.",
        )
    return announced_target(found)


def announced_target(adverts: Sequence[Advert]) -> Target:
    """The target of the announcements of one device ID, with all their addresses.

    The window counts as open if one announcement says so, since any host can announce that it is
    closed. Raises `WindowClosed` if none does.
    """
    opened = [advert for advert in adverts if advert.pairing_open]
    if not opened:
        raise WindowClosed(
            f"the pairing window of {_called(adverts[0])} is closed", advice=_OPEN_IT
        )
    ports = {advert.port for advert in opened}
    return Target(
        name=opened[0].name,
        port=ports.pop() if len(ports) == 1 else 0,
        device_id=opened[0].device_id,
        adverts=tuple(opened),
    )


def known_target(device: KnownDevice) -> Target:
    """The stored addresses of a paired device, with the usual pairing port."""
    texts = dict.fromkeys(filter(None, (device.last_seen, *device.addresses)))
    hosts = dict.fromkeys(HostPort.parse(text).host for text in texts)
    found = tuple(HostPort(host, PAIRING_PORT) for host in hosts)
    return Target(
        found,
        named=found[:1] if device.last_seen else (),
        name=device.name,
        port=device.port,
        pinned=device.fingerprint,
        is_sought=True,
    )


def announced_host_ports(adverts: Sequence[Advert], *, most: int) -> list[HostPort]:
    """The announced addresses of a regular port, at most `most`; adverts take turns."""
    turns = zip_longest(*([HostPort(host, one.port) for host in one.addresses] for one in adverts))
    return list(dict.fromkeys(one for turn in turns for one in turn if one))[:most]


def host_target(text: str, adverts: Sequence[Advert]) -> Target:
    """The target if the text is a host name.

    Raises `Unreachable`, or `UsageError` if the text cannot be the name of a device either.
    """
    try:
        parsed = HostPort.parse(text)
    except UsageError:
        if "." in text or ":" in text:  # which no name of a device has
            raise
        raise not_seen(text, adverts) from None
    return Target((HostPort(parsed.host, PAIRING_PORT),))


def not_seen(text: str, adverts: Sequence[Advert]) -> PeerError:
    """The error for a name that no device has."""
    seen = listed(adverts) or "none"
    return Unreachable(
        f"no device with the name {text!r} was found on this network",
        advice=f"Devices found: {seen}. You can also give the address of the device.",
    )


def sought_elsewhere(target: Target, adverts: Sequence[Advert]) -> Target:
    """The next target for a device that was not announced as open: the host name `target.host`.

    Raises `WindowClosed` if the device is announced, `Unreachable` if there is no host name to try.
    """
    assert target.pinned is not None
    wanted = target.pinned.device_id
    mine = [advert for advert in adverts if advert.device_id == wanted]
    if mine:
        return announced_target(mine)
    names = {name.casefold() for advert in adverts for name in (advert.name, advert.device_id)}
    if not target.host or target.host.casefold() in names:
        raise Unreachable(
            f"the device {wanted} was not found on this network",
            advice=f"Devices found: {listed(adverts) or 'none'}. "
            "You can also give the address of the device.",
        )
    return replace(host_target(target.host, adverts), pinned=target.pinned)


def listed(adverts: Sequence[Advert]) -> str:
    """The names and IDs of announced devices, each once, and not too many for an error."""
    called = list(dict.fromkeys(map(_called, adverts)))
    more = f" and {len(called) - LISTED_DEVICES} more" if len(called) > LISTED_DEVICES else ""
    return ", ".join(called[:LISTED_DEVICES]) + more


def _called(advert: Advert) -> str:
    return f"{on_one_line(advert.name)} ({advert.device_id})"
