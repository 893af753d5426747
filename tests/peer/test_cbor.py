"""CBOR (RFC 8949): we write one canonical form; input from peers is bounded, or is Malformed."""

import math

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peer import cbor
from peer.errors import Malformed
from peer.limits import DEFAULT_LIMITS

DEPTH = DEFAULT_LIMITS.cbor_depth

scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**64), max_value=2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text() | st.integers(-(2**64), 2**64 - 1), inner, max_size=5)
    ),
    max_leaves=20,
)


# RFC 8949 appendix A, the examples with plain values.
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (1000000, "1a000f4240"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (-1, "20"),
        (-100, "3863"),
        (1.1, "fb3ff199999999999a"),
        (1.5, "f93e00"),
        (100000.0, "fa47c35000"),
        (-0.0, "f98000"),
        (math.nan, "f97e00"),
        (math.inf, "f97c00"),
        (False, "f4"),
        (True, "f5"),
        (None, "f6"),
        (b"\x01\x02", "420102"),
        ("ü", "62c3bc"),
        ([1, [2, 3], (4, 5)], "8301820203820405"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    ],
)
def test_encode_matches_the_rfc_examples(value: object, expected: str) -> None:
    assert cbor.encode(value).hex() == expected


def test_the_keys_of_the_protocol_are_in_bytewise_order() -> None:
    """§4.2.1 and §4.2.3 agree for text keys and the small negative keys of RFC 9290."""

    encoded = cbor.encode({"aa": 0, "z": 0, "handfast:problem": 0, -2: 0, -1: 0})
    keys = [b"\x20", b"\x21", b"\x61z", b"\x62aa", b"\x70handfast:problem"]
    assert keys == sorted(keys)
    assert encoded == b"\xa5" + b"".join(key + b"\x00" for key in keys)


@given(values)
def test_encode_and_decode_are_inverse(value: object) -> None:
    encoded = cbor.encode(value)
    assert cbor.decode_untrusted(encoded) == value
    assert cbor.encode(cbor.decode_untrusted(encoded)) == encoded


@given(values)
def test_another_library_decodes_our_encoding(value: object) -> None:
    assert cbor2.loads(cbor.encode(value)) == value


@pytest.mark.parametrize("value", [{1, 2}, object(), cbor2.undefined, {b"k": 1}, {True: 1}, 2**64])
def test_encode_rejects_values_without_a_cbor_form(value: object) -> None:
    with pytest.raises(ValueError, match="no CBOR form"):
        cbor.encode(value)


