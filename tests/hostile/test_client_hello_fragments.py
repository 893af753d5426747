"""A ClientHello in fragments, and what an attacker can do with fragments (RFC 6347 §4.2.3)."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from peer.dtls import records
from peer.dtls.context import ClientContext
from peer.dtls.session import DtlsSession, SessionState, Ticket
from peer.identity import Identity
from peer.limits import HANDSHAKE_MESSAGE_BYTES, Limits
from peer.net.client import CoapsClient
from peer.net.datagram import Datagram
from peer.net.udp import UdpSocket
from tests.kit.internals import half_open
from tests.kit.serve import Serve, Served, Servers
from tests.kit.waiting import until

MTU = 300  # a ClientHello with a session ticket does not fit in this
HEADERS_BYTES = 13 + 12  # of a record, and of a fragment in it
SESSION_ID_AT = 2 + 32  # in a ClientHello: its length
COOKIE_AT = SESSION_ID_AT + 1  # and, after the session ID, that of the cookie


class Client:
    """A DTLS client whose datagrams the test sends one by one."""

    def __init__(
        self, served: Served, context: ClientContext, ticket: Ticket | None = None
    ) -> None:
        self.session = DtlsSession.client(context, mtu=MTU, pinned=None, resume=ticket)
        self.received: list[bytes] = []
        self._served = served
        self._socket = UdpSocket.connect(
            served.address, on_datagram=self._heard, on_error=lambda _error: None
        )

    def _heard(self, datagram: Datagram) -> None:
        self.received.append(datagram.data)

    def send(self, data: bytes) -> None:
        self._socket.send(data, self._served.address)

    async def hello_with_cookie(self) -> list[bytes]:
        """The datagrams of the second ClientHello: at least two fragments."""
        for datagram in self.session.take_datagrams():
            self.send(datagram)
        await until(lambda: bool(self.received))
        self.session.receive_untrusted(records.split_untrusted(self.received.pop()))
        fragments = self.session.take_datagrams()
        assert len(fragments) > 1
        return fragments

    async def finish(self) -> None:
        """Exchange datagrams until the handshake has ended."""

        def step() -> bool:
            while self.received:
                self.session.receive_untrusted(records.split_untrusted(self.received.pop(0)))
            for datagram in self.session.take_datagrams():
                self.send(datagram)
            return self.session.state is not SessionState.HANDSHAKING

        await until(step)

    def close(self) -> None:
        self._socket.close()


Dial = Callable[[Served], Awaitable[Client]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers = Servers(Identity.create())
    yield servers.start
    await servers.close()


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Makes clients that resume a session, so that their ClientHellos have a ticket."""
    made: list[Client] = []
    context = ClientContext(Identity.create())

    async def start(served: Served) -> Client:
        if not made:
            made.append(Client(served, context))
            await made[0].finish()
        made.append(Client(served, context, made[0].session.ticket))
        return made[-1]

    yield start
    for one in made:
        one.close()


async def settle(served: Served) -> None:
    """Wait until the server has read everything that was sent before."""
    before = served.count("dtls-malformed")
    marker = UdpSocket.connect(
        served.address, on_datagram=lambda _datagram: None, on_error=lambda _error: None
    )
    marker.send(b"?", served.address)
    await until(lambda: served.count("dtls-malformed") > before)
    marker.close()


async def test_a_client_hello_in_fragments_begins_a_session(serve: Serve, dial: Dial) -> None:
    served = await serve()
    client = await dial(served)
    for fragment in await client.hello_with_cookie():
        client.send(fragment)
    await client.finish()
    assert client.session.state is SessionState.ESTABLISHED


async def test_fragments_in_one_datagram_begin_a_session(serve: Serve, dial: Dial) -> None:
    served = await serve()
    client = await dial(served)
    client.send(b"".join(await client.hello_with_cookie()))
    await client.finish()
    assert client.session.state is SessionState.ESTABLISHED


async def test_no_fragment_leaves_state_before_a_valid_cookie(serve: Serve, dial: Dial) -> None:
    served = await serve()
    client = await dial(served)
    first, *rest = client.session.take_datagrams()
    for fragment in (*rest, first, *rest, *rest):
        client.send(fragment)
    await settle(served)
    assert half_open(served.server) == 0
    assert served.count("dtls-no-session") == 3 * len(rest)
    assert len(client.received) == 1, "only the first fragment gets an answer"
    assert len(client.received[0]) <= len(first)


