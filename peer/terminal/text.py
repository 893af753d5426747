"""Escaping of text from peers and files, before it is printed or written.

A terminal executes control sequences: colours, titles, cursor movements, even input (C0, DEL and
C1, ECMA-48 §5). A direction override makes one name look like another one (UAX #9). Therefore every
character that is not visible is replaced by its number, on the screen and in JSON.
"""

import json
import re

# Control, format (bidi, joiners, tags), surrogate, private, unassigned; line and paragraph breaks.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_UNUSUAL = re.compile(r"[^ -~]")
_UNUSUAL_ON_LINES = re.compile(r"[^ -~\n\t]")


def on_one_line(text: str) -> str:
    """Escape control, invisible and direction characters as `xNN` or `uNNNN` after a backslash."""
    return _UNUSUAL.sub(_escaped, text)


def on_lines(text: str) -> str:
    """Escape like `on_one_line`, except line feeds and tabs; for bodies of text."""
    return _UNUSUAL_ON_LINES.sub(_escaped, text)


def json_text(value: object, *, ascii_only: bool = False) -> str:
    """Encode a value as JSON on one line, with such characters escaped.

    Visible characters stay as they are, unless `ascii_only`. Raises `ValueError` for NaN and
    infinity.
    """
    text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)
    return _UNUSUAL.sub(_escaped_in_json, text)  # all others are inside a string


def _escaped(found: re.Match[str]) -> str:
    point = ord(found[0])
    if not _is_unshown(found[0]):
        return found[0]
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _escaped_in_json(found: re.Match[str]) -> str:
    """Escape a character; beyond U+FFFF as a pair of surrogates (RFC 8259 §7)."""
    return json.dumps(found[0])[1:-1] if _is_unshown(found[0]) else found[0]


def _is_unshown(character: str) -> bool:
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    return unicodedata.category(character) in _UNSHOWN