def test_encode_rejects_a_list_that_contains_itself() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="no CBOR form"):
        cbor.encode(endless)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "ends too early", id="empty input"),
        pytest.param(b"\x18", "ends too early", id="no argument"),
        pytest.param(b"\x62a", "ends too early", id="short text"),
        pytest.param(b"\x82\x01", "ends too early", id="short array"),
        pytest.param(b"\xa1\x01", "ends too early", id="key without value"),
        pytest.param(b"\x01\x02", "extra bytes", id="trailing byte"),
        pytest.param(b"\x81" * 1000 + b"\x00", "deeper", id="nesting of 1000"),
        pytest.param(b"\xa1\x00" * 1000 + b"\x00", "deeper", id="maps nested 1000 deep"),
        pytest.param(b"\x81" * 60000, "deeper", id="nesting of 60000"),
        pytest.param(b"\xc0" * 1000 + b"\x00", "tag", id="tags nested 1000 deep"),
        pytest.param(b"\x9b" + b"\xff" * 8, "ends too early", id="array of 2^64"),
        pytest.param(b"\xbb" + b"\xff" * 8, "ends too early", id="map of 2^64"),
        pytest.param(b"\x5b" + b"\xff" * 8, "ends too early", id="bytes of 2^64"),
        pytest.param(b"\x7b" + b"\x7f" + b"\xff" * 7, "ends too early", id="text of 2^63"),
        pytest.param(b"\x82\x9a\x00\x01\x00\x00\x00", "ends too early", id="inner array of 2^16"),
        pytest.param(b"\xa2\x61a\x01\x61a\x02", "repeated map key", id="duplicate text key"),
        pytest.param(
            b"\xa2\x01\x01\x18\x01\x02", "repeated map key", id="duplicate in a longer form"
        ),
        pytest.param(b"\xa1\x80\x01", "map key", id="array as key"),
        pytest.param(b"\xa1\xf9\x7e\x00\x01", "map key", id="NaN as key"),
        pytest.param(b"\xa1\x01\xa1\x41k\x01", "map key", id="bytes as inner key"),
        pytest.param(b"\xc1\x00", "tag", id="date"),
        pytest.param(b"\xd8\x23\x61(", "tag", id="regular expression"),
        pytest.param(b"\xd8\x1d\x00", "tag", id="shared reference"),
        pytest.param(b"\xc2\x41\x01", "tag", id="bignum"),
        pytest.param(b"\x61\xff", "UTF-8", id="not UTF-8"),
        pytest.param(b"\x63\xed\xa0\x80", "UTF-8", id="surrogate"),
        pytest.param(b"\x9f\xff", "indefinite", id="indefinite array"),
        pytest.param(b"\x7f\x61a\xff", "indefinite", id="indefinite text"),
        pytest.param(b"\x1c", "reserved", id="reserved length"),
        pytest.param(b"\xff", "simple value", id="break"),
        pytest.param(b"\xf7", "simple value", id="undefined"),
        pytest.param(b"\xf8\x20", "simple value", id="unassigned"),
        pytest.param(b"\xe0", "simple value", id="simple 0"),
    ],
)
def test_decode_rejects_invalid_or_unsupported_items(data: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        cbor.decode_untrusted(data)
    assert caught.value.advice


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x00"])
def test_the_depth_limit_is_exact(opening: bytes) -> None:
    cbor.decode_untrusted(opening * DEPTH + b"\x00")
    with pytest.raises(Malformed, match="deeper"):
        cbor.decode_untrusted(opening * (DEPTH + 1) + b"\x00")
    with pytest.raises(Malformed, match="deeper"):
        cbor.decode_untrusted(opening * 3 + b"\x00", depth=2)


def test_the_size_limit_is_exact() -> None:
    assert cbor.decode_untrusted(b"\x42ab", size=3) == b"ab"
    with pytest.raises(Malformed, match="longer than 2"):
        cbor.decode_untrusted(b"\x42ab", size=2)


def test_an_error_does_not_quote_the_body() -> None:
    with pytest.raises(Malformed) as caught:
        cbor.decode_untrusted(b"\xa2\x66secret\x01\x66secret\x02")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_longer_integer_encodings_are_accepted() -> None:
    assert cbor.decode_untrusted(b"\xa1\x18\x01\x19\x00\x02") == {1: 2}


def _plain(value: object) -> bool:
    match value:
        case list():
            return all(_plain(item) for item in value)
        case dict():
            return all(type(key) in {int, str} and _plain(item) for key, item in value.items())
        case _:
            return value is None or type(value) in {bool, int, float, str, bytes}


@given(st.binary(max_size=200))
@example(b"\xbf\xff")
def test_any_bytes_are_decoded_or_malformed(data: bytes) -> None:
    try:
        value = cbor.decode_untrusted(data)
    except Malformed:
        return
    assert _plain(value)


@given(values, st.data())
def test_damaged_items_are_decoded_or_malformed(value: object, data: st.DataObject) -> None:
    damaged = bytearray(cbor.encode(value))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(damaged)))
    try:
        result = cbor.decode_untrusted(bytes(damaged[:end]))
    except Malformed:
        return
    assert _plain(result)


@given(values)
def test_every_proper_prefix_is_malformed(value: object) -> None:
    encoded = cbor.encode(value)
    for end in range(min(len(encoded), 64)):
        with pytest.raises(Malformed):
            cbor.decode_untrusted(encoded[:end])
