"""Local TCP ports of `handfast tunnel`: each connection goes to a service of a device."""

import asyncio
import errno
from collections.abc import Awaitable, Callable

from peer.errors import PeerError
from peer.net.address import connect_failure
from peer.net.tasks import cancel_all
from peer.remote.stream_copy import Pair, join, reset


class Listener:
    """A local TCP port whose connections go to a service of the device.

    Args:
        service: the name of the service, for what is noted.
        connect: connects to the service. Raises `PeerError`.
        on_note: called with a sentence for each connection that fails; it is reset then.
    """

    def __init__(
        self,
        service: str,
        connect: Callable[[], Awaitable[Pair]],
        on_note: Callable[[str], None],
    ) -> None:
        self._service = service
        self._connect = connect
        self._on_note = on_note
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.host = ""
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises `PeerError` if the port cannot be used."""
        try:
            self._server = await asyncio.start_server(self._accepted, host, port)
        except OSError as error:
            is_port = error.errno in {errno.EADDRINUSE, errno.EACCES}
            where = f"{host} port {port}" if port else host
            raise PeerError(
                f"cannot listen on {where}: {connect_failure(error)}",
                advice="Choose another port, or 0 for any."
                if is_port
                else "Choose an address of this machine.",
            ) from error
        self.host, self.port = self._server.sockets[0].getsockname()[:2]

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            pair = await self._connect()
        except PeerError as error:
            self._on_note(f"{self._service}: {error}. {error.advice}".strip())
            reset(writer)
        except BaseException:
            reset(writer)
            raise
        else:
            await join((reader, writer), pair)

    async def close(self) -> None:
        """Stop listening, and reset the connections."""
        if self._server is not None:
            self._server.close()
        await cancel_all(self._tasks)
