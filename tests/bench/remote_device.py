"""A device that can be reached remotely, on loopback: `remote_device.py SETTINGS`.

It has the server, the remote agent and the tunnels of a device, without users and policies, and two
bare copies to the same TCP service to compare a tunnel with: one over TCP, one over aioquic.
Commands: `state`, and two that wait: `settle` for the end of all paths, and `drop` until that many
messages have been dropped.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiocoap
import aiocoap.resource
from aioquic.asyncio.server import serve as serve_quic
from aioquic.quic.configuration import QuicConfiguration

from device_app.resources.tunnel_service import Tunnels
from peer.fingerprint import Fingerprint
from peer.identity import Identity
from peer.remote.settings import RemoteSettings
from peer.remote.stream_copy import join
from tests.bench.remote_limits import ALPN, HOST, LIMITS, REMOTE_LIMITS
from tests.bench.worker import run_commands
from tests.kit.loopback_reach import start_agent
from tests.kit.serve import Servers

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE: Final = "copy"
POLL_SECONDS: Final = 0.005


class OpenTunnel(aiocoap.resource.Resource):
    """POST returns the ID of a tunnel to the service."""

    def __init__(self) -> None:
        super().__init__()
        self.tunnels: Tunnels | None = None

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        """Open the tunnel."""
        assert self.tunnels is not None
        tunnel = await self.tunnels.open(request.remote, SERVICE)
        return aiocoap.Message(payload=tunnel.id)


async def copy_to(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy between a connection and the TCP service, as a tunnel does."""
    await join((reader, writer), await asyncio.open_connection(HOST, port))


async def main(settings: dict[str, Any]) -> None:
    """Serve, and run commands until the end of the input."""
    remote = RemoteSettings.decode_untrusted(bytes.fromhex(settings["remote"]))
    port = int(settings["service"])
    identity = Identity.create()
    servers, resource = Servers(identity), OpenTunnel()
    served = await servers.start(limits=LIMITS, more={("tunnels",): resource})
    resource.tunnels = Tunnels(
        identity,
        {SERVICE: f"{HOST}:{port}"},
        is_allowed=lambda _peer, _service: True,
        random_bytes=os.urandom,
        limits=REMOTE_LIMITS,
    )
    client = Fingerprint.parse(settings["client"])
    agent = await start_agent(served.server, remote, client, limits=REMOTE_LIMITS)
    running: set[asyncio.Task[None]] = set()

    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(copy_to(port, reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    async with AsyncExitStack() as stack:
        tcp = await asyncio.start_server(partial(copy_to, port), HOST, 0)
        await stack.enter_async_context(tcp)
        bare = QuicConfiguration(is_client=False, alpn_protocols=[ALPN])
        bare.load_cert_chain(Path(settings["certificate"]), Path(settings["key"]))
        quic = await serve_quic(
            HOST, int(settings["quic_port"]), configuration=bare, stream_handler=on_stream
        )
        stack.callback(quic.close)

        def dropped() -> int:
            counters = agent.view().counters
            return sum(count for name, count in counters.items() if name.startswith("messages-"))

        async def until(holds: Callable[[], bool]) -> None:
            """Ask seldom: what is measured is the CPU time of this process."""
            while not holds():  # noqa: ASYNC110  # no event announces it
                await asyncio.sleep(POLL_SECONDS)

        async def settle() -> None:
            await until(lambda: not agent.view().paths)

        async def drop(count: int) -> None:
            await until(lambda: dropped() >= count)

        async def state() -> dict[str, Any]:
            view = agent.view()
            return {
                "has_udp": view.network.has_udp,
                "port": served.server.port,
                "tcp_port": tcp.sockets[0].getsockname()[1],
                "fingerprint": identity.fingerprint.hex,
                "dropped": dropped(),
            }

        await run_commands({"state": state, "settle": settle, "drop": drop})
    resource.tunnels.close()
    await agent.close()
    await servers.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
