"""Text from others, before a terminal or a file sees it.

A terminal obeys what it is shown: colours, titles, cursor moves, even answers typed back (C0, DEL
and C1, ECMA-48 §5). And a direction override makes a name read as another one (UAX #9). So every
character that is not visible is written as its number, on the screen and in JSON.
"""

import json
import logging
import re
import unicodedata

# Control, format (bidi, joiners, tags), surrogate, private, unassigned; line and paragraph breaks.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_UNUSUAL = re.compile(r"[^ -~]")
_UNUSUAL_ON_LINES = re.compile(r"[^ -~\n\t]")


def on_one_line(text: str) -> str:
    """The text with every control, invisible and direction character as `\\xNN` or `\\uNNNN`."""
    return _UNUSUAL.sub(_escaped, text)


def on_lines(text: str) -> str:
    """The same, but line feeds and tabs stay: for a body that is meant to be read."""
    return _UNUSUAL_ON_LINES.sub(_escaped, text)


def json_text(value: object, *, ascii_only: bool = False) -> str:
    """`value` as JSON on one line, in which such characters are escaped, too.

    Visible characters stay as they are, unless `ascii_only`. Raises ValueError for not-a-number.
    """
    text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)
    return _UNUSUAL.sub(_escaped_in_json, text)  # what is left of them is inside a string


class EscapingFormatter(logging.Formatter):
    """A formatter of log records, whose words may be a peer's."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, escaped; a traceback stays on its lines."""
        return on_lines(super().format(record))


def _escaped(found: re.Match[str]) -> str:
    point = ord(found[0])
    if not _is_unshown(found[0]):
        return found[0]
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _escaped_in_json(found: re.Match[str]) -> str:
    """RFC 8259 §7: beyond U+FFFF as a pair of surrogates."""
    return json.dumps(found[0])[1:-1] if _is_unshown(found[0]) else found[0]


def _is_unshown(character: str) -> bool:
    return unicodedata.category(character) in _UNSHOWN
