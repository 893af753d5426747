"""Messages of the rendezvous: encoding, sealing, and everything that is refused."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from peer import cbor
from peer.errors import Malformed
from peer.fingerprint import Fingerprint
from peer.remote import message_codec
from peer.remote.messages import (
    Answer,
    Candidates,
    CarrierKind,
    CarrierOffer,
    Challenge,
    ConnectRequest,
    Message,
    Offer,
    Refusal,
    RefusalReason,
    is_candidate,
)
from peer.remote.pair_keys import PairKeys, client_topic, device_topic, pair_secret
from peer.remote.sealing import MessageSealer, pad, unpad_untrusted
from peer.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

A, B, C, D = (bytes([value]) * 16 for value in b"abcd")
CANDIDATE = "6815297761 1 udp 2130706431 192.0.2.7 54321 typ host"
REFLEXIVE = "1 1 udp 1694498815 203.0.113.9 40000 typ srflx raddr 192.0.2.7 rport 54321"
OFFER = CarrierOffer("abcd", "p" * 22, (CANDIDATE, REFLEXIVE))
RELAYED = CarrierOffer("efgh", "q" * 22, (REFLEXIVE.replace("srflx", "relay"),))
BOTH = {CarrierKind.DIRECT: OFFER, CarrierKind.RELAY: RELAYED}
FROM_CLIENT = [
    ConnectRequest(A, B),
    Offer(A, B, C, BOTH),
    Offer(A, B, C, {CarrierKind.RELAY: RELAYED}, D),
    Candidates(A, {CarrierKind.RELAY: RELAYED}, B),
]
FROM_DEVICE = [
    Challenge(A, C, 0),
    Challenge(A, C, 2**32 - 1, ("192.0.2.7:5684", "[2001:db8::1]:5684")),
    Answer(A, BOTH),
    Answer(A, BOTH, D),
    Candidates(A, {CarrierKind.DIRECT: OFFER}),
    Refusal(A, RefusalReason.BUSY, 2),
    Refusal(A, RefusalReason.DENIED),
]
KEYS = PairKeys(Secret(bytes(range(32))))
TOPIC = device_topic("hf1/alice", KEYS.topic)
KEY_TO_DEVICE = Secret(
    HKDF(SHA256(), 32, salt=b"", info=b"handfast/1 rv C>D").derive(bytes(range(32)))
)
random_bytes = random.Random(1).randbytes


@pytest.mark.parametrize("message", FROM_CLIENT + FROM_DEVICE, ids=lambda one: type(one).__name__)
def test_a_message_survives_encoding(message: Message) -> None:
    assert message_codec.decode_untrusted(message_codec.encode(message)) == message


@pytest.mark.parametrize("message", FROM_CLIENT)
def test_the_device_opens_messages_of_the_client_only(message: Any) -> None:
    sealed = KEYS.seal_to_device(message, TOPIC, random_bytes)
    assert KEYS.open_from_client_untrusted(sealed, TOPIC) == message
    with pytest.raises(Malformed):  # reflected
        KEYS.open_from_device_untrusted(sealed, TOPIC)


@pytest.mark.parametrize("message", FROM_DEVICE)
def test_the_client_opens_messages_of_the_device_only(message: Any) -> None:
    sealed = KEYS.seal_to_client(message, TOPIC, random_bytes)
    assert KEYS.open_from_device_untrusted(sealed, TOPIC) == message
    with pytest.raises(Malformed):
        KEYS.open_from_client_untrusted(sealed, TOPIC)


@pytest.mark.parametrize("message", FROM_DEVICE)
def test_a_message_of_the_other_kind_is_refused_although_it_is_sealed(message: Any) -> None:
    sealed = KEYS.seal_to_device(message, TOPIC, random_bytes)
    with pytest.raises(Malformed):
        KEYS.open_from_client_untrusted(sealed, TOPIC)


def test_a_message_cannot_be_moved_to_another_topic() -> None:
    sealed = KEYS.seal_to_device(ConnectRequest(A, B), TOPIC, random_bytes)
    with pytest.raises(Malformed):
        KEYS.open_from_client_untrusted(sealed, device_topic("hf1/bob", KEYS.topic))


def test_each_client_and_each_generation_has_a_secret_and_a_topic_of_its_own() -> None:
    master = Secret(bytes(32))
    clients = [Fingerprint(bytes([number]) * 32) for number in range(3)]
    secrets = [pair_secret(master, generation, one) for one in clients for generation in (0, 1)]
    assert len({secret.reveal() for secret in secrets}) == 6
    assert len({PairKeys(secret).topic for secret in secrets}) == 6
    other = PairKeys(secrets[0])
    sealed = other.seal_to_device(ConnectRequest(A, B), TOPIC, random_bytes)
    with pytest.raises(Malformed):
        KEYS.open_from_client_untrusted(sealed, TOPIC)


def test_topics_have_the_letters_of_base32() -> None:
    assert len(KEYS.topic) == 26
    assert set(KEYS.topic) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert client_topic("hf1/alice", bytes(16)) == "hf1/alice/c/" + "a" * 26


@pytest.mark.parametrize(
    ("length", "size"),
    [
        (0, 128),
        (126, 128),
        (127, 512),
        (510, 512),
        (511, 1024),
        (1022, 1024),
        (1023, 2048),
        (2046, 2048),
        (2047, 4096),
        (4094, 4096),
    ],
)
def test_a_body_is_padded_to_the_next_size(length: int, size: int) -> None:
    body = b"\xff" * length
    padded = pad(body)
    assert len(padded) == size
    assert unpad_untrusted(padded) == body
    sealed = MessageSealer(Secret(bytes(32))).seal(body, "t", bytes(12))
    assert len(sealed) == size + 28


def test_a_body_that_is_too_long_is_not_padded() -> None:
    with pytest.raises(ValueError, match="too long"):
        pad(bytes(4095))


@pytest.mark.parametrize(
    "plaintext",
    [
        pad(b"x" * 126) + bytes(1),
        pad(b"x")[:-1] + b"x",  # the padding is not zero
        b"\0\1x".ljust(512, b"\0"),  # a larger size than necessary
        b"\0\x7f".ljust(128, b"x"),  # a length beyond the end
        b"\xff\xff".ljust(128, b"x"),
        b"\0",
        b"",
    ],
)
def test_other_paddings_are_refused(plaintext: bytes) -> None:
    with pytest.raises(Malformed):
        unpad_untrusted(plaintext)


def long_candidate(number: int) -> str:
    text = f"{number:032d} 1 udp 2130706431 2001:db8:1111:2222:3333:4444:5555:6666 54321 typ host"
    return text + " generation " + "0" * (148 - len(text))


def test_candidates_that_do_not_fit_are_left_out_the_last_ones_first() -> None:
    every = tuple(map(long_candidate, range(12)))
    assert {len(one) for one in every} == {160}
    largest = CarrierOffer("u" * 32, "p" * 64, every)
    both = {CarrierKind.DIRECT: largest, CarrierKind.RELAY: largest}
    messages: list[Any] = [Offer(A, B, C, both, D), Answer(A, both, D), Candidates(A, both, B)]
    for message in messages:
        sealed = KEYS.seal_to_device(message, TOPIC, random_bytes)
        assert len(sealed) == 4124
        body = MessageSealer(KEY_TO_DEVICE).open_untrusted(sealed, TOPIC)
        opened: Any = message_codec.decode_untrusted(body)
        kept = [opened.carriers[kind].candidates for kind in CarrierKind]
        assert all(one == every[: len(one)] for one in kept)
        assert 22 <= sum(map(len, kept)) <= 24


def test_the_largest_challenge_fits() -> None:
    challenge = Challenge(A, C, 2**32 - 1, ("a" * 248 + ":5684",) * 8)
    sealed = KEYS.seal_to_client(challenge, TOPIC, random_bytes)
    assert KEYS.open_from_device_untrusted(sealed, TOPIC) == challenge


def test_keys_of_another_length_are_refused() -> None:
    with pytest.raises(Malformed):
        PairKeys(Secret(bytes(31)))
    client = Fingerprint(bytes(32))
    for master, generation in ((bytes(31), 0), (bytes(32), -1), (bytes(32), 2**32)):
        with pytest.raises(ValueError, match="32 bytes"):
            pair_secret(Secret(master), generation, client)


def test_a_representation_shows_no_key() -> None:
    assert repr(KEYS) == "PairKeys(…)"
    assert repr(KEYS.path_keys(A, B)).count("Secret(…)") == 2


@pytest.mark.parametrize(
    "text",
    [
        CANDIDATE,
        REFLEXIVE,
        CANDIDATE.replace("udp", "UDP"),
        CANDIDATE + " generation 0",
        "1 1 udp 1 2001:db8::1 1 typ relay raddr :: rport 0",
    ],
)
def test_candidates_that_a_message_can_have(text: str) -> None:
    assert is_candidate(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 1 udp 1 ::1 1 typ",
        CANDIDATE.replace("udp", "tcp"),
        CANDIDATE.replace(" 1 udp", " 2 udp"),
        CANDIDATE.replace("192.0.2.7", "board.local"),
        CANDIDATE.replace("192.0.2.7", "224.0.0.251"),
        CANDIDATE.replace("192.0.2.7", "ff02::fb"),
        CANDIDATE.replace("192.0.2.7", "0.0.0.0"),
        CANDIDATE.replace("192.0.2.7", "fe80::1%eth0"),
        CANDIDATE.replace("54321", "0"),
        CANDIDATE.replace("54321", "65536"),
        CANDIDATE.replace("2130706431", "0"),
        CANDIDATE.replace("2130706431", "2147483648"),
        CANDIDATE.replace("host", "prflx"),
        CANDIDATE + " generation",
        CANDIDATE + " a\nb c",
        CANDIDATE + "\n",
        CANDIDATE + " é é",
        CANDIDATE + " generation " + "0" * 160,
        REFLEXIVE.replace("192.0.2.7", "here"),
        "candidate:" + CANDIDATE,
    ],
)
def test_other_candidates_are_refused(text: str) -> None:
    assert not is_candidate(text)
    with pytest.raises(Malformed):
        CarrierOffer("abcd", "p" * 22, (text,))


def test_what_an_ice_library_gathers_is_reduced_to_valid_candidates() -> None:
    gathered = [CANDIDATE.replace("udp", "tcp"), *map(long_candidate, range(20)), CANDIDATE]
    offer = CarrierOffer.select("abcd", "p" * 22, [gathered[1], *gathered])
    assert offer.candidates == tuple(gathered[1:13])
    with pytest.raises(Malformed):
        CarrierOffer.select("abcd", "p" * 22, gathered[:1])


def test_a_representation_shows_no_ice_password() -> None:
    assert "p" * 22 not in repr(Offer(A, B, C, BOTH))


GOOD_OFFER: dict[Any, Any] = {
    0: 3,
    1: A,
    2: B,
    3: C,
    4: {1: ["abcd", "p" * 22, [CANDIDATE]]},
}


@pytest.mark.parametrize(
    "change",
    [
        {0: 7},
        {0: True},
        {1: A[:-1]},
        {1: "a" * 16},
        {3: None},
        {5: B + b"x"},
        {5: "b" * 16},
        {6: 1},
        {"x": 1},
        {4: {}},
        {4: []},
        {4: {3: ["abcd", "p" * 22, [CANDIDATE]]}},
        {4: {1: ["abc", "p" * 22, [CANDIDATE]]}},
        {4: {1: ["u" * 33, "p" * 22, [CANDIDATE]]}},
        {4: {1: ["abc:", "p" * 22, [CANDIDATE]]}},
        {4: {1: ["abcd", "p" * 21, [CANDIDATE]]}},
        {4: {1: ["abcd", "p" * 65, [CANDIDATE]]}},
        {4: {1: ["abcd", "p" * 22, []]}},
        {4: {1: ["abcd", "p" * 22, [CANDIDATE] * 13]}},
        {4: {1: ["abcd", "p" * 22, [7]]}},
        {4: {1: ["abcd", "p" * 22, [CANDIDATE], 1]}},
        {4: {"1": ["abcd", "p" * 22, [CANDIDATE]]}},
    ],
)
def test_an_invalid_offer_is_refused(change: dict[Any, Any]) -> None:
    message_codec.decode_untrusted(cbor.encode(GOOD_OFFER))
    with pytest.raises(Malformed):
        message_codec.decode_untrusted(cbor.encode({**GOOD_OFFER, **change}))


@pytest.mark.parametrize(
    "value",
    [
        {0: 2, 1: A, 3: C, 6: -1},
        {0: 2, 1: A, 3: C, 6: 2**32},
        {0: 2, 1: A, 3: C, 6: True},
        {0: 2, 1: A, 3: C, 6: 1, 7: []},
        {0: 2, 1: A, 3: C, 6: 1, 7: ["host"]},
        {0: 2, 1: A, 3: C, 6: 1, 7: ["h:1"] * 9},
        {0: 2, 1: A, 3: C, 6: 1, 7: ["a" * 259 + ":1"]},
        {0: 6, 1: A, 8: "tired"},
        {0: 6, 1: A, 8: "busy", 9: -1},
        {0: 6, 1: A, 8: "busy", 9: 86401},
        {0: 6, 1: A, 8: "busy", 9: "1"},
        {0: 6, 1: A, 8: "busy", 9: False},
        {0: 5, 1: A},
        {0: 4, 1: A},
        {0: 1, 1: A},
        [1],
        1,
    ],
)
def test_other_invalid_messages_are_refused(value: object) -> None:
    with pytest.raises(Malformed):
        message_codec.decode_untrusted(cbor.encode(value))


def test_a_message_has_one_encoding() -> None:
    good = message_codec.encode(ConnectRequest(A, B))
    for other in (
        b"\xa3\x01\x50" + A + b"\x00\x01\x02\x50" + B,  # another order
        b"\xa3\x00\x18\x01" + good[3:],  # a longer head
        good + b"\0",
    ):
        with pytest.raises(Malformed):
            message_codec.decode_untrusted(other)


def opens(function: Callable[[bytes, str], object]) -> Callable[[bytes], object]:
    return lambda data: function(data, TOPIC)


@pytest.mark.parametrize(
    "function",
    [
        message_codec.decode_untrusted,
        unpad_untrusted,
        opens(KEYS.open_from_client_untrusted),
        opens(KEYS.open_from_device_untrusted),
    ],
)
@given(data=st.one_of(st.binary(max_size=200), st.sampled_from([156, 540]).map(bytes)))
def test_any_bytes_raise_malformed_only(function: Callable[[bytes], object], data: bytes) -> None:
    try:
        function(data)
    except Malformed:
        return
    assert function is unpad_untrusted  # some plaintexts are padded as they should be


VALUES: st.SearchStrategy[object] = st.one_of(
    st.integers(-1, 2**33),
    st.sampled_from([A, A + b"x", b"", "busy", "", [], ["h:1"], {}, None, True, 0.5]),
    st.just(GOOD_OFFER[4]),
)


@given(st.integers(0, 7), st.dictionaries(st.integers(1, 9), VALUES, max_size=7))
def test_any_map_is_a_message_or_malformed(kind: int, value: dict[int, object]) -> None:
    data = cbor.encode({0: kind, 1: A, 2: B, **value})
    try:
        message = message_codec.decode_untrusted(data)
    except Malformed:
        return
    assert message_codec.encode(message) == data
