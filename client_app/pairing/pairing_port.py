"""Connecting to the pairing port of a target."""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from client_app.connection_attempts import Candidate, ConnectionAttempts
from client_app.connector import Connector, resolved
from client_app.errors import ClientClosed
from client_app.finder import candidates
from client_app.host_port import PAIRING_PORT, REGULAR_PORT
from client_app.pairing.ceremony import Ceremony
from client_app.pairing.messages import Offer
from client_app.pairing.targets import Target, no_daemon, no_window, sought_elsewhere
from peer.errors import NotLocal, OtherPort, PeerError, PinMismatch, Unreachable, WindowClosed
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
    search = _Search(connector, target, own=own, limits=limits)
    heard: dict[Advert, None] = {}
    sources = [resolved(one, expects_own=one in target.named) for one in target.host_ports]
    sources += [_announced(advert) for advert in target.adverts]
    if target.is_sought and target.pinned is not None:
        sources.append(connector.finder.pairing(target.pinned.device_id, heard))
    attempts = ConnectionAttempts(search.connect, limits=limits)
    try:
        connection = await connector.until_closed(attempts.run(sources))
    except PinMismatch as error:
        raise connector.mismatch(error) from None
    except ClientClosed:
        raise
    except Unreachable as error:
        if attempts.tried or not (heard or target.host):
            raise error from None
    else:
        return OpenDevice(connection, search.offers[connection])
    elsewhere = sought_elsewhere(target, list(heard))
    return await connect_pairing_port(connector, elsewhere, own=own, limits=limits)


class _Search:
    """Opens sessions with the pairing port of one device; `offers` has its offer in each."""

    def __init__(
        self, connector: Connector, target: Target, *, own: Fingerprint, limits: Limits
    ) -> None:
        self.offers: dict[CoapsConnection, Offer] = {}
        self._connector = connector
        self._target = target
        self._own = own
        self._limits = limits

    async def connect(self, address: Address) -> CoapsConnection:
        """Connect to one address, or to the pairing port that its regular port names."""
        try:
            return await self._offered(address)
        except OtherPort as other:
            return await self._offered(_at_port(address, other))
        except Unreachable as error:
            if not error.refused:
                raise
            refused = error
        # Nothing listens there. The regular port knows whether the window is open, and where.
        regular = replace(address, port=self._target.port or REGULAR_PORT)
        is_known = bool(self._target.port) or address.port in {PAIRING_PORT, REGULAR_PORT}
        if regular == address:
            raise no_daemon(regular)
        try:
            return await self._offered(regular)
        except OtherPort as other:
            elsewhere = _at_port(address, other)
            if elsewhere == address:
                raise no_window(refused) from None
            return await self._offered(elsewhere)
        except (NotLocal, WindowClosed):
            raise
        except PeerError as error:
            if is_known and isinstance(error, Unreachable) and error.refused:
                raise no_daemon(regular, address) from None
            raise no_window(refused) from None

    async def _offered(self, address: Address) -> CoapsConnection:
        """Connect to an address, and get the offer of the device there."""
        connection = await self._connector.transport.connect(address, pinned=self._target.pinned)
        try:
            proved = connection.peer.fingerprint
            if self._target.device_id and proved.device_id != self._target.device_id:
                raise PinMismatch(self._target.device_id, proved.device_id, is_known=False)
            ceremony = Ceremony(connection, own=self._own, limits=self._limits)
            self.offers[connection] = await ceremony.offer()
        except BaseException:
            await connection.close()
            raise
        return connection


def _at_port(address: Address, other: OtherPort) -> Address:
    """Return an address with the port that the device has named. Raises `OtherPort` without one."""
    if other.port in {0, address.port}:
        raise other
    return replace(address, port=other.port)


async def _announced(advert: Advert) -> AsyncIterator[Candidate]:
    for candidate in await candidates(advert, advert.pairing_port):
        yield candidate
