"""Connecting to the pairing port of a target."""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client_app.connection_attempts import Candidate, ConnectionAttempts
from client_app.connector import Connector, resolved
from client_app.finder import candidates
from client_app.pairing.ceremony import Ceremony
from client_app.pairing.messages import Offer
from client_app.pairing.targets import Target, no_window, sought_elsewhere
from peer.errors import PinMismatch, Unreachable
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.address import Address
from peer.net.connection import CoapsConnection

if TYPE_CHECKING:
    from peer.net.discovery import Advert


@dataclass(frozen=True, slots=True)
class OpenDevice:
    """A device that accepts this client for pairing: a session with it, and its offer."""

    connection: CoapsConnection
    offer: Offer


async def connect_pairing_port(
    connector: Connector, target: Target, *, own: Fingerprint, limits: Limits
) -> OpenDevice:
    """Connect to the device of a target, at its stated and its announced addresses.

    At each address the device must prove the key or the device ID that is expected, and make its
    offer. If it refuses there, for example since the path to that address is not local, that is a
    failure of the address. The errors are those of `Ceremony.offer`, and `WindowClosed`,
    `PinMismatch`, `TimedOut` or `Unreachable`; the most significant is raised if no address works.
    """
    offers: dict[CoapsConnection, Offer] = {}

    async def connect(address: Address) -> CoapsConnection:
        connection = await connector.transport.connect(address, pinned=target.pinned)
        try:
            proved = connection.peer.fingerprint
            if target.device_id and proved.device_id != target.device_id:
                raise PinMismatch(target.device_id, proved.device_id, is_known=False)
            offers[connection] = await Ceremony(connection, own=own, limits=limits).offer()
        except BaseException:
            await connection.close()
            raise
        return connection

    heard: dict[Advert, None] = {}
    sources = [resolved(one, expects_own=one in target.named) for one in target.host_ports]
    sources += [_announced(advert) for advert in target.adverts]
    if target.is_sought and target.pinned is not None:
        sources.append(connector.finder.pairing(target.pinned.device_id, heard))
    attempts = ConnectionAttempts(connect, limits=limits)
    try:
        connection = await attempts.run(sources)
    except PinMismatch as error:
        raise connector.mismatch(error) from None
    except Unreachable as error:
        if attempts.tried or not (heard or target.host):
            raise (no_window(error) if error.refused else error) from None
    else:
        return OpenDevice(connection, offers[connection])
    elsewhere = sought_elsewhere(target, list(heard))
    return await connect_pairing_port(connector, elsewhere, own=own, limits=limits)


async def _announced(advert: Advert) -> AsyncIterator[Candidate]:
    for candidate in await candidates(advert, advert.pairing_port):
        yield candidate
