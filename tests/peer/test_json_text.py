"""JSON from peers: bounded before it is parsed, and every error is Malformed."""

import random
import sys

import pytest

from peer.errors import Malformed
from peer.json_text import decode_untrusted
from peer.limits import DEFAULT_LIMITS

DEPTH = DEFAULT_LIMITS.json_depth


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"light": true, "level": 0.5}', {"light": True, "level": 0.5}),
        (b'\xef\xbb\xbf"\xc3\xa9"', "é"),
        (b'"[[[[{{{{ \\" [[["', '[[[[{{{{ " [[['),
        (b'["\\\\", [1]]', ["\\", [1]]),
        (b"[" * DEPTH + b"]" * DEPTH, None),
        (b'{"a":' * DEPTH + b"1" + b"}" * DEPTH, None),
        (b"[" + b"[]," * 100_000 + b"[]]", None),  # wide but not deep
    ],
    ids=["object", "byte order mark", "inside a string", "backslash", "arrays", "objects", "wide"],
)
def test_valid_json_is_decoded(data: bytes, value: object) -> None:
    assert value is None or decode_untrusted(data) == value
    decode_untrusted(data)


@pytest.mark.parametrize("depth", [DEPTH + 1, 700, sys.getrecursionlimit() * 100])
@pytest.mark.parametrize("unit", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_any_excessive_depth_is_malformed(depth: int, unit: tuple[bytes, bytes]) -> None:
    for data in (unit[0] * depth + b"1" + unit[1] * depth, unit[0] * depth):
        with pytest.raises(Malformed, match="nested deeper"):
            decode_untrusted(data, size=len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'"',
        b'"\\',
        b"]" * 100,
        b"nan",
        b"NaN",
        b"[Infinity]",
        b"1 2",
        b"\xff",
        b'"\xff"',
        b"'a'",
        '{"a": 1}'.encode("utf-16"),
        b"1" * 10_000,
        b" " * (DEFAULT_LIMITS.answer_body_bytes + 1),
    ],
)
def test_invalid_json_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        decode_untrusted(data)
    assert caught.value.__cause__ is None


def test_any_bytes_are_json_or_malformed() -> None:
    choose = random.Random(27)
    alphabet = b'[]{}",:\\ 0e-tn\xc3'
    for _ in range(3000):
        data = bytes(choose.choices(alphabet, k=choose.randrange(40)))
        try:
            decode_untrusted(data)
        except Malformed:
            continue
