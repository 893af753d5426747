"""The armoured text form of labels and invites, for scanning, pasting and typing (protocol §5).

    HANDFAST:<kind>:<field>:<field>…<check symbol>

All symbols are QR alphanumerics (ISO/IEC 18004 §7.4.4: 5.5 bits per symbol instead of 8), so the
text is in upper case. Readers accept lower case, and remove what `peer.pasted` names and what mail
and chat programs add: words in front, another paragraph, escapes of HTML, URLs and mail. The kind
is one digit or letter: `1` is a label, `I` an invite. Fields are Crockford base32, which has no I,
L, O or U; in a field, readers accept O for 0, and I or L for 1.

The check symbol detects every single wrong symbol and every swap of two neighbours, itself
included, and 36 of 37 other errors. Like Crockford's, it is a remainder modulo the prime 37, but it
runs over the whole text: total ← 2·total + value, from the kind on, is 1 mod 37 at the end. The
symbol at distance i from the end counts 2^i mod 37, which is never 0, so a single error shows.
Neighbours count differently, so a swap shows. 2 generates all 36 powers, so a swap over a distance
of up to 35 symbols shows as well. The end is 1, because after a 0 an additional `0` would not show.

The 37 values are the 32 digits and five more symbols. `:` is one of them, because the check runs
over the separators as well. The other four occur only as check symbols: `U`, `%`, `+` and `/`. No
shell expands any of them, so a text needs no quotation marks. Crockford's `~` and `=` are not QR
alphanumerics. Of the remaining QR alphanumerics, a blank is invisible, and `-` and `.` get lost at
the end of a line. Older texts have `*` for `:` and `$` for `U`, with the same values; readers take
these too.
"""

import base64
import binascii
import re
from collections.abc import Iterator

from peer import pasted
from peer.errors import Malformed
from peer.identity import CROCKFORD
from peer.limits import MAX_ARMOURED_SYMBOLS

LABEL = "1"
INVITE = "I"

_PREFIX = "HANDFAST:"
_SEPARATOR = ":"
_WORDS = {LABEL: "a label", INVITE: "an invite"}
_SYMBOLS = CROCKFORD + _SEPARATOR + "U%+/"
_OLD_SYMBOLS = str.maketrans("*$", ":U")  # a shell expands these unless they are quoted
_VALUES = {symbol: value for value, symbol in enumerate(_SYMBOLS)}
_MODULUS = len(_SYMBOLS)  # 37, a prime
_LABEL_SYMBOLS = 89  # device ID, fingerprint, token, two separators, check symbol
_END = 1  # the total of a whole text
_SHAPE = re.compile(r"HANDFAST:([0-9A-Z]):(.+)")
_SOFT_BREAK = re.compile(r"=[ \t]*\r?\n")  # of a quoted-printable mail (RFC 2045 §6.7)
_ESCAPED = re.compile(r"[=%](2A|3A)", re.IGNORECASE)  # `*` and `:` in such a mail, or in a URL
_IS_ESCAPED = re.compile(r"HANDFAST(?::|[=%]3A)[0-9A-Z][=%](2|3)A", re.IGNORECASE)
_STARS = str.maketrans(
    dict.fromkeys("\N{ASTERISK OPERATOR}\N{LOW ASTERISK}\N{HEAVY ASTERISK}", "*")
)
_EMPTY_LINE = re.compile(r"\r?\n[\s>|]*\r?\n")
_EMPHASIS = re.compile(r"(\*+)HANDFAST:")
_INSIDE = re.compile(r"HANDFAST:[0-9A-Z][:*]")
_MISREAD = str.maketrans("OIL", "011")

_RFC4648 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_WRITE = bytes.maketrans(_RFC4648, CROCKFORD.encode())
_READ = bytes.maketrans(CROCKFORD.encode(), _RFC4648)

_TYPING = "Compare it with the original, or scan the QR code instead."


def armour_fields(kind: str, *fields: str) -> str:
    """Return the text of these fields, which are Crockford base32 (see `base32`)."""
    body = _SEPARATOR.join(fields)
    check = _SYMBOLS[(_END - 2 * _total(kind, body)) % _MODULUS]
    return f"{_PREFIX}{kind}{_SEPARATOR}{body}{check}"


def is_armoured(text: str) -> bool:
    """Return whether the user meant such a text; it may still contain errors."""
    return _plain(text[:MAX_ARMOURED_SYMBOLS]).startswith(_PREFIX)


def begins_armoured(text: str) -> bool:
    """Return whether such a text begins right at the start, with no other words in front."""
    return _symbols(text[:MAX_ARMOURED_SYMBOLS]).startswith(_PREFIX)


def kind_untrusted(text: object) -> str:
    """Return the kind, `LABEL` or `INVITE`. Raises `Malformed` as `fields_untrusted` does."""
    return _parts_untrusted(text)[0]


