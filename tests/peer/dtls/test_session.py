"""DTLS sessions without a network: keys, pins, alerts, exporter, resumption, datagram sizes."""

import datetime
import gc
import secrets
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from peer.dtls import records
from peer.dtls.context import ClientContext, ServerContext
from peer.dtls.cookie import CookieGate, CookieKeys
from peer.dtls.session import DtlsSession, SessionState
from peer.errors import HandshakeFailed, PinMismatch, SessionFailed
from peer.identity import Fingerprint, Identity

MTU = 1200
HANDSHAKE, SERVER_HELLO = 22, 2
AEAD_SUITES = [
    bytes.fromhex(one)  # ECDHE_ECDSA with AES-GCM (RFC 5289), CCM (RFC 7251), ChaCha20 (RFC 7905)
    for one in ("c02b", "c02c", "c0ac", "c0ad", "cca9")
]
Relay = Callable[[bytes], list[bytes]]


def feed(session: DtlsSession, datagram: bytes) -> list[bytes]:
    return session.receive_untrusted(records.split_untrusted(datagram))


def unchanged(datagram: bytes) -> list[bytes]:
    return [datagram]


def gate(*, mtu: int = MTU) -> CookieGate:
    return CookieGate(CookieKeys(lambda: secrets.token_bytes(32), lifetime=60), mtu=mtu)


def begin_responder(client: DtlsSession, context: ServerContext, *, mtu: int = MTU) -> DtlsSession:
    """Take a client through the cookie exchange; return the server's session."""
    cookies = gate(mtu=mtu)
    for _ in range(2):
        (hello,) = client.take_datagrams()
        admitted = cookies.admit_untrusted(
            hello, context=context, where=b"here", now=0.0, may_begin=lambda: True
        )
        if isinstance(admitted, DtlsSession):
            return admitted
        feed(client, admitted)
    raise AssertionError("the gate did not open")


def run_handshake(
    client: DtlsSession, server: DtlsSession, *, relay: Relay = unchanged
) -> list[bytes]:
    """Relay datagrams until neither side sends any more; return all of them."""
    carried: list[bytes] = []
    for _ in range(20):
        sent = False
        for sender, receiver in ((server, client), (client, server)):
            for datagram in sender.take_datagrams():
                sent = True
                carried.append(datagram)
                for copy in relay(datagram):
                    feed(receiver, copy)
        if not sent:
            break
    return carried


def pair(
    device: Identity,
    client: Identity,
    *,
    pinned: Fingerprint | None = None,
    context: ServerContext | None = None,
    mtu: int = MTU,
    relay: Relay = unchanged,
) -> tuple[DtlsSession, DtlsSession, list[bytes]]:
    initiator = DtlsSession.client(ClientContext(client), mtu=mtu, pinned=pinned)
    responder = begin_responder(
        initiator, context or ServerContext(device, resumption=True), mtu=mtu
    )
    carried = run_handshake(initiator, responder, relay=relay)
    return initiator, responder, carried


def test_each_side_learns_the_key_of_the_other(device: Identity, client: Identity) -> None:
    initiator, responder, _ = pair(device, client, pinned=device.fingerprint)
    assert (initiator.state, responder.state) == (SessionState.ESTABLISHED,) * 2
    assert initiator.peer_fingerprint == device.fingerprint
    assert responder.peer_fingerprint == client.fingerprint


def test_both_sides_export_the_same_value_which_differs_per_session(
    device: Identity, client: Identity
) -> None:
    first, second = pair(device, client), pair(device, client)
    assert first[0].exporter == first[1].exporter
    assert len(first[0].exporter) == 32
    assert first[0].exporter != second[0].exporter


def test_extended_master_secret_is_used(device: Identity, client: Identity) -> None:
    initiator, responder, _ = pair(device, client)
    assert initiator.extended_master_secret
    assert responder.extended_master_secret


def test_a_wrong_pin_fails_the_client_and_alerts_the_device(
    device: Identity, client: Identity
) -> None:
    other = Identity.create()
    initiator, responder, carried = pair(device, client, pinned=other.fingerprint)
    assert isinstance(initiator.failure, PinMismatch)
    assert (initiator.failure.expected, initiator.failure.actual) == (
        other.fingerprint.hex,
        device.fingerprint.hex,
    )
    assert responder.state is SessionState.FAILED, "no alert reached the device"
    kinds = {one.content_type for datagram in carried for one in records.split_untrusted(datagram)}
    assert records.ContentType.APPLICATION_DATA not in kinds
    initiator.send(b"secret")
    assert initiator.take_datagrams() == []


def test_a_client_without_a_certificate_gets_an_alert(device: Identity) -> None:
    bare = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    bare.set_options(SSL.OP_NO_QUERY_MTU)
    bare.set_verify(SSL.VERIFY_NONE)
    context = ClientContext(Identity.create())
    context.ssl = bare
    initiator = DtlsSession.client(context, mtu=MTU, pinned=None)
    responder = begin_responder(initiator, ServerContext(device, resumption=True))
    run_handshake(initiator, responder)
    assert responder.state is SessionState.FAILED
    assert isinstance(responder.failure, HandshakeFailed)
    assert "certificate" in str(responder.failure)
    assert initiator.state is SessionState.FAILED
    assert "alert" in str(initiator.failure)


