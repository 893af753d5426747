"""Normalization of what people type, paste or pipe: codes, digits, fingerprints, labels, invites.

On its way through mail, chat, a word processor or another system's pipe, a text gains characters
that no user typed: dashes become en dashes, blanks become no-break spaces, digits become fullwidth
forms, and a byte order mark, a soft hyphen or a direction mark comes in. `compact` removes them
before anything is counted or decoded. None of the removed characters is a symbol of the texts that
it is used for, so a removal never turns one value into another.

Names, roles, paths and bodies are not normalized here: in these, every character counts.
"""

import codecs
import re
import string
from typing import Final

INVISIBLE: Final = frozenset(
    map(
        chr,
        [
            0x034F,  # combining grapheme joiner
            *(0x115F, 0x1160, 0x3164, 0xFFA0),  # Hangul fillers
            *(0x17B4, 0x17B5),  # Khmer inherent vowels
            *(0x180B, 0x180C, 0x180D, 0x180F),  # Mongolian variation selectors
            *range(0xFE00, 0xFE10),  # variation selectors
            *range(0xE0100, 0xE01F0),  # and their supplement
        ],
    )
)
"""Invisible letters and marks (Default_Ignorable_Code_Point of Unicode) outside category Cf."""

_TERMINAL_CODES: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colours, a bracketed paste
_BRACKETS: Final = frozenset({"Ps", "Pe"})
_PUNCTUATION: Final = frozenset(",;!?|<>\\~_\0\N{IDEOGRAPHIC COMMA}")
# Dashes; blanks and line breaks; format characters such as U+FEFF and U+200B; quotation marks.
_DROPPED_CATEGORIES: Final = frozenset({"Pd", "Zs", "Zl", "Zp", "Cf", "Pi", "Pf"})
_CONTROLS: Final = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\x1a"  # blanks, and the DOS end of a file
_DASHES: Final = "\N{MINUS SIGN}\N{KATAKANA-HIRAGANA PROLONGED SOUND MARK}\N{HYPHEN BULLET}"
_DOTS: Final = ".\N{MIDDLE DOT}\N{BULLET}\N{HYPHENATION POINT}\N{BULLET OPERATOR}\N{DOT OPERATOR}"
_IDEOGRAPHIC: Final = "\N{IDEOGRAPHIC FULL STOP}\N{KATAKANA MIDDLE DOT}\N{BRAILLE PATTERN BLANK}"
_QUOTES: Final = "'\"`\N{ACUTE ACCENT}\N{PRIME}\N{DOUBLE PRIME}\N{MODIFIER LETTER APOSTROPHE}"
_LOW_QUOTES: Final = "\N{SINGLE LOW-9 QUOTATION MARK}\N{DOUBLE LOW-9 QUOTATION MARK}"
_DROPPED: Final = INVISIBLE | set(
    _CONTROLS + _DASHES + _DOTS + _IDEOGRAPHIC + _QUOTES + _LOW_QUOTES
)
_UPPER: Final = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_MISREAD: Final = str.maketrans("OIL", "011")  # letters that Crockford base32 does not have


def compact(text: str, *, also: str = "") -> str:
    """Return the symbols of a text in NFKC, with its ASCII letters in upper case.

    Dashes, blanks, line breaks, invisible characters, punctuation, brackets, quotation marks and
    the control sequences of terminals are removed, and the characters of `also`. The case of
    letters outside ASCII is kept, because a change could turn them into ASCII letters or into two
    letters.
    """
    text = _TERMINAL_CODES.sub("", text)
    plain = _without(_nfkc(_without(text, also)), also)
    return plain.translate(_UPPER)


def crockford(text: str) -> str:
    """Return `compact` for a text in Crockford base32: O is read as 0, and I and L as 1."""
    return compact(text).translate(_MISREAD)


def uri(text: str) -> str:
    """Return a URI in NFKC, without blanks, quotation marks and invisible characters.

    A dash of any kind becomes `-`, since a URI contains dashes; letters keep their case.
    """
    plain = "".join("-" if _is_dash(one) else one for one in _nfkc(text))
    return "".join(one for one in plain if one in "-." or not _is_dropped(one))


def in_words(text: str) -> str:
    """Return a text in NFKC, for what has words: a time, for example.

    A dash of any kind becomes `-` and a blank a space; invisible characters are removed.
    """
    plain = (one for one in _nfkc(text) if one not in INVISIBLE and _category(one) != "Cf")
    return "".join("-" if _is_dash(one) else " " if one.isspace() else one for one in plain)


def first_other(text: str, symbols: str) -> str:
    """Return a name, for an error, of the first character that is not in `symbols`; else ''."""
    other = next((one for one in text if one not in symbols), "")
    if not other or (other.isascii() and other.isprintable()):
        return other and repr(other)
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    return f"U+{ord(other):04X} ({unicodedata.name(other, 'without a name')})"


def decode_pasted(data: bytes) -> str:
    """Decode what a pipe or a file contains: UTF-8 or, with its byte order mark, UTF-16.

    Bytes that do not decode become U+FFFD, which no code and no invite contains.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.removeprefix(codecs.BOM_UTF8).decode(errors="replace")


def _nfkc(text: str) -> str:
    if text.isascii():
        return text
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    return unicodedata.normalize("NFKC", text)


def _category(character: str) -> str:
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    return unicodedata.category(character)


def _without(text: str, also: str) -> str:
    return "".join(one for one in text if not (_is_punctuation(one) or one in also))


def _is_punctuation(character: str) -> bool:
    """Whether no text that `compact` is used for contains the character."""
    return character in _PUNCTUATION or _category(character) in _BRACKETS or _is_dropped(character)


def _is_dropped(character: str) -> bool:
    return character in _DROPPED or _category(character) in _DROPPED_CATEGORIES


def _is_dash(character: str) -> bool:
    return character in _DASHES or _category(character) == "Pd"
