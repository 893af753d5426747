"""Private attributes that tests need, in one place (`tests/test_private_access.py`).

A test that nothing is left behind counts the entries of tables that have no public name. A test
that an attack fails shows that the same attack succeeds without the defence, and takes it out here.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.blockwise import Block1Spool
from OpenSSL import SSL, crypto
from OpenSSL._util import lib
from zeroconf import Zeroconf

from client_app.connection_attempts import ConnectionAttempts
from client_app.device import Device
from client_app.pairing.attempt import PairingAttempt
from client_app.session import DeviceSession
from device_app import daemon
from device_app.access.authority import Authority
from device_app.access.event_budget import RefusalBudget
from device_app.pairing.service import PairingService
from device_app.resources.board import BoardReadings, OneReading, Readings
from iam.access import Access
from iam.store import Store
from peer.limits import DEFAULT_LIMITS
from peer.net.advertiser import Advertiser
from peer.net.aiocoap_seam.response_blocks import ResponseBlocks, _Key
from peer.net.association import Association
from peer.net.client import CoapsClient
from peer.net.coaps import CoapsLayer
from peer.net.connection import CoapsConnection
from peer.net.datagram import Datagram
from peer.net.direct import DirectPath
from peer.net.discovery import Search
from peer.net.endpoint import Endpoint
from peer.net.exchange import Exchange
from peer.net.known_hosts import KnownHosts
from peer.net.link_follower import LinkFollower
from peer.net.remote import CoapsRemote
from peer.net.server import CoapsServer
from peer.net.session_paths import SessionPaths
from peer.net.site import Authorise, GuardedSite, admit_none
from peer.pairing import code
from peer.pairing.binding import Confirmation
from peer.pairing.jpake import EcJpake
from peer.pairing.one_shot import OneShot
from peer.pairing.sides import Terms
from peer.remote.broker import Broker
from peer.remote.streams_quic import StreamConnection
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


def direct_of(server: CoapsServer) -> DirectPath:
    """The path of plain requests that does not use aiocoap."""
    assert server._layer._direct is not None
    return server._layer._direct


def mqtt_client_of(broker: Broker) -> Any:
    """The client of paho-mqtt below a connection with a broker."""
    return broker._client._client


def count_direct_answers(server: CoapsServer) -> list[bytes]:
    """Return a list to which each answer of the direct path is added."""
    direct, found = direct_of(server), list[bytes]()
    answer_untrusted = direct.answer_untrusted

    def counted(remote: CoapsRemote, message: bytes) -> bytes | None:
        answer = answer_untrusted(remote, message)
        if answer is not None:
            found.append(answer)
        return answer

    direct.answer_untrusted = counted  # type: ignore[method-assign]
    return found


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


def known_hosts_of(server: CoapsServer) -> KnownHosts:
    """The addresses from which known keys connected."""
    return server._endpoint._known_hosts


def sockets_of(server: CoapsServer) -> Sequence[Any]:
    """The bound sockets of a server."""
    return [*server._endpoint._sockets.values()]


def paths_of(server: CoapsServer) -> list[SessionPaths]:
    """The tables of the paths of sessions, one for each socket."""
    return [*server._endpoint._paths.values()]


def check_paths(server: CoapsServer) -> int:
    """Check that each path leads to a session of the endpoint; return how many paths there are."""
    live, found = set(server._endpoint._table.all.values()), 0
    for paths in paths_of(server):
        sessions = [one._session for one in paths.receivers.values()]
        assert len(sessions) == len(set(sessions)), "a session has two paths"
        assert live.issuperset(sessions), "a path leads to a session that has ended"
        assert paths._of_session == {
            one._session: arrival for arrival, one in paths.receivers.items()
        }
        found += len(sessions)
    return found


def searched_datagrams(server: CoapsServer) -> list[Datagram]:
    """Return a list to which each datagram is added whose session the endpoint has to search."""
    found: list[Datagram] = []

    def search(datagram: Datagram, go_on: Callable[[Datagram], None]) -> None:
        found.append(datagram)
        go_on(datagram)

    for sock in sockets_of(server):
        sock._on_datagram = partial(search, go_on=sock._on_datagram)
    return found


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


def deliver(server: CoapsServer, datagram: Datagram) -> None:
    """Let a server process a datagram at once, as if it had received it."""
    server._endpoint._datagram(0, datagram)


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


def replace_readings(site: GuardedSite, readings: Readings) -> None:
    """Let the resources of the board return these values."""
    for resource in site.paths().values():
        if isinstance(resource, BoardReadings | OneReading):
            resource._read = lambda: readings


def session_of(device: Device) -> DeviceSession:
    """The sessions of a client with a device."""
    return device._session


def before_reconnect(device: Device, do: Callable[[], object]) -> None:
    """Call a function each time before a client opens another session with a device."""
    reconnect = device._session._reconnect

    async def prepared() -> CoapsConnection:
        do()
        return await reconnect()

    device._session._reconnect = prepared


def association_of(connection: CoapsConnection) -> Association:
    """The session below a client's connection."""
    return connection._remote.association


def send_datagram(association: Association, data: bytes) -> None:
    """Send a datagram on the path of a session, as it is."""
    association._socket.send(data, association.remote, source="", ifindex=0)


async def request_by_hand(
    connection: CoapsConnection, message: aiocoap.Message, *, timeout: float = TIMEOUT_SECONDS
) -> aiocoap.Message:
    """Send one message with the block options that it has, and return its answer."""
    message.remote = connection._remote
    exchange = Exchange(message, connection._layer, connection._limits, is_block=True)
    return await exchange.response(timeout=timeout)


