"""Which device `pair TARGET` means, and where its pairing port is.

TARGET is an address, or a name or device id that a device on the LAN announces, or the alias of a
known device, or a host name. Announcements are hints from strangers: what counts is the fingerprint
that both users compare.
"""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from client_app.host_port import PAIRING_PORT, Place
from client_app.models import KnownDevice
from peer.errors import PeerError, Unreachable, UsageError, WindowClosed
from peer.identity import Fingerprint
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from peer.net.discovery import Advert

MOST_LISTED = 16  # devices in an error
LONGEST = 253  # characters of a host name (RFC 1035 §2.3.4)
_OPEN_IT = "Run `handfast-device open` on the device, then start again."


@dataclass(frozen=True, slots=True)
class Target:
    """Where to knock. `port` is the regular port and `device_id` the announced id, if known;
    `pinned` is the only key that may answer. `adverts` are announcements that name places, too;
    with `is_sought` the LAN is asked for more of them, by the pinned key, and `host` is a name to
    try if it has none."""

    places: tuple[Place, ...] = ()
    name: str = ""
    port: int = 0
    device_id: str = ""
    pinned: Fingerprint | None = None
    adverts: tuple[Advert, ...] = ()
    is_sought: bool = False
    host: str = ""


def address_target(text: str) -> Target | None:
    """The target if the text is an address: an IP address, or a host with a port."""
    try:
        place = Place.parse(text)
    except UsageError:
        return None
    if not (place.is_ip or place.port):
        return None
    return Target((Place(place.host, place.port or PAIRING_PORT),))


def no_window(error: Unreachable) -> WindowClosed:
    """What it means that nothing listens on a pairing port."""
    return WindowClosed(f"the device is not open for pairing: {error}", advice=_OPEN_IT)


def check_target(text: str) -> None:
    """Raise `UsageError` for what is no name and no address, without repeating it: it may be the
    rest of an invite."""
    if len(text) > LONGEST:
        raise UsageError(
            f"TARGET is longer than {LONGEST} characters: neither a name nor an address",
            advice="If it is an invite, give the whole text, starting with HANDFAST:I*",
        )


def the_open_one(adverts: Sequence[Advert]) -> Target:
    """The one device whose window is open. Raises `Unreachable` (nobody there), `WindowClosed`
    (nobody open), or `UsageError` (several)."""
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
    """The announced device of that name or device id, None if there is none.

    Raises `UsageError` for a name that several have, `WindowClosed` if its window is.
    """
    wanted = text.casefold()
    found = [a for a in adverts if a.device_id.casefold() == wanted]
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
    """The target of what was announced under one device id: all places that were named.

    One closed window in it means nothing, for any host can announce that. Raises `WindowClosed`
    if nobody says that it is open.
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
    """The places of a known device, on the usual pairing port."""
    texts = dict.fromkeys(filter(None, (device.last_seen, *device.addresses)))
    hosts = dict.fromkeys(Place.parse(text).host for text in texts)
    return Target(
        tuple(Place(host, PAIRING_PORT) for host in hosts),
        name=device.name,
        port=device.port,
        pinned=device.fingerprint,
        is_sought=True,
    )


def announced_places(adverts: Sequence[Advert], *, most: int) -> list[Place]:
    """Where the regular port of a device is said to be: the first place of each advert, then the
    second of each, and so on."""
    turns = zip_longest(*([Place(host, one.port) for host in one.addresses] for one in adverts))
    return list(dict.fromkeys(place for turn in turns for place in turn if place))[:most]


def host_target(text: str, adverts: Sequence[Advert]) -> Target:
    """The target if the text is a host name, when nobody announced it. Raises `Unreachable`."""
    try:
        place = Place.parse(text)
    except UsageError:
        raise not_seen(text, adverts) from None
    return Target((Place(place.host, PAIRING_PORT),))


def not_seen(text: str, adverts: Sequence[Advert]) -> PeerError:
    """The error for a name that nobody has."""
    seen = listed(adverts) or "none"
    return Unreachable(
        f"no device with the name {text!r} was found on this network",
        advice=f"Devices found: {seen}. You can also give the address of the device.",
    )


def sought_elsewhere(target: Target, adverts: Sequence[Advert]) -> Target:
    """Where else a device is, whose open window nobody announces: perhaps at `host`.

    Raises `WindowClosed` if the device is announced, `Unreachable` if there is nowhere to look.
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
    """The devices that were announced, each once; not more than a person reads."""
    called = list(dict.fromkeys(map(_called, adverts)))
    more = f" and {len(called) - MOST_LISTED} more" if len(called) > MOST_LISTED else ""
    return ", ".join(called[:MOST_LISTED]) + more


def _called(advert: Advert) -> str:
    return f"{on_one_line(advert.name)} ({advert.device_id})"
