"""Attackers on and off the path: sessions survive, and unknown sources allocate no state."""

import asyncio
import gc
import secrets
import socket
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.dtls import openssl
from peer.errors import HandshakeFailed
from peer.identity import Identity
from peer.limits import Limits
from peer.net.admission import SessionPriority
from peer.net.association import Association
from peer.net.client import CoapsClient
from peer.testing import Impairment, Proxy
from tests.kit.internals import half_open, rated_sources, sockets_of
from tests.kit.sockets import ClientNet
from tests.kit.waiting import skip_time, until

ONE_HANDSHAKE = Limits(handshake_attempts=1)


def get(*path: str) -> aiocoap.Message:
    return aiocoap.Message(code=Code.GET, uri_path=path)


async def connected_through_a_proxy(serve: Any, caller: CoapsClient) -> tuple[Any, Proxy, Any]:
    """Open a session through a proxy that records its ClientHellos."""
    served = await serve()
    proxy = await Proxy.start(served.address)
    connection = await caller.connect(proxy.address, pinned=served.identity.fingerprint)
    return served, proxy, connection


def hello_with_cookie(proxy: Proxy) -> bytes:
    """The client's second ClientHello: content type 1 and message_seq 1 (RFC 6347 §4.2.2).

    A slow machine repeats the first one, so its position is not fixed.
    """
    return next(
        datagram
        for datagram in proxy.towards_device()
        if datagram[13] == 1 and datagram[17:19] == b"\x00\x01"
    )


def count(served: Any, *kinds: str) -> int:
    return sum(served.server.counters[kind] for kind in kinds)


async def complete_round_trip(connection: Any, served: Any) -> None:
    """Complete a round trip, so that everything injected before it has been processed."""
    assert (await connection.request(get("echo"))).code is Code.CONTENT
    assert len(served.server.sessions()) == 1


