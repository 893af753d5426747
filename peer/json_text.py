"""Decoding of untrusted JSON (RFC 8259), with bounds that are checked before parsing.

`json.loads` recurses as deep as its input is nested, and so may the code that uses its result: 700
brackets can exhaust Python's stack. So the depth is checked first, without recursion.
"""

import codecs
import json
import re
from typing import NoReturn

from peer.errors import Malformed
from peer.limits import DEFAULT_LIMITS

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def decode_untrusted(
    data: bytes,
    *,
    depth: int = DEFAULT_LIMITS.json_depth,
    size: int = DEFAULT_LIMITS.answer_body_bytes,
) -> object:
    """Decode one value of at most `size` bytes, with containers nested at most `depth` deep.

    Raises `Malformed` for any other input, and no other error.
    """
    if len(data) > size:
        raise Malformed(f"it is longer than {size} bytes")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
        _check_untrusted(text, depth)
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # `from None`: the message of the cause may quote the body.
        raise Malformed("it is not JSON") from None


def _check_untrusted(text: str, depth: int) -> None:
    """Raise `Malformed` if containers are nested deeper than `depth`."""
    level = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        level += 1 if bracket[0] in "[{" else -1
        if level > depth:
            raise Malformed(f"it is nested deeper than {depth}")


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")
