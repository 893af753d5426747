"""Which device `pair TARGET` means, and where its pairing port is.

TARGET is an address, or a name or device id that a device on the LAN announces, or the alias of a
known device, or a host name. Announcements are hints from strangers: what counts is the fingerprint
that both users compare.
"""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client_app.addresses import PAIRING_PORT, Place
from client_app.devices import KnownDevice
from peer.errors import PeerError, Unreachable, UsageError, WindowClosed
from peer.identity import Fingerprint
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from peer.net.discovery import Advert

LONGEST = 253  # characters of a host name (RFC 1035 §2.3.4)
_OPEN_IT = "Open it on the device (`handfast-device open`), then start again."


@dataclass(frozen=True, slots=True)
class Target:
    """Where to knock. `port` is the regular port and `device_id` the announced id, if known;
    `pinned` is the only key that may answer."""

    places: tuple[Place, ...]
    name: str = ""
    port: int = 0
    device_id: str = ""
    pinned: Fingerprint | None = None


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
    return WindowClosed(f"no pairing window is open there: {error}", advice=_OPEN_IT)


def check_target(text: str) -> None:
    """Raise `UsageError` for what is no name and no address, without repeating it: it may be the
    rest of an invite."""
    if len(text) > LONGEST:
        raise UsageError(
            "this is too long for a device's name or address",
            advice="If it is an invite, give all of it: it begins with HANDFAST:I*",
        )


def the_open_one(adverts: Sequence[Advert]) -> Target:
    """The one device whose window is open. Raises `Unreachable` (nobody there), `WindowClosed`
    (nobody open), or `UsageError` (several)."""
    if not adverts:
        raise Unreachable(
            "no device was found on this network",
            advice="Is it on, and on the same network? You can also name its address.",
        )
    opened = [advert for advert in adverts if advert.pairing_open]
    if not opened:
        raise WindowClosed(
            f"no pairing window is open; seen closed: {_listed(adverts)}", advice=_OPEN_IT
        )
    if len(opened) > 1:
        raise UsageError(
            f"several devices are open for pairing: {_listed(opened)}",
            advice="Say which one: `handfast pair NAME`.",
        )
    return announced_target(opened[0])


def named_target(text: str, adverts: Sequence[Advert]) -> Target | None:
    """The announced device of that name or device id, None if there is none.

    Raises `UsageError` for a name that several have, `WindowClosed` if its window is.
    """
    wanted = text.casefold()
    found = [a for a in adverts if wanted in {a.name.casefold(), a.device_id.casefold()}]
    if not found:
        return None
    if len(found) > 1:
        raise UsageError(
            f"several devices are called {text!r}: {_listed(found)}",
            advice="Say the id of the one you mean.",
        )
    return announced_target(found[0])


def announced_target(advert: Advert) -> Target:
    """The target of an announced device. Raises `WindowClosed`."""
    if not advert.pairing_open:
        raise WindowClosed(f"the pairing window of {_called(advert)} is closed", advice=_OPEN_IT)
    return Target(
        tuple(Place(host, advert.pairing_port) for host in advert.addresses),
        name=advert.name,
        port=advert.port,
        device_id=advert.device_id,
    )


def known_target(device: KnownDevice) -> Target:
    """The places of a known device that announces nothing, on the usual pairing port."""
    texts = dict.fromkeys(filter(None, (device.last_seen, *device.addresses)))
    hosts = dict.fromkeys(Place.parse(text).host for text in texts)
    return Target(
        tuple(Place(host, PAIRING_PORT) for host in hosts),
        name=device.name,
        port=device.port,
        pinned=device.fingerprint,
    )


def host_target(text: str, adverts: Sequence[Advert]) -> Target:
    """The target if the text is a host name, when nobody announced it. Raises `Unreachable`."""
    try:
        place = Place.parse(text)
    except UsageError:
        raise not_seen(text, adverts) from None
    return Target((Place(place.host, PAIRING_PORT),))


def not_seen(text: str, adverts: Sequence[Advert]) -> PeerError:
    """The error for a name that nobody has."""
    seen = _listed(adverts) or "none"
    return Unreachable(
        f"no device called {text!r} was found on this network",
        advice=f"Seen: {seen}. You can also name its address.",
    )


def _listed(adverts: Sequence[Advert]) -> str:
    return ", ".join(map(_called, adverts))


def _called(advert: Advert) -> str:
    return f"{on_one_line(advert.name)} ({advert.device_id})"
