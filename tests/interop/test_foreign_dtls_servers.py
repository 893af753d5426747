"""Our client against `openssl s_server` and `gnutls-serv`: DTLS without CoAP."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Self

import pytest

from peer.dtls.context import ClientContext
from peer.dtls.records import split_untrusted
from peer.dtls.session import DtlsSession, SessionState
from peer.errors import HandshakeFailed, PinMismatch
from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS
from peer.net.address import Address
from peer.net.association import Association
from peer.net.client import CoapsClient
from peer.net.datagram import Datagram
from peer.net.udp import UdpSocket
from tests.kit.interop import HOST
from tests.kit.ports import free_ports
from tests.kit.waiting import until

if TYPE_CHECKING:
    from peer.identity import Identity
    from tests.kit.interop import ForeignProgram, Keys, Run

openssl = pytest.mark.needs_tool("openssl")
gnutls = pytest.mark.needs_tool("gnutls-serv")
A_LINE = "1 line of text is not a CoAP message"


class PlainDtlsClient:
    """A DTLS client of handfast without CoAP, which sends and receives plain text."""

    def __init__(self, identity: Identity, address: Address) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.changed = asyncio.Event()
        self._socket = UdpSocket.connect(
            address, on_datagram=self._datagram, on_error=lambda _error: None
        )
        session = DtlsSession.client(
            ClientContext(identity), mtu=DEFAULT_LIMITS.payload_mtu, pinned=None
        )
        self.association = Association(
            session,
            socket=self._socket,
            remote=address,
            counters=Counter(),
            on_message=lambda _association, message: self.messages.put_nowait(message),
            on_change=lambda _association: self.changed.set(),
        )

    async def __aenter__(self) -> Self:
        self.association.start()
        await self.changed.wait()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.association.close()
        self._socket.close()

    def _datagram(self, datagram: Datagram) -> None:
        self.association.receive_untrusted(datagram, split_untrusted(datagram.data))


class ForeignServers:
    """Starts the two servers; they require a client certificate and accept any."""

    def __init__(self, run: Run, theirs: Keys) -> None:
        self._run = run
        self._theirs = theirs

    async def openssl(self, *options: object) -> tuple[ForeignProgram, Address]:
        address = ("-accept", "127.0.0.1:0")
        program = await self._run(
            "openssl", "s_server", "-dtls1_2", *address, *self._theirs.openssl, *options
        )
        return program, await program.accepts()

    async def gnutls(
        self, *options: object, priority: str = "NORMAL"
    ) -> tuple[ForeignProgram, Address]:
        address = Address(HOST, next(free_ports(HOST)))
        program = await self._run(
            "gnutls-serv",
            "--udp",
            "--echo",
            "--require-client-cert",
            f"--port={address.port}",
            f"--priority={priority}",
            *self._theirs.gnutls,
            *options,
        )
        await program.until(f"IPv4 0.0.0.0 port {address.port}...done")
        return program, address


@pytest.fixture
def servers(run: Run, theirs: Keys) -> ForeignServers:
    return ForeignServers(run, theirs)


@openssl
@pytest.mark.parametrize(
    "suite",
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-CHACHA20-POLY1305"],
)
async def test_a_session_with_openssl_is_opened_and_closed(
    servers: ForeignServers, caller: CoapsClient, ours: Identity, theirs: Keys, suite: str
) -> None:
    program, address = await servers.openssl("-Verify", 1, "-cipher", suite)
    connection = await caller.connect(address, pinned=theirs.fingerprint)
    output = await program.until(f"CIPHER is {suite}")
    assert ours.certificate_pem().decode().strip() in output  # the certificate of the client
    assert connection.peer.fingerprint == theirs.fingerprint
    assert connection.peer.extended_master_secret
    await connection.close()
    await program.until("DONE")  # printed after our close_notify


@gnutls
@pytest.mark.parametrize("cipher", ["AES-128-GCM", "AES-128-CCM", "CHACHA20-POLY1305"])
async def test_a_session_with_gnutls_transfers_data_both_ways(
    servers: ForeignServers, ours: Identity, theirs: Keys, cipher: str
) -> None:
    _, address = await servers.gnutls(priority=f"NORMAL:-CIPHER-ALL:+{cipher}")
    async with PlainDtlsClient(ours, address) as line:
        session = line.association.session
        assert session.state is SessionState.ESTABLISHED
        assert session.peer_fingerprint == theirs.fingerprint
        assert session.extended_master_secret
        for number in range(3):
            output = f"{number} {'x' * 100}".encode()
            line.association.send(output + b"\n")
            assert (await line.messages.get()).rstrip() == output


@gnutls
async def test_the_absence_of_the_extended_master_secret_is_reported(
    servers: ForeignServers, caller: CoapsClient, theirs: Keys
) -> None:
    _, address = await servers.gnutls(priority="NORMAL:%NO_SESSION_HASH")
    connection = await caller.connect(address, pinned=theirs.fingerprint)
    assert not connection.peer.extended_master_secret


@openssl
async def test_a_message_that_is_not_coap_is_dropped_and_counted(
    servers: ForeignServers, caller: CoapsClient, theirs: Keys
) -> None:
    program, address = await servers.openssl("-Verify", 1)
    connection = await caller.connect(address, pinned=theirs.fingerprint)
    await program.until("Secure Renegotiation IS")
    program.type(A_LINE)
    program.hang_up()
    await program.end()
    await until(lambda: caller.counters["coap-malformed"] == 1)
    assert connection.is_open  # s_server closes its socket without a close_notify


@openssl
async def test_another_key_ends_the_handshake_with_an_alert(
    servers: ForeignServers, caller: CoapsClient, theirs: Keys
) -> None:
    program, address = await servers.openssl("-Verify", 1)
    with pytest.raises(PinMismatch) as caught:
        await caller.connect(address, pinned=Fingerprint.parse("cd" * 32))
    assert caught.value.actual == theirs.fingerprint.hex
    output = await program.until("alert unknown ca")
    assert "CIPHER is" not in output  # the server never completed the handshake


@openssl
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-cipher", "ECDHE-ECDSA-AES128-SHA"), id="CBC"),
        pytest.param(("-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"), id="AES-256"),
        pytest.param(("-nocert", "-psk", "5e", "-cipher", "PSK-AES128-CCM8:@SECLEVEL=0"), id="PSK"),
    ],
)
async def test_a_server_with_only_other_suites_is_refused(
    servers: ForeignServers, caller: CoapsClient, options: tuple[str, ...]
) -> None:
    program, address = await servers.openssl(*options)
    with pytest.raises(HandshakeFailed) as caught:
        await caller.connect(address, pinned=None)
    assert "ECDHE-ECDSA" in caught.value.advice
    await program.until("no shared cipher")


@openssl
@pytest.mark.parametrize("kind", ["p384", "rsa"])
async def test_a_server_with_a_key_that_is_not_on_p256_is_refused(
    run: Run, ours: Identity, request: pytest.FixtureRequest, kind: str
) -> None:
    keys: Keys = request.getfixturevalue(kind)
    program, address = await ForeignServers(run, keys).openssl()
    async with CoapsClient(ours) as caller:
        with pytest.raises(HandshakeFailed) as caught:
            await caller.connect(address, pinned=None)
    what = "not a P-256 key" if kind == "p384" else "handshake failure"
    assert what in str(caught.value)
    await program.until("unsupported certificate" if kind == "p384" else "no shared cipher")
