"""JSON from outside: RFC 8259, bounded before it is parsed.

`json.loads` recurses as deep as its input is nested, and what it returns makes the code that walks
it recurse again: 700 brackets are enough to exhaust Python's stack. So the depth is counted first,
in one pass without recursion.
"""

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
    """The one value that `data` holds; at most `size` bytes, containers nested at most `depth`.

    Raises `Malformed` for everything else, and nothing but `Malformed`.
    """
    if len(data) > size:
        raise Malformed(f"it is longer than {size} bytes")
    try:
        text = data.decode("utf-8-sig")
        _check_untrusted(text, depth)
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # `from None`: the words of the cause may quote the body.
        raise Malformed("it is not JSON") from None


def _check_untrusted(text: str, depth: int) -> None:
    """Raise `Malformed` if containers are nested deeper than `depth`."""
    level = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        level += 1 if bracket[0] in "[{" else -1
        if level > depth:
            raise Malformed(f"it is nested deeper than {depth}")


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")
