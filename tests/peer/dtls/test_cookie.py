"""The gate keeps nothing about a source that has not shown a cookie, and never says more."""

import gc
import itertools
import secrets

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from peer.dtls.context import ClientContext, ServerContext
from peer.dtls.cookie import CookieGate, CookieJar
from peer.dtls.records import split_untrusted
from peer.dtls.session import DtlsSession
from peer.identity import Identity


def jar(lifetime: float = 60.0) -> CookieJar:
    counter = itertools.count()
    return CookieJar(lambda: next(counter).to_bytes(32, "big"), lifetime=lifetime)


def test_a_cookie_is_good_where_it_was_made_only() -> None:
    one = jar()
    cookie = one.make(b"192.0.2.1 5000 2", 0.0)
    assert one.check(b"192.0.2.1 5000 2", cookie, 0.0)
    for elsewhere in (b"192.0.2.2 5000 2", b"192.0.2.1 5001 2", b"192.0.2.1 5000 3"):
        assert not one.check(elsewhere, cookie, 0.0)
    assert not one.check(b"192.0.2.1 5000 2", b"", 0.0)


@given(st.floats(0, 59), st.floats(0, 59))
def test_a_cookie_outlives_one_turn_of_the_key_and_not_two(made: float, later: float) -> None:
    one = jar()
    one.make(b"first", 0.0)
    cookie = one.make(b"here", made)
    assert one.check(b"here", cookie, 60.0 + later)
    assert not one.check(b"here", cookie, 120.0 + later)


def test_a_long_silence_ends_every_cookie() -> None:
    one = jar()
    cookie = one.make(b"here", 0.0)
    assert not one.check(b"here", cookie, 100_000.0)


def test_the_answer_is_never_longer_and_nothing_is_kept(device: Identity, client: Identity) -> None:
    gate = CookieGate(CookieJar(lambda: secrets.token_bytes(32), lifetime=60))
    context = ServerContext(device, resumption=True)
    asker = DtlsSession.client(ClientContext(client), mtu=1200, pinned=None)
    (hello,) = asker.take_datagrams()
    gate.admit_untrusted(hello, context=context, where=b"warm", now=0.0, mtu=1200)
    gc.collect()
    before = sum(isinstance(thing, SSL.Connection) for thing in gc.get_objects())
    for number in range(100):
        where = f"spoofed {number}".encode()
        answer = gate.admit_untrusted(hello, context=context, where=where, now=0.0, mtu=1200)
        assert isinstance(answer, bytes)
        assert 0 < len(answer) <= len(hello)
    gc.collect()
    after = sum(isinstance(thing, SSL.Connection) for thing in gc.get_objects())
    assert after == before


@given(st.binary(max_size=300))
def test_garbage_opens_no_gate(tail: bytes) -> None:
    identity = _IDENTITY
    gate = CookieGate(jar())
    context = ServerContext(identity, resumption=True)
    body = b"\x01" + tail
    hello = b"\x16\xfe\xfd" + bytes(8) + len(body).to_bytes(2, "big") + body
    split_untrusted(hello)
    answer = gate.admit_untrusted(hello, context=context, where=b"here", now=0.0, mtu=1200)
    assert isinstance(answer, bytes)
    assert len(answer) <= len(hello)


def test_somebody_elses_cookie_is_answered_with_a_new_one(
    device: Identity, client: Identity
) -> None:
    gate = CookieGate(CookieJar(lambda: secrets.token_bytes(32), lifetime=60))
    context = ServerContext(device, resumption=True)
    asker = DtlsSession.client(ClientContext(client), mtu=1200, pinned=None)
    (hello,) = asker.take_datagrams()
    answer = gate.admit_untrusted(hello, context=context, where=b"mine", now=0.0, mtu=1200)
    assert isinstance(answer, bytes)
    asker.receive_untrusted(split_untrusted(answer))
    (with_cookie,) = asker.take_datagrams()
    stolen = gate.admit_untrusted(with_cookie, context=context, where=b"yours", now=0.0, mtu=1200)
    assert isinstance(stolen, bytes)
    mine = gate.admit_untrusted(with_cookie, context=context, where=b"mine", now=0.0, mtu=1200)
    assert isinstance(mine, DtlsSession)


_IDENTITY = Identity.create()
