"""Text from a peer cannot control the terminal."""

import json
import logging
import sys
import unicodedata

import pytest

from peer.terminal.log_format import EscapingFormatter
from peer.terminal.text import json_text, on_lines, on_one_line

VISIBLE = "Küche 台所 naïve – “quotes” ✓"
HOSTILE = {
    "escape": ("\x1b[2J", "\\x1b[2J"),
    "bell and backspace": ("\a\b", "\\x07\\x08"),
    "delete": ("\x7f", "\\x7f"),
    "one byte control sequence (C1)": ("\x9b31m", "\\x9b31m"),
    "next line (C1)": ("\x85", "\\x85"),
    "right to left": ("\u202egpj", "\\u202egpj"),
    "isolate": ("\u2066", "\\u2066"),
    "zero width": ("\u200b\ufeff", "\\u200b\\ufeff"),
    "line separator": ("\u2028", "\\u2028"),
    "unpaired surrogate": ("\ud800", "\\ud800"),
    "tag character": ("\U000e0041", "\\U000e0041"),
    "private use": ("\ue000", "\\ue000"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE.keys())
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert on_one_line(f"a{text}z") == f"a{shown}z"
    assert on_lines(f"a\n\t{text}z") == f"a\n\t{shown}z"
    for ascii_only in (False, True):
        written = json_text({text: [f"a{text}"]}, ascii_only=ascii_only)
        assert json.loads(written) == {text: [f"a{text}"]}
        assert written == on_one_line(written)


def test_visible_characters_are_unchanged() -> None:
    assert on_one_line(VISIBLE) == on_lines(VISIBLE) == VISIBLE
    assert json_text(VISIBLE) == f'"{VISIBLE}"'
    assert json_text(VISIBLE, ascii_only=True).isascii()
    assert on_one_line("a\nb\tc\r") == "a\\x0ab\\x09c\\x0d"
    assert on_lines("a\nb\tc\r") == "a\nb\tc\\x0d"
    assert on_one_line(on_one_line("\x1b")) == "\\x1b"


def test_every_unicode_character_is_visible_or_escaped() -> None:
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = on_one_line(everything)
    assert not {unicodedata.category(one) for one in set(shown)} & hidden
    assert json.loads(json_text(everything[:0xD800])) == everything[:0xD800]
    assert on_one_line(json_text(everything)) == json_text(everything)


def test_a_log_record_is_escaped_and_its_traceback_keeps_its_lines() -> None:
    formatter = EscapingFormatter("%(name)s: %(message)s")
    try:
        raise ValueError("\x1b]0;title\a")
    except ValueError:
        record = logging.LogRecord(
            "peer", logging.WARNING, __file__, 1, "%s is odd", ("\x9b1m",), sys.exc_info()
        )
    lines = formatter.format(record).splitlines()
    assert lines[0] == "peer: \\x9b1m is odd"
    assert lines[-1] == "ValueError: \\x1b]0;title\\x07"


def test_json_rejects_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"))
