"""The cookie gate: stateless until a client returns a valid cookie, and no amplification."""

import gc
import itertools
import secrets
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from peer.dtls.context import ClientContext, ServerContext
from peer.dtls.cookie import CookieGate, CookieKeys
from peer.dtls.records import split_untrusted
from peer.dtls.session import DtlsSession, SessionState
from peer.identity import Identity


def allow() -> bool:
    """Allow every handshake to begin."""
    return True


def cookie_keys(lifetime: float = 60.0) -> CookieKeys:
    counter = itertools.count()
    return CookieKeys(lambda: next(counter).to_bytes(32, "big"), lifetime=lifetime)


def test_a_cookie_is_valid_only_for_the_address_it_was_made_for() -> None:
    one = cookie_keys()
    cookie = one.make(b"192.0.2.1 5000 2", 0.0)
    assert one.check(b"192.0.2.1 5000 2", cookie, 0.0)
    for elsewhere in (b"192.0.2.2 5000 2", b"192.0.2.1 5001 2", b"192.0.2.1 5000 3"):
        assert not one.check(elsewhere, cookie, 0.0)
    assert not one.check(b"192.0.2.1 5000 2", b"", 0.0)


@given(st.floats(0, 59), st.floats(0, 59))
def test_a_cookie_survives_one_key_rotation_but_not_two(made: float, later: float) -> None:
    one = cookie_keys()
    one.make(b"first", 0.0)
    cookie = one.make(b"here", made)
    assert one.check(b"here", cookie, 60.0 + later)
    assert not one.check(b"here", cookie, 120.0 + later)


def test_a_cookie_is_invalid_after_a_long_idle_time() -> None:
    one = cookie_keys()
    cookie = one.make(b"here", 0.0)
    assert not one.check(b"here", cookie, 100_000.0)


def test_a_client_hello_gets_no_longer_answer_and_leaves_no_state(
    device: Identity, client: Identity
) -> None:
    gate = CookieGate(CookieKeys(lambda: secrets.token_bytes(32), lifetime=60), mtu=1200)
    context = ServerContext(device, resumption=True)
    initiator = DtlsSession.client(ClientContext(client), mtu=1200, pinned=None)
    (hello,) = initiator.take_datagrams()
    gate.admit_untrusted(hello, context=context, where=b"warm", now=0.0, may_begin=allow)
    gc.collect()
    before = sum(isinstance(thing, SSL.Connection) for thing in gc.get_objects())
    for number in range(100):
        where = f"spoofed {number}".encode()
        answer = gate.admit_untrusted(hello, context=context, where=where, now=0.0, may_begin=allow)
        assert isinstance(answer, bytes)
        assert 0 < len(answer) <= len(hello)
    gc.collect()
    after = sum(isinstance(thing, SSL.Connection) for thing in gc.get_objects())
    assert after == before


@given(st.binary(max_size=300))
def test_a_random_client_hello_body_begins_no_session(tail: bytes) -> None:
    identity = _IDENTITY
    gate = CookieGate(cookie_keys(), mtu=1200)
    context = ServerContext(identity, resumption=True)
    body = b"\x01" + tail
    hello = b"\x16\xfe\xfd" + bytes(8) + len(body).to_bytes(2, "big") + body
    split_untrusted(hello)
    answer = gate.admit_untrusted(hello, context=context, where=b"here", now=0.0, may_begin=allow)
    assert isinstance(answer, bytes)
    assert len(answer) <= len(hello)


