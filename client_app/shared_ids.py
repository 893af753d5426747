"""Device IDs that two devices announce at once: an SD card was copied, or a host pretends.

A device announces digits that are new at each of its starts (protocol §2.6). Two values at
different addresses within a short time are two devices. One device with two links announces one
value, and a device that restarts at another address takes longer, or sends a goodbye packet. Any
host can announce any ID, so this is a notice and changes no decision.
"""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

from typing import TYPE_CHECKING

from client_app.limits import ADVERTS, SHARED_ID_ADDRESSES, SHARED_ID_SECONDS, SHARED_ID_STARTS
from peer.bounded_dict import BoundedDict
from peer.limits import MAX_TTL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from peer.net.adverts import Advert

_Heard = BoundedDict[str, tuple[float, "Advert"]]


class SharedIds:
    """Compares the announcements of each ID. `now` returns monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._heard: BoundedDict[str, _Heard] = BoundedDict(ADVERTS)
        self._shared: BoundedDict[str, bool] = BoundedDict(ADVERTS)

    def others(self, advert: Advert) -> list[Advert]:
        """Take an announcement; return the last ones of other devices with the same ID.

        An announcement without digits can be of any of them; then all devices are returned.
        """
        key = advert.device_id
        if not advert.is_present:
            if not advert.interface:  # gone from all links; which of two devices left is unknown
                self._heard.pop(key, None)
                self._shared.pop(key, None)
            return []
        now, is_shared = self._now(), key in self._shared
        heard = self._heard.setdefault(key, BoundedDict(SHARED_ID_STARTS))
        if advert.start:
            heard[advert.start] = (now, advert)
        recent = [
            (start, one)
            for start, (at, one) in heard.items()
            if now - at < (MAX_TTL_SECONDS if is_shared else SHARED_ID_SECONDS)
        ]
        if not advert.start:
            return [one for _, one in recent] if is_shared else []
        others = [
            one
            for start, one in recent
            if start != advert.start and not {*one.addresses} & {*advert.addresses}
        ]
        if others:
            self._shared[key] = True
        return others


def shared_id_notice(name: str, addresses: Sequence[str]) -> str:
    """Say that two devices announce the ID of the device `name`, and the way out."""
    where = ", ".join(addresses[:SHARED_ID_ADDRESSES])
    return (
        f"two devices announce themselves as {name}, at {where}. If the SD card of one was copied, "
        "give one of both a new key: `handfast-device new-identity`. Any host can announce an ID; "
        "`handfast doctor` tells whether both have the key"
    )
