"""Two DTLS sessions in memory that have completed a handshake with each other."""

import itertools

from peer.dtls import records
from peer.dtls.context import ClientContext, ServerContext
from peer.dtls.cookie import CookieGate, CookieKeys
from peer.dtls.session import DtlsSession, SessionState
from peer.identity import Identity

MTU = 1200


def feed(session: DtlsSession, datagram: bytes) -> list[bytes]:
    """Let a session receive a datagram; return its messages."""
    return session.receive_untrusted(records.split_untrusted(datagram))


def cookie_gate() -> CookieGate:
    """A gate with keys of its own."""
    keys = itertools.count()
    return CookieGate(CookieKeys(lambda: next(keys).to_bytes(32, "big"), lifetime=60), mtu=MTU)


def accept(gate: CookieGate, context: ServerContext, client: DtlsSession) -> DtlsSession:
    """Take a client through the cookie exchange; return the server's session."""
    for _ in range(2):
        (hello,) = client.take_datagrams()
        admitted = gate.admit_untrusted(
            hello, context=context, where=b"here", now=0.0, may_begin=lambda: True
        )
        if isinstance(admitted, DtlsSession):
            return admitted
        feed(client, admitted)
    raise AssertionError("the gate did not open")


def establish(
    device: Identity, client: Identity, *, ccm8: bool = False
) -> tuple[DtlsSession, DtlsSession]:
    """Return the established sessions of a client and of a device."""
    near = DtlsSession.client(ClientContext(client, ccm8=ccm8), mtu=MTU, pinned=None)
    far = accept(cookie_gate(), ServerContext(device, resumption=True, ccm8=ccm8), near)
    for _ in range(3):
        for sender, receiver in ((far, near), (near, far)):
            for datagram in sender.take_datagrams():
                feed(receiver, datagram)
    assert (near.state, far.state) == (SessionState.ESTABLISHED,) * 2
    return near, far