def identity_on(curve: ec.EllipticCurve) -> Identity:
    """A self-signed identity with a key on any curve; its certificate has expired."""
    key = ec.generate_private_key(curve)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "foreign")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC))
        .sign(key, hashes.SHA256())
    )
    return Identity(key, certificate, Fingerprint.of_public_key(key.public_key()))


def test_a_key_on_another_curve_than_p256_is_rejected(device: Identity) -> None:
    initiator, responder, _ = pair(device, identity_on(ec.SECP384R1()))
    assert responder.state is SessionState.FAILED
    assert "P-256" in str(responder.failure)
    assert initiator.state is SessionState.FAILED


UNKNOWN_IDENTIFIERS = {
    "curve": ("06082a8648ce3d030107", "06082a8648ce3d030104"),  # prime239v1
    "algorithm": ("06072a8648ce3d0201", "06072a8648ce3d0209"),  # not an algorithm
}


@pytest.mark.parametrize("changed_part", UNKNOWN_IDENTIFIERS)
@pytest.mark.parametrize("sender_role", ["client", "device"])
def test_a_key_that_cannot_be_decoded_ends_the_handshake_with_an_alert(
    device: Identity, client: Identity, changed_part: str, sender_role: str
) -> None:
    """OpenSSL reports these in several ways; each becomes HandshakeFailed and an alert."""

    was, becomes = map(bytes.fromhex, UNKNOWN_IDENTIFIERS[changed_part])
    initiator = DtlsSession.client(ClientContext(client), mtu=MTU, pinned=None)
    responder = begin_responder(initiator, ServerContext(device, resumption=True))
    judge, other = (responder, initiator) if sender_role == "client" else (initiator, responder)
    for _ in range(3):
        for sender, receiver in ((responder, initiator), (initiator, responder)):
            for datagram in sender.take_datagrams():
                changed = datagram.replace(was, becomes) if receiver is judge else datagram
                feed(receiver, changed)
    assert judge.state is SessionState.FAILED
    assert isinstance(judge.failure, HandshakeFailed)
    assert other.state is SessionState.FAILED
    assert "alert unsupported certificate" in str(other.failure)


def test_an_ended_session_is_freed_without_the_garbage_collector(
    device: Identity, client: Identity
) -> None:
    """Otherwise a flood of handshakes would fill memory between two collections."""
    gc.collect()
    gc.disable()
    try:
        before = count_sessions()
        initiator, responder, _ = pair(device, client)
        assert count_sessions() == before + 4
        del initiator, responder
        assert count_sessions() == before
    finally:
        gc.enable()


def count_sessions() -> int:
    """The number of sessions and of OpenSSL connections in this process."""
    return sum(isinstance(one, DtlsSession | SSL.Connection) for one in gc.get_objects())


def test_the_validity_period_of_a_certificate_is_ignored(device: Identity) -> None:
    other = identity_on(ec.SECP256R1())
    _, responder, _ = pair(device, other)
    assert responder.state is SessionState.ESTABLISHED
    assert responder.peer_fingerprint == other.fingerprint


@pytest.mark.parametrize("mtu", [300, 600, 1200])
def test_no_datagram_is_larger_than_the_path_mtu(
    device: Identity, client: Identity, mtu: int
) -> None:
    initiator, responder, carried = pair(device, client, mtu=mtu)
    assert initiator.state is responder.state is SessionState.ESTABLISHED
    assert max(map(len, carried)) <= mtu
    initiator.send(bytes(initiator.message_bytes))
    (datagram,) = initiator.take_datagrams()
    assert len(datagram) <= mtu
    assert feed(responder, datagram) == [bytes(initiator.message_bytes)]


def test_several_records_in_one_datagram_are_several_messages(
    device: Identity, client: Identity
) -> None:
    initiator, responder, _ = pair(device, client)
    for message in (b"one", b"two", b"three"):
        initiator.send(message)
    (datagram,) = initiator.take_datagrams()
    assert feed(responder, datagram) == [b"one", b"two", b"three"]


def test_a_replayed_record_is_delivered_once(device: Identity, client: Identity) -> None:
    initiator, responder, _ = pair(device, client)
    initiator.send(b"once")
    (datagram,) = initiator.take_datagrams()
    assert feed(responder, datagram) == [b"once"]
    assert feed(responder, datagram) == []
    assert responder.state is SessionState.ESTABLISHED


def test_a_handshake_completes_with_duplicated_datagrams(
    device: Identity, client: Identity
) -> None:
    initiator, responder, _ = pair(device, client, relay=lambda datagram: [datagram] * 3)
    assert initiator.state is responder.state is SessionState.ESTABLISHED