def test_one_connection_object_checks_all_hellos_until_a_session_begins(
    device: Identity, client: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A malformed, oversized or refused ClientHello leaves no state that affects the next one."""
    gate = CookieGate(cookie_keys(), mtu=1200)
    context = ServerContext(device, resumption=True)
    initiator = DtlsSession.client(ClientContext(client), mtu=1200, pinned=None)
    (hello,) = initiator.take_datagrams()

    def admit(hello: bytes, may_begin: Callable[[], bool] = allow) -> DtlsSession | bytes:
        return gate.admit_untrusted(
            hello, context=context, where=b"here", now=0.0, may_begin=may_begin
        )

    def padded(size: int) -> bytes:
        return hello[:11] + (size - 13).to_bytes(2, "big") + hello[13:] + bytes(size - len(hello))

    answer = admit(hello)
    assert isinstance(answer, bytes)
    initiator.receive_untrusted(split_untrusted(answer))
    (with_cookie,) = initiator.take_datagrams()
    with monkeypatch.context() as patch:
        patch.setattr(SSL.Connection, "__init__", None)  # no new connection object
        patch.setattr(SSL.Connection, "do_handshake", None)  # no handshake step, which would sign
        for size in (1 << 13, (1 << 14) - 1, 1 << 14, (1 << 14) + 1, (1 << 14) + 2061):
            assert admit(padded(size)) == b""
            assert admit(hello) == answer
        for position in range(13, len(hello)):
            admit(hello[:position] + bytes([hello[position] ^ 0xFF]) + hello[position + 1 :])
            assert admit(hello) == answer
        assert admit(with_cookie, lambda: False) == b""
    session = admit(with_cookie)
    assert isinstance(session, DtlsSession)
    assert session.take_datagrams()
    assert admit(hello) == answer


def test_may_begin_is_called_once_and_only_with_a_valid_cookie(
    device: Identity, client: Identity
) -> None:
    gate = CookieGate(cookie_keys(), mtu=1200)
    context = ServerContext(device, resumption=True)
    initiator = DtlsSession.client(ClientContext(client), mtu=1200, pinned=None)
    (hello,) = initiator.take_datagrams()
    asked: list[bytes] = []

    def admit(hello: bytes, where: bytes) -> DtlsSession | bytes:
        return gate.admit_untrusted(
            hello,
            context=context,
            where=where,
            now=0.0,
            may_begin=lambda: not asked.append(where),  # type: ignore[func-returns-value]
        )

    answer = admit(hello, b"here")
    assert isinstance(answer, bytes)
    initiator.receive_untrusted(split_untrusted(answer))
    (with_cookie,) = initiator.take_datagrams()
    assert isinstance(admit(with_cookie, b"there"), bytes)
    assert asked == []
    assert isinstance(admit(with_cookie, b"here"), DtlsSession)
    assert asked == [b"here"]


def test_a_session_begins_in_the_context_of_its_last_hello(
    device: Identity, client: Identity
) -> None:
    """A session uses the context of its last ClientHello, so a new context ends resumption."""

    client_context = ClientContext(client)
    first, second = (ServerContext(device, resumption=True) for _ in range(2))
    before = DtlsSession.client(client_context, mtu=1200, pinned=None)
    connect(before, first, second)
    for context, resumed in ((first, False), (second, True)):
        again = DtlsSession.client(client_context, mtu=1200, pinned=None, resume=before.ticket)
        connect(again, context, context)
        assert again.resumed is resumed


def connect(client: DtlsSession, *contexts: ServerContext) -> None:
    """Complete a handshake with a server that has these contexts, one for each ClientHello."""
    gate = CookieGate(cookie_keys(), mtu=1200)
    answer: DtlsSession | bytes = b""
    for context in contexts:
        (hello,) = client.take_datagrams()
        answer = gate.admit_untrusted(
            hello, context=context, where=b"here", now=0.0, may_begin=allow
        )
        if isinstance(answer, bytes):
            client.receive_untrusted(split_untrusted(answer))
    assert isinstance(answer, DtlsSession)
    for _ in range(3):
        for sender, receiver in ((answer, client), (client, answer)):
            for datagram in sender.take_datagrams():
                receiver.receive_untrusted(split_untrusted(datagram))
    assert client.state is SessionState.ESTABLISHED


def test_a_cookie_of_another_address_is_answered_with_a_new_one(
    device: Identity, client: Identity
) -> None:
    gate = CookieGate(CookieKeys(lambda: secrets.token_bytes(32), lifetime=60), mtu=1200)
    context = ServerContext(device, resumption=True)
    initiator = DtlsSession.client(ClientContext(client), mtu=1200, pinned=None)
    (hello,) = initiator.take_datagrams()
    answer = gate.admit_untrusted(hello, context=context, where=b"mine", now=0.0, may_begin=allow)
    assert isinstance(answer, bytes)
    initiator.receive_untrusted(split_untrusted(answer))
    (with_cookie,) = initiator.take_datagrams()
    stolen = gate.admit_untrusted(
        with_cookie, context=context, where=b"yours", now=0.0, may_begin=allow
    )
    assert isinstance(stolen, bytes)
    mine = gate.admit_untrusted(
        with_cookie, context=context, where=b"mine", now=0.0, may_begin=allow
    )
    assert isinstance(mine, DtlsSession)


_IDENTITY = Identity.create()
