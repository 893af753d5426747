"""CBOR as this protocol uses it: RFC 8949, deterministic when we write, strict when we read.

`encode` is cbor2's canonical form. Its maps are sorted by the length of the encoded key, then
bytewise (§4.2.3); for the keys of this protocol that is also the bytewise order of §4.2.1.

`decode_untrusted` walks the bytes once, without recursion and without allocating anything a length
field asks for, before cbor2 sees them. Only what the protocol needs passes: integers of 64 bits,
byte and text strings, arrays, maps with integer or text keys, false, true, null and floats. No
tags (cbor2 makes dates, fractions, even regular expressions of them), no indefinite lengths, no
`undefined`, no keys that cannot be hashed or that could be crafted to collide. Integers may come in
a longer form than needed: strangers write with other libraries.
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
    """The one item that `data` holds; at most `size` bytes, containers nested at most `depth`.

    Raises `Malformed` for everything else, and nothing but `Malformed`.
    """
    if len(data) > size:
        raise _malformed(f"is longer than {size} bytes")
    _check_untrusted(data, depth)
    try:
        # The one place that may: `_check_untrusted` has bounded the data.
        return cbor2.loads(data, allow_duplicate_keys=False)  # noqa: TID251
    except (cbor2.CBORError, ValueError):
        # `from None`: the words of the cause may quote the body.
        raise _malformed("holds text that is not UTF-8, or one map key twice") from None


def _check_untrusted(data: bytes, depth: int) -> None:
    """Raise `Malformed` unless `data` is exactly one well-formed item of the allowed kinds.

    `owed` holds, for each open container, how many items are still to come and whether it is a
    map. A map owes keys at even counts.
    """
    at = 0
    owed: list[list[int]] = []
    while True:
        major, number, at = _read_head_untrusted(data, at)
        if owed and owed[-1][1] and owed[-1][0] % 2 == 0 and major not in {_UINT, _NEGATIVE, _TEXT}:
            raise _malformed("has a map key that is neither a number nor text")
        if owed:
            owed[-1][0] -= 1
        if major in {_BYTES, _TEXT}:
            at += number
        elif major in {_ARRAY, _MAP}:
            owed.append([number * (1 + (major == _MAP)), major == _MAP])
            if len(owed) > depth:
                raise _malformed(f"is nested deeper than {depth}")
        # Each item takes a byte at least, so no promise of more items than bytes is looked into.
        if at + (owed[-1][0] if owed else 0) > len(data):
            raise _malformed("ends too early")
        while owed and owed[-1][0] == 0:
            owed.pop()
        if not owed:
            break
    if at != len(data):
        raise _malformed("goes on after its end")


def _read_head_untrusted(data: bytes, at: int) -> tuple[int, int, int]:
    """Major type, argument, and the place after the head. Floats are one head (§3.3)."""
    if at >= len(data):
        raise _malformed("ends too early")
    major, info = data[at] >> 5, data[at] & 31
    if major == _TAG:
        raise _malformed("has a tag")
    if major == _SIMPLE and info not in _SIMPLE_WORDS | _FLOATS:
        raise _malformed("has a simple value that means nothing here")
    if info > 27:
        raise _malformed("has an indefinite length or a reserved one")
    at += 1
    if info < 24:
        return major, info, at
    width = 1 << info - 24
    if at + width > len(data):
        raise _malformed("ends too early")
    return major, int.from_bytes(data[at : at + width], "big"), at + width


def _malformed(what: str) -> Malformed:
    return Malformed(f"the CBOR body {what}", advice=_ADVICE)
