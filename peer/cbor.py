"""CBOR (RFC 8949): deterministic encoding, and decoding of a strict subset.

`encode` uses cbor2's canonical form. It sorts maps by the length of the encoded key, then bytewise
(§4.2.3); for the keys of this protocol that is also the bytewise order of §4.2.1.

`decode_untrusted` checks the bytes before cbor2 decodes them, without recursion and without
allocating what a length field claims. The subset is: integers of 64 bits, byte and text strings,
arrays, maps with integer or text keys, false, true, null and floats. It excludes tags (cbor2
creates dates, fractions and regular expressions from them), indefinite lengths, `undefined`, and
keys that cannot be hashed or could be chosen to collide. Integers may have a longer form than
necessary, since other libraries encode them so.
"""

import cbor2

from peer.errors import Malformed
from peer.limits import DEFAULT_LIMITS

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = 20, 21, 22
_SIMPLE_WORDS = frozenset({_FALSE, _TRUE, _NULL})
_FLOATS = frozenset({25, 26, 27})
_ADVICE = "Send one CBOR item of plain values: numbers, text, bytes, lists and maps."


def encode(value: object, *, depth: int = DEFAULT_LIMITS.cbor_depth) -> bytes:
    """Return the deterministic encoding of a value.

    Raises `ValueError` for a value that no peer would accept: that is an error of the caller.
    """
    try:
        data = cbor2.dumps(value, canonical=True)
        _check_untrusted(data, depth)
    except (cbor2.CBORError, Malformed) as error:
        raise ValueError(f"no CBOR form for {type(value).__name__}: {error}") from error
    return data


def decode_untrusted(
    data: bytes,
    *,
    depth: int = DEFAULT_LIMITS.cbor_depth,
    size: int = DEFAULT_LIMITS.request_body_bytes,
) -> object:
    """Decode one item of at most `size` bytes, with containers nested at most `depth` deep.

    Raises `Malformed` for any other input, and no other error.
    """
    if len(data) > size:
        raise _malformed(f"is longer than {size} bytes")
    _check_untrusted(data, depth)
    try:
        # Only here: `_check_untrusted` has bounded the data.
        return cbor2.loads(data, allow_duplicate_keys=False)  # noqa: TID251
    except (cbor2.CBORError, ValueError):
        # `from None`: the message of the cause may quote the body.
        raise _malformed("has text that is not UTF-8, or a repeated map key") from None


def _check_untrusted(data: bytes, depth: int) -> None:
    """Raise `Malformed` unless `data` is exactly one well-formed item of the subset.

    `missing` has, for each open container, the number of missing items and whether it is a map.
    The next item of a map is a key if the number is even.
    """
    at = 0
    missing: list[list[int]] = []
    while True:
        major, number, at = _read_head_untrusted(data, at)
        if (
            missing
            and missing[-1][1]
            and missing[-1][0] % 2 == 0
            and major not in {_UINT, _NEGATIVE, _TEXT}
        ):
            raise _malformed("has a map key that is neither a number nor text")
        if missing:
            missing[-1][0] -= 1
        if major in {_BYTES, _TEXT}:
            at += number
        elif major in {_ARRAY, _MAP}:
            missing.append([number * (1 + (major == _MAP)), major == _MAP])
            if len(missing) > depth:
                raise _malformed(f"is nested deeper than {depth}")
        # Each item takes at least one byte, so a container cannot claim more items than bytes.
        if at + (missing[-1][0] if missing else 0) > len(data):
            raise _malformed("ends too early")
        while missing and missing[-1][0] == 0:
            missing.pop()
        if not missing:
            break
    if at != len(data):
        raise _malformed("has extra bytes at its end")


def _read_head_untrusted(data: bytes, at: int) -> tuple[int, int, int]:
    """Return major type, argument and the next offset. A float is one head (§3.3)."""
    if at >= len(data):
        raise _malformed("ends too early")
    major, info = data[at] >> 5, data[at] & 31
    if major == _TAG:
        raise _malformed("has a tag")
    if major == _SIMPLE and info not in _SIMPLE_WORDS | _FLOATS:
        raise _malformed("has a simple value that is not false, true or null")
    if info > 27:
        raise _malformed("has an indefinite or reserved length")
    at += 1
    if info < 24:
        return major, info, at
    width = 1 << info - 24
    if at + width > len(data):
        raise _malformed("ends too early")
    return major, int.from_bytes(data[at : at + width], "big"), at + width


def _malformed(what: str) -> Malformed:
    return Malformed(f"the CBOR body {what}", advice=_ADVICE)
