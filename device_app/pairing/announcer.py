"""Announces the device by mDNS, and whether it is open for pairing."""

import asyncio
import logging
import socket
from collections.abc import Sequence

from device_app.access.audit_log import AuditLog
from device_app.access.elsewhere import Elsewhere
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.pairing.service import PairingService
from peer.net.advertiser import Advertiser
from peer.net.interfaces import IpAddress

_log = logging.getLogger("handfast.app")


class Announcer:
    """Keeps the mDNS announcement in step with the pairing window, and notes those of other hosts.

    `pairing_port` is the configured port, announced while no window has bound one; 0 is unknown.
    """

    def __init__(
        self,
        service: PairingService,
        *,
        name: str,
        port: int,
        pairing_port: int,
        interfaces: Sequence[str] | None,
        audit: AuditLog,
    ) -> None:
        self._service = service
        #: The other hosts that announce this device.
        self.elsewhere = Elsewhere(audit, monotonic=asyncio.get_running_loop().time)
        self._pairing_port = pairing_port
        self._advertiser = Advertiser(
            name=name,
            device_id=service.device.device_id,
            port=port,
            pairing_port=service.port.number or pairing_port,
            interfaces=interfaces,
            on_trouble=_log_trouble,
            on_duplicate=self._on_duplicate,
        )
        self._update: asyncio.Task[None] | None = None
        self._unsubscribe = service.events.subscribe(self._on_event)

    @property
    def trouble(self) -> str:
        """Why the device is not announced, or an empty string."""
        return self._advertiser.trouble

    async def start(self) -> None:
        """Announce the device as soon as it is possible; clients may know the address anyway."""
        await self._advertiser.start()

    async def close(self) -> None:
        """Withdraw the announcement."""
        self._unsubscribe()
        if self._update is not None:
            await self._update
        await self._advertiser.close()

    def _on_duplicate(self, address: IpAddress, interface: int) -> None:
        try:
            name = socket.if_indextoname(interface) if interface else ""
        except OSError:  # it is gone
            name = ""
        self.elsewhere.note(str(address), name)

    def _on_event(self, event: PairingEvent) -> None:
        if event.kind in {PairingEventKind.OPENED, PairingEventKind.CLOSED}:
            self._update = asyncio.create_task(
                self._announce(after=self._update), name="announce the pairing window"
            )

    async def _announce(self, *, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await after
        try:
            await self._advertiser.set_pairing(
                open=self._service.is_open,
                pairing_port=self._service.port.number or self._pairing_port,
            )
        except Exception as error:  # of the network; the window is open in any case
            _log.warning("the pairing window could not be announced: %r", error)


def _log_trouble(trouble: str) -> None:
    """Log that the device is not announced any more, or is announced again."""
    if trouble:
        _log.warning("not announced by mDNS, trying again until it works: %s", trouble)
    else:
        _log.info("announced by mDNS")
