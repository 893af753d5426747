"""Fetching the settings for reaching a device from other networks: GET `/remote`.

It is done in the background: after a pairing, and beside the requests of each session at an address
of the device. Over a path, the device does not give them. A device that gave none is asked once an
hour. A failure is logged and stored, never raised: the settings are needed later, and not by this
command.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from aiocoap.numbers.codes import Code

from client_app.errors import BookError
from client_app.exchange import ask
from client_app.limits import REMOTE_FETCH_SECONDS, REMOTE_LINGER_SECONDS
from client_app.routes import is_path
from peer.errors import Malformed, PeerError, RequestFailed
from peer.net.tasks import cancel_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from client_app.device import Device
    from client_app.known_device import KnownDevice
    from client_app.remote_reach import RemoteReach
    from client_app.session import DeviceSession
    from peer.fingerprint import Fingerprint
    from peer.net.connection import CoapsConnection

PATH: Final = ("remote",)
_log = logging.getLogger(__name__)


class RemoteRefresh:
    """Fetches the settings of devices in the background.

    Args:
        reach: stores them.
        connect: connects to a device at the address at which it answered last.
    """

    def __init__(
        self, reach: RemoteReach, connect: Callable[[KnownDevice], Awaitable[CoapsConnection]]
    ) -> None:
        self._reach = reach
        self._connect = connect
        self._running: dict[Fingerprint, asyncio.Task[None]] = {}
        self._first: set[asyncio.Task[None]] = set()  # those after a pairing

    def begin(self, known: KnownDevice) -> None:
        """Fetch the settings of a device with which this client has just paired."""
        if known.fingerprint not in self._running:
            self._first.add(self._run(known.fingerprint, self._fetch_first(known)))

    def consider(self, session: DeviceSession, device: Fingerprint) -> None:
        """Fetch the settings over a session that was just opened, if they are due."""
        if is_path(session.connection) or device in self._running:
            return
        try:
            entry = self._reach.find(device)
        except BookError as error:
            _log.info("%s", error)
            return
        if entry is not None and not entry.is_due(self._reach.now()):
            return
        self._run(device, self._fetch(device, session.get_beside(PATH)))

    async def close(self) -> None:
        """End what runs.

        After a pairing, the settings are waited for: the next command may be on another network.
        Otherwise, an answer that is under way is waited for a moment. A device that has not
        answered then is not asked again by the next commands, which therefore do not wait.
        """
        if self._first:
            await asyncio.wait(self._first)
        running = [*self._running.values()]
        if running:
            await asyncio.wait(running, timeout=REMOTE_LINGER_SECONDS)
        await cancel_all(running)

    def _run(
        self, device: Fingerprint, fetching: Coroutine[object, object, None]
    ) -> asyncio.Task[None]:
        task = self._running[device] = asyncio.create_task(fetching)
        task.add_done_callback(lambda _task: self._ended(device, task))
        return task

    def _ended(self, device: Fingerprint, task: asyncio.Task[None]) -> None:
        self._first.discard(task)
        del self._running[device]

    async def _fetch_first(self, known: KnownDevice) -> None:
        try:
            async with asyncio.timeout(REMOTE_FETCH_SECONDS):
                connection = await self._connect(known)
                try:
                    answer = ask(connection, Code.GET, PATH, timeout=REMOTE_FETCH_SECONDS)
                    await self._fetch(known.fingerprint, answer)
                finally:
                    await connection.close()
        except (PeerError, TimeoutError) as error:
            _log.info("the settings for reaching %s were not fetched: %s", known.alias, error)

    async def _fetch(self, device: Fingerprint, answer: Awaitable[bytes]) -> None:
        try:
            await self._reach.note_answer(device, await answer)
        except RequestFailed as error:
            if error.code != "4.04":
                await self._reach.note_asked(device)
            else:
                await self._reach.note_settings(device, b"")
        except Malformed as error:
            _log.warning("the device sent settings that are not valid: %s", error)
            await self._reach.note_asked(device)
        except PeerError as error:
            _log.info("the settings for reaching the device were not fetched: %s", error)
            await self._reach.note_asked(device)
        except asyncio.CancelledError:
            await self._reach.note_asked(device)
            raise


async def fetch(reach: RemoteReach, device: Device, known: KnownDevice) -> None:
    """Fetch the settings of a device because the user has asked for them, and store them.

    Raises `RequestFailed` if the device has none, `Denied` if its policy does not permit them, and
    what any request raises.
    """
    try:
        reply = await device.get("/".join(PATH))
    except RequestFailed as error:
        if error.code != "4.04":
            raise
        await reach.note_settings(known.fingerprint, b"")
        raise RequestFailed(
            f"{known.alias} is not set up to be reached from other networks (4.04)",
            advice="To set it up, add [remote] to its device.toml; then run "
            "`handfast-device remote test` on it.",
            code=error.code,
            reason=error.reason,
        ) from error
    try:
        await reach.note_settings(known.fingerprint, reply.payload)
    except Malformed as error:
        raise Malformed(
            f"{known.alias} has sent settings that are not valid: {error}",
            advice="Nothing was stored. Update handfast on the device and on this machine.",
        ) from None
