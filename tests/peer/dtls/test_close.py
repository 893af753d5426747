"""The end of a session by close_notify (RFC 5246 §7.2.1), against OpenSSL alone."""

import secrets

import pytest

from peer.dtls import records
from peer.dtls.context import ClientContext, ServerContext
from peer.dtls.session import DtlsSession, SessionState
from peer.identity import Identity
from tests.kit.dtls_pair import MTU, accept, cookie_gate, establish, feed
from tests.kit.openssl_peer import OpenSslPeer

ALERT = 21
CLEARTEXT_CLOSE_NOTIFY = b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x01\x00"


def session_with_openssl(
    ours: Identity, theirs: Identity, side: str
) -> tuple[DtlsSession, OpenSslPeer]:
    """Our established session, as a client or as a device, and OpenSSL's side of it."""
    if side == "client":
        peer = OpenSslPeer(theirs, is_server=True)
        session = DtlsSession.client(ClientContext(ours), mtu=MTU, pinned=theirs.fingerprint)
    else:
        peer = OpenSslPeer(theirs)
        gate, context = cookie_gate(), ServerContext(ours, resumption=True)
        for _ in range(2):
            peer.step()
            admitted = gate.admit_untrusted(
                peer.take(), context=context, where=b"here", now=0.0, may_begin=lambda: True
            )
            if isinstance(admitted, bytes):
                peer.receive(admitted)
        assert isinstance(admitted, DtlsSession)
        session = admitted
    for _ in range(4):
        for datagram in session.take_datagrams():
            peer.receive(datagram)
        peer.step()
        if sent := peer.take():
            feed(session, sent)
    assert session.state is SessionState.ESTABLISHED
    return session, peer


@pytest.mark.parametrize("side", ["client", "device"])
def test_a_close_notify_is_answered_by_one(device: Identity, client: Identity, side: str) -> None:
    session, peer = session_with_openssl(device, client, side)
    assert not peer.connection.shutdown(), "the session is not closed by both sides yet"
    sent = peer.take()
    assert feed(session, sent) == []
    assert session.state is SessionState.CLOSED
    [answer] = session.take_datagrams()
    [record] = records.split_untrusted(answer)
    assert (record.content_type, record.epoch) == (ALERT, 1)
    peer.receive(answer)
    assert peer.is_closed_by_the_peer()
    assert peer.connection.shutdown(), "both sides have closed"
    assert feed(session, sent) == []
    session.close()
    assert session.take_datagrams() == [], "one answer, also if it is asked for again"
    session.release()
    assert session.ticket is None


@pytest.mark.parametrize("side", ["client", "device"])
def test_messages_before_a_close_notify_in_its_datagram_are_read(
    device: Identity, client: Identity, side: str
) -> None:
    session, peer = session_with_openssl(device, client, side)
    peer.connection.send(b"last")
    peer.connection.shutdown()
    assert feed(session, peer.take()) == [b"last"]
    assert session.state is SessionState.CLOSED
    peer.receive(*session.take_datagrams())
    assert peer.is_closed_by_the_peer()


@pytest.mark.parametrize("side", ["client", "device"])
def test_a_forged_close_notify_is_not_answered(
    device: Identity, client: Identity, side: str
) -> None:
    session, peer = session_with_openssl(device, client, side)
    peer.connection.shutdown()
    true = peer.take()
    forged = (
        CLEARTEXT_CLOSE_NOTIFY,
        true[:-1] + bytes([true[-1] ^ 1]),
        true[:13] + secrets.token_bytes(len(true) - 13),
    )
    for one in forged:
        assert feed(session, one) == []
        assert session.take_datagrams() == []
        assert session.state is SessionState.ESTABLISHED
    feed(session, true)
    assert len(session.take_datagrams()) == 1


def test_a_close_notify_in_a_handshake_is_not_answered(device: Identity, client: Identity) -> None:
    """It has no protection, so anyone may have sent it."""
    near = DtlsSession.client(ClientContext(client), mtu=MTU, pinned=None)
    far = accept(cookie_gate(), ServerContext(device, resumption=True), near)
    far.take_datagrams()
    near.take_datagrams()
    for session in (near, far):
        feed(session, CLEARTEXT_CLOSE_NOTIFY)
        assert session.take_datagrams() == []


def test_two_sides_that_close_stop_at_once(device: Identity, client: Identity) -> None:
    near, far = establish(device, client)
    near.close()
    far.close()
    for sender, receiver in ((near, far), (far, near)):
        for datagram in sender.take_datagrams():
            feed(receiver, datagram)
    assert near.take_datagrams() == far.take_datagrams() == []