def fields_untrusted(text: object, *, kind: str, count: int) -> tuple[str, ...]:
    """Return the `count` fields of a text of this kind, with misread letters corrected.

    Raises `Malformed`; its message tells a typing error from a text of another kind or version.
    """
    found, fields = _parts_untrusted(text)
    if found != kind:
        raise Malformed(
            f"this is {_WORDS[found]}, not {_WORDS[kind]}", advice=f"Give {_WORDS[kind]} instead."
        )
    if len(fields) != count:
        raise _of_another_version(_WORDS[kind])
    return fields


def base32(data: bytes) -> str:
    """Encode in Crockford base32: most significant bit first, zero bits at the end, no padding."""
    return base64.b32encode(data).rstrip(b"=").translate(_WRITE).decode()


def base32_untrusted(text: str) -> bytes:
    """Decode a field. Raises `Malformed` unless `base32` returns exactly this text."""
    try:
        letters = text.encode("ascii").translate(_READ) + b"=" * (-len(text) % 8)
        data = base64.b32decode(letters)
    except (UnicodeEncodeError, binascii.Error):
        data = b""
    if base32(data) != text:
        raise _mistyped("a part has the wrong length or contains a wrong character")
    return data


def _parts_untrusted(text: object) -> tuple[str, tuple[str, ...]]:
    if not isinstance(text, str):
        raise _foreign("this is not text")
    if len(text) > MAX_ARMOURED_SYMBOLS:
        raise _foreign("the text is too long")
    failure: Malformed | None = None
    for one in _readings(text):
        try:
            return _parts(one)
        except Malformed as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _readings(text: str) -> Iterator[str]:
    """Yield the symbols of a text, then without what may follow it in a message.

    What follows is another paragraph, or the end of an emphasis (`**`) of Markdown.
    """
    whole = _plain(text)
    yield whole
    paragraphs = map(_plain, _EMPTY_LINE.split(text))
    paragraph = next((one for one in paragraphs if one.startswith(_PREFIX)), whole)
    if paragraph != whole:
        yield paragraph
    if emphasis := _EMPHASIS.search(_symbols(text)):
        yield paragraph.removesuffix(emphasis[1])


def _parts(plain: str) -> tuple[str, tuple[str, ...]]:
    if not plain.startswith(_PREFIX):
        raise _foreign("the text is neither a label nor an invite")
    shape = _SHAPE.fullmatch(plain.translate(_OLD_SYMBOLS))
    if shape is None:
        raise _mistyped("it is truncated, or its start is wrong")
    kind, rest = shape[1], shape[2].translate(_MISREAD)
    if not set(rest) <= _VALUES.keys():
        other = pasted.first_other(rest, "".join(_VALUES))
        raise _mistyped(f"it contains {other}, which is not allowed")
    if _total(kind, rest) != _END:
        counted = f"{len(rest)} symbols follow the kind"
        if kind == LABEL and len(rest) != _LABEL_SYMBOLS:
            counted += f", and a label has {_LABEL_SYMBOLS}"
        raise _mistyped(f"a character is wrong or missing, or two are swapped ({counted})")
    if kind not in _WORDS:
        raise _of_another_version("a text")
    return kind, tuple(rest[:-1].split(_SEPARATOR))


def _plain(text: str) -> str:
    """Return the symbols, without what a mail or a chat adds, also before them."""
    plain = _symbols(text)
    inside = None if plain.startswith(_PREFIX) else _INSIDE.search(plain)
    return plain if inside is None else plain[inside.start() :]


def _symbols(text: str) -> str:
    """Return the symbols of the text and of what precedes it."""
    import html  # noqa: PLC0415 - its table of entities takes 0.5 MB

    text = _SOFT_BREAK.sub("", html.unescape(text))
    if _IS_ESCAPED.search(text):
        text = _ESCAPED.sub(lambda found: bytes.fromhex(found[1]).decode(), text)
    return pasted.compact(text.translate(_STARS))


def _total(kind: str, symbols: str) -> int:
    """Return the running total, mod 37, of the kind and the symbols after its separator."""
    total = int(kind, 36)
    for symbol in symbols:
        total = (2 * total + _VALUES[symbol]) % _MODULUS
    return total


def _foreign(what: str) -> Malformed:
    return Malformed(
        what, advice=f"A label starts with {_PREFIX}{LABEL}:, an invite with {_PREFIX}{INVITE}:."
    )


def _mistyped(what: str) -> Malformed:
    return Malformed(f"the text contains an error: {what}", advice=_TYPING)


def _of_another_version(what: str) -> Malformed:
    return Malformed(
        f"this is {what} in a format that this version of handfast does not support",
        advice="It was created by a newer version. Update handfast.",
    )
