"""The calls for a datagram of one record do what those for any datagram do, at less cost."""

import secrets

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from OpenSSL import SSL

from peer.dtls import records
from peer.dtls.session import DtlsSession, SessionState
from peer.errors import Malformed, MessageNotSent
from peer.identity import Identity
from tests.kit.dtls_pair import establish, feed

SIZES = [1, 15, 16, 17, 200, 1183, 2048, 2049, 8192, (1 << 14) - 1, 1 << 14]


def record(kind: int, body: bytes, *, epoch: int = 1, version: bytes = b"\xfe\xfd") -> bytes:
    header = bytes([kind]) + version + epoch.to_bytes(2, "big") + bytes(6)
    return header + len(body).to_bytes(2, "big") + body


PIECES = st.one_of(
    st.binary(max_size=40),
    st.builds(
        record,
        st.integers(19, 24),
        st.binary(max_size=20),
        epoch=st.integers(0, 2),
        version=st.sampled_from([b"\xfe\xfd", b"\xfe\xff", b"\xfe\xfc"]),
    ),
)


@given(st.lists(PIECES, max_size=3).map(b"".join))
@example(record(23, b"x"))
@example(record(23, b"x", epoch=0))
@example(record(21, b"x"))
@example(record(23, b"x", version=b"\xfe\xff"))
@example(record(23, b"x") + b"x")
@example(record(23, b"xy")[:-1])
@example(record(23, b"x") * 2)
@example(record(23, b""))
def test_a_datagram_is_one_application_record_only_if_it_is_split_into_that(data: bytes) -> None:
    try:
        found = records.split_untrusted(data)
    except Malformed:
        found = []
    expected = (
        len(found) == 1
        and found[0].content_type is records.ContentType.APPLICATION_DATA
        and found[0].epoch > 0
        and data[1:3] == b"\xfe\xfd"  # DTLS 1.0 has no encrypted record here
    )
    assert records.is_one_application_record(data) is expected


@pytest.mark.parametrize("size", [1, (1 << 14) + 2035, (1 << 14) + 2036, (1 << 14) + 3000])
def test_the_longest_record_is_that_of_dtls(size: int) -> None:
    datagram = record(23, bytes(size))
    assert records.is_one_application_record(datagram) is (len(datagram) <= (1 << 14) + 2048)


@pytest.mark.parametrize("ccm8", [False, True], ids=["default suites", "with CCM-8"])
def test_a_message_of_any_size_is_one_datagram_and_arrives_whole(
    device: Identity, client: Identity, *, ccm8: bool
) -> None:
    near, far = establish(device, client, ccm8=ccm8)
    for size in SIZES:
        message = secrets.token_bytes(size)
        for sender, receiver in ((near, far), (far, near)):
            datagram = sender.seal(message)
            assert datagram is not None
            assert records.is_one_application_record(datagram)
            assert sender.take_datagrams() == [], "nothing of it is left"
            assert receiver.open_record_untrusted(datagram) == message


def test_both_ways_to_send_and_to_receive_can_be_mixed(device: Identity, client: Identity) -> None:
    near, far = establish(device, client)
    for number in range(20):
        message = b"%d" % number
        if number & 1:
            near.send(message)
            (datagram,) = near.take_datagrams()
        else:
            datagram = near.seal(message) or b""
        received = [far.open_record_untrusted(datagram)] if number & 2 else feed(far, datagram)
        assert received == [message]


def test_plaintext_means_that_there_is_nothing_to_send_and_no_timer(
    device: Identity, client: Identity
) -> None:
    """So the owner of a session does not look. It holds on both sides, from the first message."""
    near, far = establish(device, client)
    for size in SIZES:
        for sender, receiver in ((near, far), (far, near)):
            assert receiver.open_record_untrusted(sender.seal(bytes(size)) or b"") == bytes(size)
            assert receiver.take_datagrams() == []
            assert receiver.timeout() is None
            assert receiver.state is SessionState.ESTABLISHED


def test_a_forged_or_repeated_record_has_no_plaintext_and_changes_nothing(
    device: Identity, client: Identity
) -> None:
    near, far = establish(device, client)
    sealed = near.seal(b"once") or b""
    forged = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    other_epoch = sealed[:3] + b"\x00\x02" + sealed[5:]
    for datagram in (*filter(records.is_one_application_record, forged), other_epoch):
        assert far.open_record_untrusted(datagram) is None
    assert far.open_record_untrusted(sealed) == b"once"
    for _ in range(3):
        assert far.open_record_untrusted(sealed) is None
    assert far.state is SessionState.ESTABLISHED
    assert far.take_datagrams() == []
    assert far.open_record_untrusted(near.seal(b"twice") or b"") == b"twice"


def test_a_session_that_is_not_established_opens_and_seals_nothing(
    device: Identity, client: Identity
) -> None:
    near, far = establish(device, client)
    sealed = near.seal(b"late") or b""
    far.close()
    assert far.open_record_untrusted(sealed) is None
    assert far.seal(b"late") is None
    assert near.seal(b"next") is not None


@pytest.mark.parametrize("size", [0, (1 << 14) + 1])
def test_a_message_that_no_record_holds_is_refused_and_the_session_stays(
    device: Identity, client: Identity, size: int
) -> None:
    near, far = establish(device, client)
    with pytest.raises(MessageNotSent):
        near.seal(bytes(size))
    assert far.open_record_untrusted(near.seal(b"next") or b"") == b"next"


@pytest.mark.parametrize("error", [SSL.ZeroReturnError(), SSL.Error([("", "", "bad")])])
def test_an_error_of_openssl_ends_the_session(
    device: Identity, client: Identity, monkeypatch: pytest.MonkeyPatch, error: SSL.Error
) -> None:
    near, far = establish(device, client)
    datagram = near.seal(b"x") or b""

    def fail(_connection: SSL.Connection, _size: int) -> bytes:
        raise error

    monkeypatch.setattr(SSL.Connection, "recv", fail)
    assert far.open_record_untrusted(datagram) is None
    is_closed = isinstance(error, SSL.ZeroReturnError)
    assert far.state is (SessionState.CLOSED if is_closed else SessionState.FAILED)
    assert (far.failure is None) is is_closed
    assert DtlsSession.open_record_untrusted(far, datagram) is None


def test_everything_that_waits_is_sent(device: Identity, client: Identity) -> None:
    """More than one read of OpenSSL's output."""
    near, far = establish(device, client)
    sent = [bytes([number]) * 1000 for number in range(200)]
    for message in sent:
        near.send(message)
    datagrams = near.take_datagrams()
    assert [message for one in datagrams for message in feed(far, one)] == sent
    assert near.take_datagrams() == []
