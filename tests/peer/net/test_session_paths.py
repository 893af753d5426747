"""The records of a session that arrive like those before: found at once, with every check."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.dtls.session import DtlsSession, SessionState
from peer.identity import Identity
from peer.limits import LOCALITY_TABLE_SECONDS, MAX_DATAGRAM_BYTES, Limits
from peer.net.address import Address
from peer.net.association import Association
from peer.net.client import CoapsClient
from peer.net.datagram import Arrival, Datagram, Socket
from peer.net.interfaces import InterfaceTable
from peer.net.locality_verdict import LocalMode
from peer.net.onlink import Locality
from peer.net.session_paths import SessionPath, SessionPaths
from peer.net.udp import UdpSocket
from peer.testing import MemoryNet, Proxy
from tests.kit.interfaces import LO
from tests.kit.internals import check_paths, endpoint_of, paths_of, searched_datagrams
from tests.kit.raw_client import GET, RawClient, message
from tests.kit.serve import Serve, Served
from tests.kit.sockets import ClientNet, Inbox
from tests.kit.waiting import until

ONE_HANDSHAKE = Limits(handshake_attempts=1)
SEED = 7


async def ask(connection: Any) -> None:
    answer = await connection.request(aiocoap.Message(code=Code.GET, uri_path=("echo",)))
    assert answer.code is Code.CONTENT


# --------------------------------------------------------------------------------- the common case


@pytest.mark.parametrize("mode", LocalMode)
@pytest.mark.parametrize(("listen", "to"), [("127.0.0.1", ""), ("::1", "::1"), ("::", "127.0.0.1")])
async def test_only_the_first_record_of_a_session_is_searched_for(
    serve: Serve, caller: CoapsClient, mode: LocalMode, listen: str, to: str
) -> None:
    served = await serve(host=listen, mode=mode)
    address = replace(served.address, host=to or listen)
    connection = await caller.connect(address, pinned=None)
    assert check_paths(served.server) == 0, "a handshake makes no entry"
    searched = searched_datagrams(served.server)
    for _ in range(5):
        await ask(connection)
    assert len(searched) == 1
    assert check_paths(served.server) == 1
    (session,) = served.server.sessions()
    assert session.is_local


async def test_a_network_in_memory_does_the_same(serve: Serve) -> None:
    net = MemoryNet()
    served = await serve(net=net)
    async with CoapsClient(Identity.create(), net=net) as client:
        connection = await client.connect(served.address, pinned=None)
        for _ in range(3):
            await ask(connection)
        assert check_paths(served.server) == 1
    await until(lambda: check_paths(served.server) == 0)


# ------------------------------------------------------------------------------------ ends of paths


async def close_by_client(_served: Served, connection: Any) -> None:
    await connection.close()


async def end_by_server(served: Served, _connection: Any) -> None:
    assert sum(endpoint_of(served.server).ending(lambda _key: True)) == 1


async def close_server(served: Served, _connection: Any) -> None:
    await served.server.close()


@pytest.mark.parametrize("end", [close_by_client, end_by_server, close_server])
async def test_a_session_that_has_ended_leaves_no_path(
    serve: Serve, caller: CoapsClient, end: Callable[[Served, Any], Any]
) -> None:
    served = await serve()
    connection = await caller.connect(served.address, pinned=None)
    await ask(connection)
    assert check_paths(served.server) == 1
    await end(served, connection)
    await until(lambda: check_paths(served.server) == 0)


async def test_a_session_that_is_replaced_from_its_own_address_gives_up_its_path(
    serve: Serve, client: Identity
) -> None:
    served = await serve()
    proxy = await Proxy.start(served.address, one_port=True)
    async with CoapsClient(client) as first, CoapsClient(client) as second:
        await ask(await first.connect(proxy.address, pinned=None))
        (arrival,) = paths_of(served.server)[0].receivers
        connection = await second.connect(proxy.address, pinned=None)
        assert check_paths(served.server) == 0
        await ask(connection)
        assert list(paths_of(served.server)[0].receivers) == [arrival]
        assert check_paths(served.server) == 1
    proxy.close()


async def test_evicted_sessions_leave_no_paths(serve: Serve) -> None:
    served = await serve(limits=Limits(sessions=3, session_reserve=0, session_unused_seconds=0.0))
    async with AsyncExitStack() as clients:
        for _ in range(9):
            client = await clients.enter_async_context(CoapsClient(Identity.create()))
            await ask(await client.connect(served.address, pinned=None))
            assert check_paths(served.server) == len(served.server.sessions()) <= 3
    assert served.count("sessions-evicted") == 6


async def test_a_path_that_changes_takes_the_place_of_the_earlier_one(
    serve: Serve, client: Identity
) -> None:
    """Nor does a session whose datagrams alternate between two paths grow the table."""
    served, net = await serve(), ClientNet()
    async with CoapsClient(client, limits=ONE_HANDSHAKE, net=net) as caller:
        connection = await caller.connect(served.address, pinned=None)
        seen = set[Arrival]()
        for hop_limit in (255, 64, 63, 255):
            net.send_with(hop_limit=hop_limit)
            await ask(connection)
            assert check_paths(served.server) == 1
            seen.update(paths_of(served.server)[0].receivers)
        assert len(seen) == 3
        (session,) = served.server.sessions()
        assert not session.is_local, "one datagram was not local"


def test_no_sequence_of_paths_breaks_the_table() -> None:
    """Each session has the arrival that was noted last, unless it was forgotten since."""
    choose, paths = random.Random(SEED), SessionPaths()
    sessions = [cast("Association", object()) for _ in range(6)]
    expected: dict[Association, Arrival] = {}
    for _ in range(2_000):
        number = choose.randrange(len(sessions))
        session = sessions[number]
        if choose.random() < 0.3:
            paths.forget(session)
            expected.pop(session, None)
        else:
            arrival = (number, choose.randrange(4))
            paths.note(session, Datagram(b"x", Address("192.0.2.1", 1), "", 0, None, arrival))
            expected[session] = arrival
        assert set(paths.receivers) == set(expected.values())
    for session in sessions:
        paths.forget(session)
    assert not paths.receivers


# ---------------------------------------------------------------------------------- hostile senders


async def test_a_forged_or_replayed_record_changes_no_path(serve: Serve, client: Identity) -> None:
    """An attacker with the client's address sends by another path, and by the client's own."""
    served, net = await serve(), ClientNet()
    async with CoapsClient(client, limits=ONE_HANDSHAKE, net=net) as caller:
        connection = await caller.connect(served.address, pinned=None)
        await ask(connection)
        before = dict(paths_of(served.server)[0].receivers)
        sealed = net.sent[-1]
        for hop_limit in (64, 255):
            net.send_with(hop_limit=hop_limit)
            net.send(sealed[:-1] + bytes([sealed[-1] ^ 1]))
            net.send(sealed)
        await ask(connection)
        assert served.count("dtls-replayed-or-forged") == 4
        assert paths_of(served.server)[0].receivers == before
        assert served.server.sessions()[0].is_local


async def test_a_forged_record_before_the_first_makes_no_path(
    serve: Serve, client: Identity
) -> None:
    served, net = await serve(), ClientNet()
    async with CoapsClient(client, limits=ONE_HANDSHAKE, net=net) as caller:
        connection = await caller.connect(served.address, pinned=None)
        forged = b"\x17\xfe\xfd\x00\x01" + bytes(5) + b"\x09\x00\x20" + bytes(32)
        net.send(forged)
        await until(lambda: served.count("dtls-replayed-or-forged") == 1)
        assert check_paths(served.server) == 0
        await ask(connection)
        assert check_paths(served.server) == 1


async def test_the_record_of_a_session_from_another_port_reaches_no_session(
    serve: Serve, client: Identity
) -> None:
    served, net = await serve(), ClientNet()
    async with CoapsClient(client, limits=ONE_HANDSHAKE, net=net) as caller:
        connection = await caller.connect(served.address, pinned=None)
        await ask(connection)
        stranger = UdpSocket.connect(
            served.address, on_datagram=lambda _: None, on_error=lambda _: None
        )
        stranger.send(net.sent[-1], served.address)
        await until(lambda: served.count("dtls-no-session") == 1)
        assert check_paths(served.server) == 1
        stranger.close()
        await ask(connection)


async def test_each_record_is_judged_by_the_table_of_its_time(serve: Serve) -> None:
    """An interface that goes down ends the locality of a session whose path stays the same."""
    interface, now = [LO], [100.0]
    locality = Locality(
        mode=LocalMode.STRICT,
        allow_loopback=True,
        table=lambda: InterfaceTable.of(interface),
        now=lambda: now[0],
    )
    served = await serve(locality=locality)
    async with CoapsClient(Identity.create()) as client:
        connection = await client.connect(served.address, pinned=None)
        await ask(connection)
        searched = searched_datagrams(served.server)
        interface[0] = replace(LO, addresses=())
        await ask(connection)
        assert served.server.sessions()[0].is_local, "the table is not old yet"
        now[0] += LOCALITY_TABLE_SECONDS * 1.1
        await ask(connection)
        assert not searched
        assert not served.server.sessions()[0].is_local


async def test_two_records_in_one_datagram_are_both_processed(serve: Serve) -> None:
    held: list[bytes] = []
    is_joining = False

    def join(data: bytes) -> bytes | None:
        """Hold a datagram back, and send it in one with the next."""
        if not is_joining:
            return data
        held.append(data)
        return held[0] + held[1] if len(held) == 2 else None

    served = await serve()
    proxy = await Proxy.start(served.address, to_device=join)
    raw = await RawClient.connect(proxy.address)
    raw.send(message(GET, "echo", number=1))
    await raw.until(1)
    assert check_paths(served.server) == 1
    is_joining = True
    for number in (2, 3):
        raw.send(message(GET, "echo", number=number))
    answers = await raw.until(3)
    assert [one.mid for one in answers] == [1, 2, 3]
    await raw.close()
    proxy.close()


class FailingSession:
    """A session that a record ends: it has an alert to send then."""

    def __init__(self) -> None:
        self.state = SessionState.ESTABLISHED
        self.waiting: list[bytes] = []

    def open_record_untrusted(self, _record: bytes) -> None:
        self.state = SessionState.FAILED
        self.waiting = [b"alert"]

    def take_datagrams(self) -> list[bytes]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def timeout(self) -> None:
        return None

    def release(self) -> None:
        assert not self.waiting


class SentOnly:
    """A socket that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes, _to: Address, **_: object) -> bool:
        self.sent.append(data)
        return True


