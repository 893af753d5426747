"""Private state of servers and clients that tests need, in one place.

A test that nothing is left behind counts the entries of tables that have no public name.
"""

import asyncio
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import aiocoap
import aiocoap.resource
from aiocoap.blockwise import Block1Spool, Block2Cache
from zeroconf import Zeroconf

from device_app.pairing.service import PairingService
from iam.store import Store
from peer.net.advertiser import Advertiser
from peer.net.association import Association
from peer.net.client import CoapsClient
from peer.net.coaps import CoapsLayer
from peer.net.connection import CoapsConnection
from peer.net.discovery import Search
from peer.net.endpoint import Endpoint
from peer.net.server import CoapsServer
from tests.kit.waiting import TIMEOUT_SECONDS


def endpoint_of(server: CoapsServer) -> Endpoint:
    return server._endpoint


def layer_of(side: CoapsServer | CoapsClient) -> CoapsLayer:
    return side._layer


def messages_of(side: CoapsServer | CoapsClient) -> Any:
    """The message layer of a side: acknowledgements, backlogs and tokens."""
    return side._layer._messages


def remotes_of(server: CoapsServer) -> list[Any]:
    """The sessions of a server, as aiocoap represents them."""
    return list(server._layer.remotes.values())


def site_of(server: CoapsServer) -> Any:
    """The site that a server serves."""
    site: Any = server._layer.context
    return site.serversite


def half_open(server: CoapsServer) -> int:
    """The number of unfinished handshakes."""
    return len(server._endpoint._half_open)


def rated_sources(server: CoapsServer) -> int:
    """The number of sources that the rate limiter tracks."""
    return len(server._endpoint._rate)


def sockets_of(server: CoapsServer) -> Sequence[Any]:
    return server._endpoint._sockets


def unacknowledged(side: CoapsServer | CoapsClient) -> int:
    """The number of messages that wait for an acknowledgement."""
    return len(side._layer._messages._active_exchanges)


def zeroconf_of(one: Advertiser | Search) -> Zeroconf:
    """The responder or querier of python-zeroconf: its cache, its services and its sockets."""
    assert one._zeroconf is not None
    return one._zeroconf.zeroconf


async def announced(advertiser: Advertiser) -> None:
    """Wait until an advertiser has repeated its announcement; then it only answers queries."""
    await asyncio.gather(*advertiser._broadcasts, return_exceptions=True)


def repeats_kept_by_aiocoap(side: CoapsServer | CoapsClient) -> int:
    """The number of messages in aiocoap's own cache of repeats, which `peer.net` does without."""
    return len(messages_of(side)._recent_messages)


def backlogs_of(side: CoapsServer | CoapsClient) -> Any:
    """The messages queued behind an unacknowledged one, by remote."""
    return side._layer._messages._backlogs


def reuse_token(side: CoapsServer | CoapsClient, number: int) -> None:
    """Give the next request the token after this number, even if an earlier one had it."""
    side._layer._messages.token_manager._token = number


def incoming_requests(side: CoapsServer | CoapsClient) -> Any:
    """The requests that have no answer yet."""
    return side._layer._messages.token_manager.incoming_requests


def record_of(service: PairingService) -> Any:
    """The stored record of the pairing service: attempts, and the label."""
    return service._record


def database_of(store: Store) -> Any:
    """The open SQLite database of a store."""
    return store._file.db


@contextmanager
def unwatched(store: Store) -> Iterator[None]:
    """Inside, no watcher learns of a change of the state."""
    watchers = store._state_watchers._watchers
    kept, watchers[:] = watchers[:], []
    try:
        yield
    finally:
        watchers[:] = kept


def event_watchers(store: Store) -> int:
    """The number of those who wait for events of a store."""
    return len(store._event_watchers)


def observations_of(resource: aiocoap.resource.ObservableResource) -> Any:
    """The observations of a resource."""
    return resource._observations


def association_of(connection: CoapsConnection) -> Association:
    """The session below a client's connection."""
    return connection._remote.association


async def request_by_hand(
    connection: CoapsConnection, message: aiocoap.Message, *, timeout: float = TIMEOUT_SECONDS
) -> aiocoap.Message:
    """Send one message with the block options that it has, and return its answer."""
    message.remote = connection._remote
    request = connection._context.request(message, handle_blockwise=False)
    answer: aiocoap.Message = await connection._answer(request, timeout=timeout)
    return answer


def partial_transfers() -> int:
    """The number of partial request bodies and partial answers in this process."""
    gc.collect()  # earlier tests leave reference cycles
    kept: list[Any] = []
    for one in gc.get_objects():
        if isinstance(one, Block1Spool):
            kept.append(one._assemblies)
        elif isinstance(one, Block2Cache):
            kept.append(one._completes)
    return sum(len(getattr(one, "_items", one)) for one in kept)
