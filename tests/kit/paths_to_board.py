"""Paths to a board, in memory: what a broker and ICE would set up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client_app.clock import wall_clock
from tests.kit.memory_paths import MemoryPath
from tests.kit.remote_settings import remote_settings

if TYPE_CHECKING:
    from client_app.client import Client
    from peer.fingerprint import Fingerprint
    from peer.net.connection import CoapsConnection
    from peer.net.session_route import SessionRoute
    from peer.remote.settings import RemoteSettings
    from tests.kit.board import Board


class PathsToBoard:
    """Opens sessions over paths in memory, as `client_app.remote_reach.OpenSession`.

    `own` is the key that the board expects of the client. `addresses` and `revision` are what the
    board states at the broker; `route` is the carrier.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self.own: Fingerprint | None = None
        self.addresses: tuple[str, ...] = ()
        self.revision: int | None = None
        self.route: SessionRoute | None = None
        self.error: Exception | None = None
        self.used: list[tuple[RemoteSettings, frozenset[SessionRoute]]] = []
        self.paths: list[MemoryPath] = []

    async def __call__(
        self,
        settings: RemoteSettings,
        *,
        coaps: Any,
        pinned: Any,
        via: frozenset[SessionRoute],
        on_step: Any,
        on_addresses: Any,
        on_revision: Any,
    ) -> CoapsConnection:
        assert callable(on_step)
        self.used.append((settings, via))
        on_revision(settings.revision if self.revision is None else self.revision)
        if self.addresses:
            on_addresses(self.addresses)
        if self.error is not None:
            raise self.error
        client, device = MemoryPath.pair()
        client.route = device.route = self.route or client.route
        self.paths += [client, device]
        assert self.own is not None
        self.board.regular.attach(device, self.own)
        connection: CoapsConnection = await coaps.connect_over(client, pinned=pinned)
        return connection


def with_settings(client: Client, paths: PathsToBoard) -> None:
    """Give a paired client the settings for the paths, as the board would."""
    own, (known,) = client.identity.fingerprint, client.devices
    settings = remote_settings()
    client.remote.book.update(
        known.fingerprint,
        lambda one: one.with_settings(settings, settings.encode(), wall_clock()),
        own=own,
    )
    paths.own = own