def partial_transfers() -> int:
    """The number of partial request bodies and partial answers in this process."""
    gc.collect()  # earlier tests leave reference cycles
    kept: list[Any] = []
    for one in gc.get_objects():
        if isinstance(one, Block1Spool):
            kept.append(one._assemblies)
        elif isinstance(one, ResponseBlocks):
            kept.append(one._stored)
    return sum(len(getattr(one, "_items", one)) for one in kept)


def forget_answers(server: CoapsServer) -> None:
    """Drop the answers of which a server has sent some blocks, as if others had displaced them."""
    for remote in remotes_of(server):
        remote.blocks.responses._stored.clear()


def use_any_certificate(context: SSL.Context, der: bytes) -> None:
    """Send a certificate that pyOpenSSL refuses since `cryptography` cannot parse it."""
    certificate = crypto.load_certificate(crypto.FILETYPE_ASN1, der)
    assert lib.SSL_CTX_use_certificate(context._context, certificate._x509) == 1


def queued_origins(attempts: ConnectionAttempts) -> int:
    """The number of origins whose addresses wait to be tried; a search ends without them."""
    return len(attempts._waiting)


def remembered_refusals(budget: RefusalBudget) -> tuple[int, int]:
    """The number of refusals that a budget remembers, and of sources with omitted ones."""
    return len(budget._last), len(budget._omitted)


def secrets_of(exchange: EcJpake) -> Sequence[Any]:
    """The secrets that an exchange holds. It erases them at its end, which only memory shows."""
    return exchange._secrets


def has_links(search: Search) -> bool:
    """Whether a search listens on any link."""
    return bool(search._links)


def replace_wait_for_change(
    patch: pytest.MonkeyPatch, wait: Callable[[float | None], Awaitable[bool]]
) -> None:
    """Replace the wait of each `LinkFollower` for a change of links, which takes a timeout."""
    patch.setattr(LinkFollower, "_has_changed", lambda _self, timeout: wait(timeout))


# -- defences taken out -----------------------------------------------------------------------


def reuse_random_bytes(service: PairingService, random_bytes: Callable[[int], bytes]) -> None:
    """Let window, ceremony, nonces and scalars of a device repeat, as with a broken generator."""
    for user in (service._factory, service.ceremonies, service.methods):
        user._random_bytes = random_bytes


def without_step_guard(patch: pytest.MonkeyPatch) -> None:
    """Let the steps of an exchange run in any order and number, and keep its secrets."""
    patch.setattr(OneShot, "_enter", lambda *_: None)
    patch.setattr(OneShot, "_finish", lambda *_, **__: None)
    patch.setattr(EcJpake, "_finish", lambda *_, **__: None)


def replace_code_tags(
    patch: pytest.MonkeyPatch, change: Callable[[EcJpake, Terms, Confirmation], Confirmation]
) -> None:
    """Replace the tags of the method `code`, which come from the shared point and both roles."""
    derive = code._derive_tags
    patch.setattr(
        code,
        "_derive_tags",
        lambda exchange, terms: change(exchange, terms, derive(exchange, terms)),
    )


def without_comparison(patch: pytest.MonkeyPatch) -> None:
    """Let a client store a device that says that it knows the client, and ask no one."""

    async def nothing(*_: object) -> None:
        return None

    patch.setattr(PairingAttempt, "_compare", nothing)


def answer_all(site: GuardedSite, refuse: Authorise, patch: pytest.MonkeyPatch) -> None:
    """Let a site answer all requests with what `refuse` raises."""
    patch.setattr(site, "_authorise", refuse)
    patch.setattr(site, "admit", admit_none)


def settled_decisions(access: Access) -> int:
    """The number of decisions that a set of policies remembers."""
    return len(access._settled)


def remembered_subjects(authority: Authority) -> int:
    """The number of subjects that the authority of a device remembers."""
    return len(authority._subjects)


def replace_end_of_run(
    patch: pytest.MonkeyPatch, wait: Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]
) -> None:
    """Wait like this for the end of a daemon that runs in this process."""
    patch.setattr(daemon, "_first_of", wait)


def bodies_in_bytes(remote: CoapsRemote) -> int:
    """The bytes of the stored responses of which a session sends blocks directly."""
    stored = remote.stored_responses
    assert isinstance(stored, ResponseBlocks)
    return sum(len(body.payload) for body in stored._bodies.values())


def store_response(request: aiocoap.Message, whole: aiocoap.Message) -> ResponseBlocks:
    """The responses of a session that has sent the first block of one."""
    made = ResponseBlocks(DEFAULT_LIMITS)
    made._store(_Key.of(request), whole, request)
    return made


def ignore_windows(client: StreamConnection, stream_id: int) -> None:
    """Let a client send on a stream without regard to the windows of the device."""
    quic: Any = client._quic
    quic._remote_max_data = quic._streams[stream_id].max_stream_data_remote = 1 << 40


def ignore_stream_limit(client: StreamConnection) -> None:
    """Let a client open streams without regard to the limit of the device."""
    quic: Any = client._quic
    quic._remote_max_streams_bidi = 1 << 20


def sendable_bytes(client: StreamConnection) -> int:
    """Return how much a client may send on all streams together before data is taken."""
    quic: Any = client._quic
    return int(quic._remote_max_data - quic._remote_max_data_used)
