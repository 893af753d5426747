"""Text from others, before a terminal sees it.

A terminal obeys what it is shown: colours, titles, cursor moves, even answers typed back. And a
direction override makes a name read as another one. So everything that is not a visible character
is written as its number.
"""

import re
import unicodedata

# Control, format (bidi, joiners, tags), surrogate, private, unassigned; line and paragraph breaks.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN = re.compile(r"[ -~]*")


def on_one_line(text: str) -> str:
    """The text with every control, invisible and direction character as `\\xNN` or `\\uNNNN`."""
    return _escaped(text, keep="")


def on_lines(text: str) -> str:
    """The same, but line feeds and tabs stay: for a body that is meant to be read."""
    return _escaped(text, keep="\n\t")


def _escaped(text: str, *, keep: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _UNSHOWN
        else _number(ord(character))
        for character in text
    )


def _number(point: int) -> str:
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