async def test_a_fragment_with_a_cookie_of_another_source_leaves_no_state(
    serve: Serve, dial: Dial
) -> None:
    served = await serve()
    client, attacker = await dial(served), await dial(served)
    for fragment in await client.hello_with_cookie():
        attacker.send(fragment)
    await settle(served)
    assert half_open(served.server) == 0


async def test_fragments_are_accepted_from_the_source_of_the_first_only(
    serve: Serve, dial: Dial
) -> None:
    served = await serve()
    client, attacker = await dial(served), await dial(served)
    first, *rest = await client.hello_with_cookie()
    client.send(first)
    for fragment in rest:
        attacker.send(fragment)
    await settle(served)
    assert not client.received
    for fragment in rest:
        client.send(fragment)
    await client.finish()
    assert client.session.state is SessionState.ESTABLISHED


async def test_overlapping_and_repeated_fragments_complete_the_client_hello(
    serve: Serve, dial: Dial
) -> None:
    served = await serve()
    client = await dial(served)
    first, *rest = await client.hello_with_cookie()
    for fragment in (first, first, rest[-1], *rest, first):
        client.send(fragment)
    await client.finish()
    assert client.session.state is SessionState.ESTABLISHED


async def test_a_forged_fragment_fails_that_handshake_only(serve: Serve, dial: Dial) -> None:
    served = await serve()
    client, other = await dial(served), await dial(served)
    first, *rest = await client.hello_with_cookie()
    client.send(first)
    for fragment in rest:
        client.send(fragment[:25] + bytes(len(fragment) - 25))
    await until(lambda: served.count("handshakes-failed") == 1)
    assert half_open(served.server) == 0
    for fragment in await other.hello_with_cookie():
        other.send(fragment)
    await other.finish()
    assert other.session.state is SessionState.ESTABLISHED


async def test_a_fragment_that_replaces_the_cookie_fails_that_handshake(
    serve: Serve, dial: Dial
) -> None:
    """Its sender has shown the right cookie in the first fragment, and the rest is genuine."""
    served = await serve()
    client = await dial(served)
    first, *rest = await client.hello_with_cookie()
    header, body = first[:HEADERS_BYTES], first[HEADERS_BYTES:]
    at = COOKIE_AT + body[SESSION_ID_AT]
    assert body[at] == 32
    other = body[: at + 1] + bytes(32) + body[at + 33 :]
    client.send(first)
    client.send(header[:5] + (40).to_bytes(6, "big") + header[11:] + other)  # another record
    for fragment in rest:
        client.send(fragment)
    await until(lambda: served.count("handshakes-failed") == 1)
    assert half_open(served.server) == 0


async def test_a_client_hello_that_is_never_completed_takes_a_bounded_slot(
    serve: Serve, dial: Dial
) -> None:
    served = await serve(
        limits=Limits(handshake_seconds=0.2, half_open=4, half_open_reserve=0, handshake_burst=50)
    )
    for _ in range(6):
        client = await dial(served)
        client.send((await client.hello_with_cookie())[0])
    await settle(served)
    assert half_open(served.server) <= 4
    assert not client.received
    await until(lambda: half_open(served.server) == 0)


async def test_a_fragment_of_a_huge_message_is_dropped(serve: Serve, dial: Dial) -> None:
    """OpenSSL allocates the whole message for its first fragment."""
    served = await serve()
    client = await dial(served)
    first = (await client.hello_with_cookie())[0]
    size = (HANDSHAKE_MESSAGE_BYTES + 1).to_bytes(3, "big")
    client.send(first[:14] + size + first[17:])
    await settle(served)
    assert served.count("dtls-handshake-too-large") == 1
    assert half_open(served.server) == 0
    client.send(first)
    await until(lambda: half_open(served.server) == 1)
    later = first[:17] + (3).to_bytes(2, "big") + first[19:]  # a message of a later flight
    client.send(later[:14] + size + later[17:])
    await settle(served)
    assert served.count("dtls-handshake-too-large") == 2


async def test_our_client_resumes_over_a_small_mtu(serve: Serve) -> None:
    served = await serve()
    async with CoapsClient(Identity.create(), limits=Limits(payload_mtu=300)) as client:
        pinned = served.identity.fingerprint
        first = await client.connect(served.address, pinned=pinned)
        await first.close()
        second = await client.connect(served.address, pinned=pinned)
        assert second.resumed