def test_forged_records_do_not_affect_an_established_session(
    device: Identity, client: Identity
) -> None:
    initiator, responder, _ = pair(device, client)
    initiator.send(b"true")
    (true,) = initiator.take_datagrams()
    flipped = true[:-1] + bytes([true[-1] ^ 1])
    alert = b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28"  # cleartext, fatal, epoch 0
    sealed_alert = b"\x15\xfe\xfd\x00\x01" + bytes(5) + b"\x63\x00\x1a" + secrets.token_bytes(26)
    for forged in (flipped, alert, sealed_alert):
        assert feed(responder, forged) == []
        assert responder.state is SessionState.ESTABLISHED
    assert feed(responder, true) == [b"true"]


def test_the_failure_of_an_established_session_does_not_mention_a_handshake(
    device: Identity, client: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    initiator, responder, _ = pair(device, client)

    def fail_with_alert(_connection: SSL.Connection, _most: int) -> bytes:
        raise SSL.Error([("SSL routines", "", "tlsv1 alert internal error")])

    monkeypatch.setattr(SSL.Connection, "recv", fail_with_alert)
    responder.send(b"hello")
    for datagram in responder.take_datagrams():
        feed(initiator, datagram)
    assert initiator.state is SessionState.FAILED
    assert isinstance(initiator.failure, SessionFailed)
    assert "handshake" not in str(initiator.failure)


def test_close_notify_ends_both_sides(device: Identity, client: Identity) -> None:
    initiator, responder, _ = pair(device, client)
    initiator.close()
    for datagram in initiator.take_datagrams():
        feed(responder, datagram)
    assert (initiator.state, responder.state) == (SessionState.CLOSED,) * 2
    initiator.send(b"late")
    assert initiator.take_datagrams() == []


def resume(
    initiator_context: ClientContext,
    before: DtlsSession,
    context: ServerContext,
    pinned: Fingerprint,
) -> tuple[DtlsSession, DtlsSession]:
    initiator = DtlsSession.client(initiator_context, mtu=MTU, pinned=pinned, resume=before.ticket)
    responder = begin_responder(initiator, context)
    run_handshake(initiator, responder)
    return initiator, responder


def test_a_resumed_session_has_both_keys_and_checks_the_pin(
    device: Identity, client: Identity
) -> None:
    context, initiator_context = ServerContext(device, resumption=True), ClientContext(client)
    before = DtlsSession.client(initiator_context, mtu=MTU, pinned=device.fingerprint)
    run_handshake(before, begin_responder(before, context))
    initiator, responder = resume(initiator_context, before, context, device.fingerprint)
    assert initiator.resumed
    assert responder.resumed
    assert responder.peer_fingerprint == client.fingerprint
    assert initiator.exporter == responder.exporter != before.exporter
    wrong, _ = resume(initiator_context, before, context, client.fingerprint)
    assert isinstance(wrong.failure, PinMismatch)


def test_a_new_server_context_ends_resumption(device: Identity, client: Identity) -> None:
    initiator_context = ClientContext(client)
    before = DtlsSession.client(initiator_context, mtu=MTU, pinned=device.fingerprint)
    run_handshake(before, begin_responder(before, ServerContext(device, resumption=True)))
    fresh = ServerContext(device, resumption=True)
    initiator, _ = resume(initiator_context, before, fresh, device.fingerprint)
    assert initiator.state is SessionState.ESTABLISHED
    assert not initiator.resumed


def test_without_resumption_every_session_is_a_full_handshake(
    device: Identity, client: Identity
) -> None:
    context, initiator_context = ServerContext(device, resumption=False), ClientContext(client)
    before = DtlsSession.client(initiator_context, mtu=MTU, pinned=device.fingerprint)
    run_handshake(before, begin_responder(before, context))
    initiator, _ = resume(initiator_context, before, context, device.fingerprint)
    assert not initiator.resumed


def test_only_aead_cipher_suites_are_negotiated(device: Identity, client: Identity) -> None:
    _, _, carried = pair(device, client)
    [hello] = [one for one in carried if one[0] == HANDSHAKE and one[13] == SERVER_HELLO]
    body = hello[25:]  # after the headers of the record and of the message
    assert body[:2] == b"\xfe\xfd", "DTLS 1.2"
    suite = body[35 + body[34] :][:2]
    assert suite in AEAD_SUITES


@pytest.mark.parametrize(("switch", "agreed"), [(True, True), (False, False)])
def test_ccm8_is_negotiated_only_if_it_is_enabled(
    device: Identity, client: Identity, switch: bool, agreed: bool
) -> None:
    initiator_context = ClientContext(client, ccm8=True)
    only = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    only.set_cipher_list(b"ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0")
    only.set_options(SSL.OP_NO_QUERY_MTU)
    only.set_verify(SSL.VERIFY_NONE)
    only.use_certificate(client.certificate)
    only.use_privatekey(client.private_key)
    initiator_context.ssl = only
    initiator = DtlsSession.client(initiator_context, mtu=MTU, pinned=None)
    responder = begin_responder(initiator, ServerContext(device, resumption=False, ccm8=switch))
    run_handshake(initiator, responder)
    assert (responder.state is SessionState.ESTABLISHED) is agreed