async def test_invalid_datagrams_are_counted_by_kind_and_keep_the_session(
    serve: Any, caller: CoapsClient
) -> None:
    served, proxy, connection = await connected_through_a_proxy(serve, caller)
    await connection.request(get("echo"))
    sealed = next(one for one in reversed(proxy.towards_device()) if one[0] == 23)
    cases = {
        "dtls-malformed": [b"\0", b"\x16" + secrets.token_bytes(300), sealed[:-1], sealed + b"x"],
        "streams-not-armed": [b"x", b"\xc0" + secrets.token_bytes(300)],
        "dtls-cleartext-after-handshake": [b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28"],
        "dtls-replayed-or-forged": [
            sealed,
            sealed[:-1] + bytes([sealed[-1] ^ 1]),
            sealed[:3] + b"\x00\x02" + sealed[5:],
        ],
    }
    for kind, datagrams in cases.items():
        before = count(served, kind)
        for datagram in datagrams:
            proxy.inject_to_device(datagram)
        await complete_round_trip(connection, served)
        assert count(served, kind) == before + len(datagrams), kind
    proxy.close()


async def test_forged_datagrams_do_not_end_the_session_of_a_client(
    serve: Any, caller: CoapsClient
) -> None:
    served, proxy, connection = await connected_through_a_proxy(serve, caller)
    sealed = proxy.towards_client()[-1]
    alert = b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28"
    for datagram in (b"garbage", alert, sealed, sealed[:-2] + b"xx"):
        proxy.inject_to_client(datagram)
    await complete_round_trip(connection, served)
    proxy.close()


async def test_a_replayed_client_hello_ends_no_session(serve: Any, caller: CoapsClient) -> None:
    """Replays both hellos of the session, then one with a valid cookie and another random."""
    served, proxy, connection = await connected_through_a_proxy(serve, caller)
    for datagram in (proxy.towards_device()[0], hello_with_cookie(proxy)):
        proxy.inject_to_device(datagram)
    await complete_round_trip(connection, served)
    random_at = 13 + 12 + 2
    other = bytearray(hello_with_cookie(proxy))
    other[random_at : random_at + 32] = secrets.token_bytes(32)
    proxy.inject_to_device(bytes(other))
    await complete_round_trip(connection, served)
    assert count(served, "handshakes") == 1
    proxy.close()


async def test_a_session_can_close_after_a_replayed_client_hello(serve: Any) -> None:
    """close_notify reaches the session although a half-open handshake has the same address."""
    ended = asyncio.Event()
    served = await serve(on_session_end=lambda _session_id: ended.set())
    async with CoapsClient(Identity.create()) as one:
        _, proxy, connection = await connected_through_a_proxy(lambda: already_started(served), one)
        other = bytearray(hello_with_cookie(proxy))
        other[27:59] = secrets.token_bytes(32)
        proxy.inject_to_device(bytes(other))
        await complete_round_trip(connection, served)
        assert half_open(served.server) == 1
        await connection.close()
        await asyncio.wait_for(ended.wait(), 20)
        assert served.server.sessions() == []
        proxy.close()


async def already_started(served: Any) -> Any:
    return served


async def test_a_client_that_reconnects_from_its_address_replaces_its_session(
    serve: Any, client: Identity
) -> None:
    """A client restarts after a crash and begins a new handshake from its old port."""
    served = await serve()
    proxy = await Proxy.start(served.address, one_port=True)
    async with CoapsClient(client) as first:
        await first.connect(proxy.address, pinned=None)
        async with CoapsClient(client) as second:
            again = await second.connect(proxy.address, pinned=None)
            assert (await again.request(get("echo"))).code is Code.CONTENT
            assert len(served.server.sessions()) == 1
            assert count(served, "handshakes") == 2
    proxy.close()


async def test_hellos_without_a_cookie_leave_no_state_and_are_not_amplified(
    serve: Any, caller: CoapsClient
) -> None:
    """A spoofer cannot see the answers, so the state kept and the bytes sent are what matters."""
    served, proxy, connection = await connected_through_a_proxy(serve, caller)
    hello = proxy.towards_device()[0]
    sources = rated_sources(served.server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spoofer:
        spoofer.connect(("127.0.0.1", served.server.port))
        spoofer.setblocking(False)
        for _ in range(200):
            spoofer.send(hello[:-1] + secrets.token_bytes(1))
        await complete_round_trip(connection, served)
        answered = 0
        while True:
            try:
                answered += len(spoofer.recv(65536))
            except BlockingIOError:
                break
    assert answered <= 200 * len(hello)
    assert not half_open(served.server)
    assert rated_sources(served.server) == sources, "a source without a cookie has left state"
    proxy.close()


async def test_a_duplicated_client_hello_starts_one_handshake(
    serve: Any, caller: CoapsClient
) -> None:
    served = await serve()
    proxy = await Proxy.start(served.address, Impairment(duplicate=1.0))
    connection = await caller.connect(proxy.address, pinned=None)
    await complete_round_trip(connection, served)
    assert count(served, "handshakes") == 1
    assert count(served, "handshakes-failed") == 0
    proxy.close()


async def test_a_record_from_an_unknown_source_is_counted_and_not_answered(serve: Any) -> None:
    served = await serve()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unknown:
        unknown.connect(("127.0.0.1", served.server.port))
        unknown.setblocking(False)
        unknown.send(b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x10" + bytes(16))
        async with CoapsClient(Identity.create()) as one:
            await one.connect(served.address, pinned=None)
        with pytest.raises(BlockingIOError):
            unknown.recv(1000)
    assert count(served, "dtls-no-session") == 1


async def test_half_open_handshakes_are_bounded_and_time_out(serve: Any, device: Identity) -> None:
    limits = Limits(half_open=4, half_open_reserve=1, half_open_kept_seconds=0)
    served = await serve(limits=limits)
    clients = [CoapsClient(Identity.create(), limits=ONE_HANDSHAKE) for _ in range(6)]

    def only_cookie_requests(data: bytes) -> bytes | None:
        return data if data[13] == 3 else None

    proxies = [await Proxy.start(served.address, to_client=only_cookie_requests) for _ in clients]

    for begun, (one, proxy) in enumerate(zip(clients, proxies, strict=True), 1):
        # The client returns the cookie; the answer to it is lost.
        trying = asyncio.create_task(one.connect(proxy.address, pinned=device.fingerprint))
        await until(
            lambda: half_open(served.server) + count(served, "half-open-evicted") == begun  # noqa: B023
        )
        trying.cancel()
        assert half_open(served.server) == min(begun, 3)
    assert count(served, "half-open-evicted") == 3
    skip_time(limits.handshake_seconds)
    await until(lambda: not half_open(served.server))
    assert count(served, "handshakes-timed-out") == 3
    for one, proxy in zip(clients, proxies, strict=True):
        await one.close()
        proxy.close()


async def test_idle_sessions_of_unpaired_keys_end_and_those_of_users_stay(
    serve: Any, client: Identity
) -> None:
    ended = asyncio.Event()
    served = await serve(
        limits=Limits(unpaired_idle_seconds=0.2), on_session_end=lambda _session_id: ended.set()
    )
    unknown = Identity.create()
    async with CoapsClient(client) as paired, CoapsClient(unknown) as other:
        await paired.connect(served.address, pinned=None)
        await other.connect(served.address, pinned=None)
        served.priorities[unknown.fingerprint] = SessionPriority.LOW
        await asyncio.wait_for(ended.wait(), 20)
        (left,) = served.server.sessions()
        assert left.fingerprint == client.fingerprint


async def test_a_session_is_local_only_if_every_datagram_was_local(
    serve: Any, client: Identity
) -> None:
    served = await serve()
    net = ClientNet()
    async with CoapsClient(client, limits=ONE_HANDSHAKE, net=net) as caller:
        connection = await caller.connect(served.address, pinned=None)
        (session,) = served.server.sessions()
        assert session.is_local
        net.send_with(hop_limit=64)
        await connection.request(get("echo"))
        net.send_with(hop_limit=255)
        await connection.request(get("echo"))
        (session,) = served.server.sessions()
        assert not session.is_local


async def test_only_handshakes_with_a_valid_cookie_count_for_the_rate_limit(
    serve: Any, device: Identity
) -> None:
    served = await serve(limits=Limits(handshake_burst=1, handshakes_per_second=0.001))
    async with CoapsClient(Identity.create()) as one:
        await one.connect(served.address, pinned=device.fingerprint)
        again = asyncio.create_task(one.connect(served.address, pinned=device.fingerprint))
        await until(lambda: count(served, "handshakes-rate-limited"))
        assert not again.done()
        again.cancel()
    assert count(served, "handshakes") == 1


async def test_pairing_requires_the_extended_master_secret(serve: Any, caller: CoapsClient) -> None:
    """No library here can omit the extension, so the check of the session is patched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openssl, "has_extended_master_secret", lambda _connection: False)
        pairing = await serve(pairing=True)
        with pytest.raises(HandshakeFailed, match="closed the session immediately"):
            await caller.connect(pairing.address, pinned=None)
        assert count(pairing, "no-extended-master-secret") == 1
        assert pairing.server.sessions() == []
        regular = await serve(pairing=False)
        connection = await caller.connect(regular.address, pinned=None)
        assert (await connection.request(get("echo"))).code is Code.CONTENT


async def test_a_client_can_reconnect_after_its_path_was_cut(
    serve: Any, caller: CoapsClient
) -> None:
    served, proxy, connection = await connected_through_a_proxy(serve, caller)
    proxy.change(Impairment(loss=1.0))
    with pytest.raises(Exception, match="no response"):
        await connection.request(get("echo"), timeout=0.1)
    again = await caller.connect(served.address, pinned=served.identity.fingerprint)
    assert (await again.request(get("echo"))).code is Code.CONTENT
    proxy.close()


async def test_an_address_has_at_most_one_half_open_handshake(
    serve: Any, caller: CoapsClient
) -> None:
    """One valid cookie, many randoms: each new handshake replaces the one before."""
    served, proxy, connection = await connected_through_a_proxy(serve, caller)
    hello = bytearray(hello_with_cookie(proxy))
    before = open_associations()
    for _ in range(50):
        hello[27:59] = secrets.token_bytes(32)
        proxy.inject_to_device(bytes(hello))
    await complete_round_trip(connection, served)
    assert half_open(served.server) == 1
    assert open_associations() == before + 1, "only the last half-open one"
    proxy.close()


def open_associations() -> int:
    """The number of associations in this process that have not ended."""
    gc.collect()
    return sum(isinstance(one, Association) and not one.ended for one in gc.get_objects())


async def test_a_handshake_that_fails_immediately_is_counted_and_removed(
    serve: Any, caller: CoapsClient
) -> None:
    served, proxy, connection = await connected_through_a_proxy(serve, caller)
    hello = hello_with_cookie(proxy)
    suites = 59 + 1 + hello[59]  # after the random and the session ID: the cookie
    suites += 1 + hello[suites]
    start, offered = hello[:suites], hello[suites:]
    for suite in ("c02b", "c0ac", "cca9"):
        offered = offered.replace(bytes.fromhex(suite), b"\x00\x2f", 1)
    hello = start + offered
    proxy.inject_to_device(hello[:27] + secrets.token_bytes(32) + hello[59:])
    await complete_round_trip(connection, served)
    assert count(served, "handshakes-failed") == 1
    assert not half_open(served.server)
    proxy.close()


def other_curve(datagram: bytes) -> bytes:
    """Replace the curve in the certificate by one that the library does not know."""
    p256, prime239v1 = "06082a8648ce3d030107", "06082a8648ce3d030104"
    return datagram.replace(bytes.fromhex(p256), bytes.fromhex(prime239v1))


@pytest.mark.parametrize("at", ["device", "client"])
async def test_a_key_that_cannot_be_decoded_causes_an_alert_and_is_counted(
    serve: Any, caller: CoapsClient, at: str
) -> None:
    served = await serve()
    proxy = await (
        Proxy.start(served.address, to_device=other_curve)
        if at == "device"
        else Proxy.start(served.address, to_client=other_curve)
    )
    with pytest.raises(HandshakeFailed, match="alert" if at == "device" else "cannot be decoded"):
        await caller.connect(proxy.address, pinned=None, timeout=20)
    async with CoapsClient(Identity.create()) as another:
        await complete_round_trip(await another.connect(served.address, pinned=None), served)
    kind = "handshakes-unsupported-key" if at == "device" else "handshakes-failed"
    assert count(served, kind) == 1
    assert not half_open(served.server)
    assert not sockets_of(served.server)[0].counters["handler-error"]
    proxy.close()


async def test_a_forged_datagram_does_not_make_a_session_remote(
    serve: Any, client: Identity
) -> None:
    served = await serve()
    net = ClientNet()
    async with CoapsClient(client, limits=ONE_HANDSHAKE, net=net) as caller:
        connection = await caller.connect(served.address, pinned=None)
        await connection.request(get("echo"))
        sealed = net.sent[-1]
        net.send_with(hop_limit=64)
        net.send(sealed[:-1] + bytes([sealed[-1] ^ 1]))
        net.send(sealed)
        net.send_with(hop_limit=255)
        await complete_round_trip(connection, served)
        assert count(served, "dtls-replayed-or-forged") == 2
        assert served.server.sessions()[0].is_local


async def test_one_key_cannot_take_all_sessions(serve: Any, client: Identity) -> None:
    served = await serve(limits=Limits(sessions=8, sessions_per_key=2, session_reserve=1))
    async with CoapsClient(client) as paired, CoapsClient(Identity.create()) as greedy:
        kept = await paired.connect(served.address, pinned=None)
        for _ in range(12):
            await greedy.connect(served.address, pinned=None)
        assert (await kept.request(get("echo"))).code is Code.CONTENT
        assert len(served.server.sessions()) == 3
