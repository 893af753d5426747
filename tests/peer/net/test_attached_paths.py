"""Sessions over remote paths: one key each, never local, and apart from the sessions of the LAN."""

import asyncio
import json
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.errors import HandshakeFailed, PinMismatch, Unreachable
from peer.identity import Identity
from peer.limits import Limits
from peer.net.admission import SessionPriority
from peer.net.association import Association
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.session_route import PATH_ADDRESS, PATH_MTU, SessionRoute
from peer.testing import MemoryNet
from tests.kit.internals import endpoint_of, half_open, known_hosts_of, rated_sources, remotes_of
from tests.kit.memory_paths import MemoryPath
from tests.kit.serve import Served
from tests.kit.waiting import until

SHORT_HEADER, LONG_HEADER = b"\x40short", b"\xc0long"


def get(*path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=path)


class Streams:
    """A stream layer that notes what it receives."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.ended: list[Association] = []
        self.is_open = False

    def receive_untrusted(self, association: Association, data: bytes) -> None:
        assert association.established
        self.received.append(data)

    def session_ended(self, association: Association) -> None:
        self.ended.append(association)

    def is_in_use(self, _association: Association) -> bool:
        return self.is_open


async def connect(
    served: Served, caller: CoapsClient, key: Identity
) -> tuple[CoapsConnection, MemoryPath, MemoryPath]:
    """Attach a path for a key, and connect over it."""
    near, far = MemoryPath.attached(served.server, key.fingerprint)
    connection = await caller.connect_over(near, pinned=served.identity.fingerprint)
    return connection, near, far


def session_of(served: Served) -> Association:
    """The only session of a server."""
    (association,) = endpoint_of(served.server).associations()
    return association


async def test_a_session_over_a_path_is_never_local(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    connection, _near, far = await connect(served, caller, client)
    seen = json.loads((await connection.request(get("who"))).payload)
    assert (seen["local"], seen["rule"], seen["hop_limit"]) == (False, "path", None)
    (session,) = served.server.sessions()
    assert (session.is_local, session.path) == (False, SessionRoute.DIRECT)
    assert session.address == far.remote_address
    assert connection.peer.path == "direct"


async def test_sessions_on_sockets_say_lan_or_address(serve: Any, caller: CoapsClient) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=served.identity.fingerprint)
    (session,) = served.server.sessions()
    assert (session.path, connection.peer.path) == (SessionRoute.LAN, SessionRoute.ADDRESS)


async def test_the_peer_of_a_path_follows_its_carrier(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    _connection, _near, far = await connect(served, caller, client)
    (remote,) = remotes_of(served.server)
    before = remote.peer
    assert remote.peer is before
    far.route = SessionRoute.RELAY
    assert remote.peer.path is SessionRoute.RELAY
    assert remote.peer.session_id == before.session_id


async def test_a_path_needs_no_cookie_exchange(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    _connection, near, far = await connect(served, caller, client)
    assert len([data for data in near.sent if data[13:14] == b"\x01"]) == 1, "ClientHellos"
    assert far.sent[0][13:14] == b"\x02", "the first answer is a ServerHello"


async def test_datagrams_of_dtls_on_a_path_are_small(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    connection, near, far = await connect(served, caller, client)
    body = bytes(20_000)
    message = aiocoap.Message(code=Code.POST, uri_path=("echo",), payload=body)
    assert (await connection.request(message)).payload == body
    sent = [*near.sent, *far.sent]
    assert max(map(len, sent)) <= PATH_MTU
    assert len(sent) < 100, "the blocks have 1024 bytes"


async def test_a_path_refuses_every_other_key(serve: Any, client: Identity) -> None:
    """The other key is known too, and its handshake is valid; but the path is not for it."""
    served = await serve()
    async with CoapsClient(Identity.create()) as another:
        with pytest.raises(HandshakeFailed):
            await connect(served, another, client)
    assert served.count("path-key-refused") == 1
    assert (served.server.sessions(), served.echo.served) == ([], 0)


async def test_a_path_refuses_its_key_once_that_is_unknown(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    served.priorities[client.fingerprint] = SessionPriority.LOW
    with pytest.raises(HandshakeFailed):
        await connect(served, caller, client)
    assert served.count("path-key-refused") == 1


async def test_a_client_refuses_every_other_device_on_a_path(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    near, far = MemoryPath.attached(served.server, client.fingerprint)
    with pytest.raises(PinMismatch):
        await caller.connect_over(near, pinned=Identity.create().fingerprint)
    assert near.is_closed
    await until(lambda: far.is_closed)
    assert served.count("handshakes-failed") == 1


async def test_the_pairing_port_has_no_paths(serve: Any, client: Identity) -> None:
    served = await serve(pairing=True)
    with pytest.raises(ValueError, match="no remote paths"):
        served.server.attach(MemoryPath(), client.fingerprint)


# -- the ends of session and path -----------------------------------------------------------------


async def test_the_end_of_a_session_closes_its_path(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    connection, near, far = await connect(served, caller, client)
    await connection.close()
    assert near.is_closed
    await until(lambda: far.is_closed)
    assert served.server.sessions() == []


async def test_the_end_of_a_path_ends_its_session_on_both_sides(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    connection, near, far = await connect(served, caller, client)
    far.lose()
    assert served.server.sessions() == []
    near.lose()
    assert not connection.is_open
    with pytest.raises(Unreachable):
        await connection.request(get("echo"))


async def test_a_path_that_ends_in_the_handshake_is_reported(
    caller: CoapsClient, client: Identity
) -> None:
    near, _far = MemoryPath.pair()
    connecting = asyncio.create_task(caller.connect_over(near, pinned=client.fingerprint))
    await until(lambda: near.sent)
    near.lose()
    with pytest.raises(Unreachable, match="path"):
        await connecting


async def test_a_revocation_ends_session_and_path_in_one_turn(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    _connection, _near, far = await connect(served, caller, client)
    assert served.server.end_sessions(lambda key: key == client.fingerprint) == 1
    assert far.is_closed
    assert served.server.sessions() == []


async def test_a_revocation_ends_the_path_of_a_handshake_that_has_not_begun(
    serve: Any, client: Identity
) -> None:
    served = await serve()
    far = MemoryPath()
    served.server.attach(far, client.fingerprint)
    assert served.server.end_sessions(lambda key: key == client.fingerprint) == 1
    assert far.is_closed


async def test_closing_the_server_closes_its_paths(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    waiting = MemoryPath()
    served.server.attach(waiting, client.fingerprint)
    _connection, _near, far = await connect(served, caller, client)
    await served.server.close()
    assert waiting.is_closed
    assert far.is_closed


async def test_a_path_without_a_handshake_is_closed(serve: Any, client: Identity) -> None:
    served = await serve(limits=Limits(handshake_seconds=0.05))
    far = MemoryPath()
    served.server.attach(far, client.fingerprint)
    await until(lambda: far.is_closed)
    assert served.count("handshakes-timed-out") == 1


async def test_numbers_of_sockets_are_not_used_twice(serve: Any, client: Identity) -> None:
    served = await serve()
    numbers = set()
    for _ in range(3):
        far = MemoryPath()
        peer = served.server.attach(far, client.fingerprint)
        assert peer.address == PATH_ADDRESS
        numbers.add(peer.socket)
        far.lose()
    assert len(numbers) == 3
    assert served.server.is_serving()


# -- paths, and the tables of the endpoint --------------------------------------------------------


async def test_paths_do_not_disturb_each_other_nor_the_lan(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    """All paths have one address. No table that shares out by address knows of them."""
    limits = Limits(half_open=1, half_open_reserve=0, handshakes_per_second=0.001)
    served = await serve(limits=limits)
    waiting = [MemoryPath() for _ in range(16)]
    for far in waiting:
        served.server.attach(far, client.fingerprint)
    paths = [await connect(served, caller, client) for _ in range(3)]
    assert (half_open(served.server), rated_sources(served.server)) == (0, 0)
    direct = await caller.connect(served.address, pinned=served.identity.fingerprint)
    for connection in (direct, *(connection for connection, *_ in paths)):
        assert (await connection.request(get("echo"))).code is Code.CONTENT
    assert not any(far.is_closed for far in waiting)
    assert len(served.server.sessions()) == 4


async def test_a_path_makes_no_known_host(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    """An address with a known key has a reserve; the address of all paths must not."""
    served = await serve()
    await connect(served, caller, client)
    assert PATH_ADDRESS.host not in known_hosts_of(served.server)


async def test_a_path_is_unused_unless_its_session_is_in_use(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    near, far = MemoryPath.pair()
    peer = served.server.attach(far, client.fingerprint)
    connection = await caller.connect_over(near, pinned=served.identity.fingerprint)
    await until(lambda: served.server.unused_seconds(peer) > 0)
    stream = connection.observe(get("value"))
    await anext(stream)
    assert served.server.unused_seconds(peer) == 0
    assert connection.is_in_use
    await stream.aclose()
    await until(lambda: served.server.unused_seconds(peer) > 0)
    streams = Streams()
    streams.is_open = True
    session_of(served).arm_streams(streams)
    assert served.server.unused_seconds(peer) == 0


# -- streams --------------------------------------------------------------------------------------


async def test_datagrams_of_streams_reach_an_armed_session_on_a_path(
    serve: Any, caller: CoapsClient, client: Identity
) -> None:
    served = await serve()
    connection, near, _far = await connect(served, caller, client)
    on_device, on_client = Streams(), Streams()
    session_of(served).arm_streams(on_device)
    connection.association.arm_streams(on_client)
    assert connection.association.send_datagram(SHORT_HEADER)
    await until(lambda: on_device.received)
    assert session_of(served).send_datagram(LONG_HEADER)
    await until(lambda: on_client.received)
    assert (on_device.received, on_client.received) == ([SHORT_HEADER], [LONG_HEADER])
    assert (await connection.request(get("echo"))).code is Code.CONTENT
    association = session_of(served)
    await connection.close()
    await until(lambda: on_device.ended)
    assert (on_device.ended, len(on_client.ended)) == ([association], 1)
    assert not association.send_datagram(SHORT_HEADER)
    near.deliver(SHORT_HEADER)
    assert len(on_client.received) == 1


async def test_datagrams_of_streams_reach_an_armed_session_on_the_lan(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=served.identity.fingerprint)
    on_device, on_client = Streams(), Streams()
    session_of(served).arm_streams(on_device)
    connection.association.arm_streams(on_client)
    connection.association.send_datagram(LONG_HEADER)
    await until(lambda: on_device.received)
    session_of(served).send_datagram(SHORT_HEADER)
    await until(lambda: on_client.received)
    assert (await connection.request(get("echo"))).code is Code.CONTENT


@pytest.mark.parametrize("data", [SHORT_HEADER, LONG_HEADER])
async def test_streams_get_no_byte_before_their_session_is_armed(
    serve: Any, caller: CoapsClient, client: Identity, data: bytes
) -> None:
    """Neither from a stranger, nor in a session that was not armed, on sockets and on paths."""
    net = MemoryNet()
    served = await serve(net=net)
    near, far = MemoryPath.attached(served.server, client.fingerprint)
    far.deliver(data)
    connection = await caller.connect_over(near, pinned=served.identity.fingerprint)
    far.deliver(data)
    near.deliver(data)
    stranger = net.connect(served.address, on_datagram=_unexpected, on_error=_unexpected)
    stranger.send(data, served.address)
    await until(lambda: served.count("streams-not-armed") == 3)
    assert caller.counters["streams-not-armed"] == 1
    assert (await connection.request(get("echo"))).code is Code.CONTENT


@pytest.mark.parametrize("first", [0, 19, 128, 191])
async def test_other_first_bytes_are_no_datagrams_of_streams(
    serve: Any, caller: CoapsClient, client: Identity, first: int
) -> None:
    served = await serve()
    _connection, _near, far = await connect(served, caller, client)
    streams = Streams()
    session_of(served).arm_streams(streams)
    far.deliver(bytes([first]) + bytes(30))
    assert (streams.received, served.count("dtls-malformed")) == ([], 1)


def _unexpected(_: object) -> None:
    raise AssertionError


@pytest.mark.parametrize("content_type", [20, 21, 22, 23])
async def test_forged_records_do_not_stop_a_handshake_on_a_path(
    serve: Any, caller: CoapsClient, client: Identity, content_type: int
) -> None:
    """Anyone can send to the port of a carrier. A path drops records of epoch 0, but not these.

    They come before, between and after the flights, on both sides.
    """
    served = await serve()
    near, far = MemoryPath.attached(served.server, client.fingerprint)
    forged = bytes([content_type]) + b"\xfe\xfd\0\x01" + bytes(6) + b"\0\x40" + bytes(64)
    far.deliver(forged)
    connecting = asyncio.create_task(caller.connect_over(near, pinned=served.identity.fingerprint))
    while not connecting.done():
        for end in (near, far):
            end.deliver(forged)
        await asyncio.sleep(0)
    connection = await connecting
    assert (await connection.request(get("echo"))).code is Code.CONTENT