async def test_a_record_that_ends_its_session_sends_its_alert_and_reports_the_end() -> None:
    """No plaintext means to look for what to send, and for a change of the state."""
    socket, changes = SentOnly(), list[Association]()
    association = Association(
        cast("DtlsSession", FailingSession()),
        socket=cast("Socket", socket),
        remote=Address("192.0.2.1", 4000),
        counters=Counter(),
        on_message=lambda _one, _message: None,
        on_change=changes.append,
    )
    datagram = Datagram(b"", association.remote, "192.0.2.9", 1, 255, ("arrival",))
    record = b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x10" + bytes(16)
    assert SessionPath(association, datagram).receive_untrusted(record)
    assert socket.sent == [b"alert"]
    assert changes == [association]
    assert association.local_host == "", "the record proves no path"


# ------------------------------------------------------------------------------------- the socket


class Recorder:
    """A receiver that takes, refuses, or fails."""

    def __init__(self, outcome: bool | Exception) -> None:
        self._outcome = outcome
        self.offered: list[bytes] = []

    def receive_untrusted(self, data: bytes) -> bool:
        self.offered.append(data)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("outcome", [True, False, RuntimeError("a fault")])
async def test_a_socket_offers_a_datagram_to_the_receiver_of_its_arrival(
    sockets: Any, host: str, outcome: bool | Exception
) -> None:
    inbox, recorder = Inbox(), Recorder(outcome)
    receivers: dict[Arrival, Recorder] = {}
    device = UdpSocket.bind(
        host,
        0,
        on_datagram=inbox.datagrams.put_nowait,
        on_error=inbox.errors.put_nowait,
        receivers=receivers,
    )
    sockets.made.append(device)
    client, other = (sockets.connect(device.local_address, Inbox()) for _ in range(2))
    client.send(b"first", device.local_address)
    first = await inbox.datagram()
    assert first.arrival is not None
    receivers[first.arrival] = recorder
    too_long = bytes(MAX_DATAGRAM_BYTES + 1)
    for sender, data in ((client, b""), (client, too_long), (client, b"mine"), (other, b"last")):
        assert sender.send(data, device.local_address)
    refused = [(await inbox.datagram()).data] if outcome is False else []
    assert refused == ([b"mine"] if outcome is False else [])
    last = await inbox.datagram()
    assert (last.data, last.arrival == first.arrival) == (b"last", False)
    assert recorder.offered == [b"mine"], "neither an empty nor a truncated one"
    assert device.counters == Counter(
        {"received": 5, "empty": 1, "oversize": 1}
        | ({"handler-error": 1} if isinstance(outcome, Exception) else {})
    )
