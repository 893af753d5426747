"""User names: which texts are valid (protocol §5.2).

Users read and type a name, and it is a segment of a path (`/iam/users/{name}`). So a name is in
NFC and has 1 to 64 characters: letters, digits and combining marks of any script, with `-`, `_` and
single spaces (U+0020) inside. It has no other spaces, dots, separators, control characters,
bidirectional controls, joiners, private-use or unassigned code points, and no other invisible
characters. Letters of different scripts that look alike are not detected: the identity of a user is
the fingerprint, never the name.
"""

import re

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS, MAX_NAME_MARKS_IN_A_ROW
from peer.pasted import INVISIBLE

_ADVICE = (
    "Use 1 to 64 letters and digits, with -, _ or single spaces inside; for example: Anna Maria."
)
_URI_PATH_BYTES = 255  # the longest Uri-Path segment (RFC 7252 §5.10)
_JOINERS = "-_ "
_PLAIN = re.compile(r"[A-Za-z0-9](?:(?:[A-Za-z0-9_-]| (?! ))*[A-Za-z0-9])?")  # of ASCII, and valid

_WORDS = {
    "Cc": "a control character",
    "Cf": "an invisible or direction-changing character",
    "Cs": "half a character (a surrogate)",
    "Co": "a private-use character",
    "Cn": "an unassigned character",
    "Zs": "a space other than the usual one",
    "Zl": "a line break",
    "Zp": "a line break",
}


def check_name(text: object, *, limit: int = DEFAULT_LIMITS.name_max) -> str:
    """Return the name in NFC. Raises `Malformed` with the reason if it is not valid.

    `limit` is in characters after NFC.
    """
    if not isinstance(text, str):
        raise _malformed("the name is missing or is not text")
    # The cost of NFC grows with the text, and it makes at least one code point of four.
    if len(text) > 4 * limit:
        raise _malformed(f"the name is longer than {limit} characters")
    if len(text) <= min(limit, _URI_PATH_BYTES) and _PLAIN.fullmatch(text):
        return text
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    name = unicodedata.normalize("NFC", text)
    if not name:
        raise _malformed("the name is empty")
    if len(name) > limit:
        raise _malformed(f"the name is longer than {limit} characters")
    _check_characters(name)
    if len(name.encode()) > _URI_PATH_BYTES:
        raise _malformed(f"the name is longer than {_URI_PATH_BYTES} bytes in UTF-8")
    return name


def default_name(fingerprint: Fingerprint) -> str:
    """Return the name of a client that gave none: `client-` and the device ID of its key."""
    return f"client-{fingerprint.device_id.lower()}"


def _check_characters(name: str) -> None:
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    marks = 0
    for character in name:
        category = unicodedata.category(character)
        is_mark = category in {"Mn", "Mc"}
        marks = marks + 1 if is_mark else 0
        if character in INVISIBLE:
            raise _malformed("the name contains an invisible character")
        if not (category[0] == "L" or category == "Nd" or is_mark or character in _JOINERS):
            raise _malformed(f"the name contains {_WORDS.get(category, 'a symbol or a separator')}")
        if marks > MAX_NAME_MARKS_IN_A_ROW:
            raise _malformed("the name contains too many accents in a row")
    if "  " in name:
        raise _malformed("the name contains two spaces in a row")
    if unicodedata.category(name[0])[0] == "M" or name[0] in _JOINERS or name[-1] in _JOINERS:
        raise _malformed("the name does not begin and end with a letter or a digit")


def _malformed(what: str) -> Malformed:
    return Malformed(what, advice=_ADVICE)
