"""Internationalized host names: their form in the DNS (IDNA, RFC 3490).

Python's codec implements IDNA 2003. It differs from IDNA 2008 (RFC 5891) in four characters, which
it maps to others or removes: a name with one of them can belong to two hosts. Such a name is
refused, and its ASCII form says which one is meant.
"""

import re
from typing import Final

from peer.errors import Malformed

_DEVIATIONS: Final = {
    "\N{LATIN SMALL LETTER SHARP S}",
    "\N{LATIN CAPITAL LETTER SHARP S}",
    "\N{GREEK SMALL LETTER FINAL SIGMA}",
    "\N{ZERO WIDTH NON-JOINER}",
    "\N{ZERO WIDTH JOINER}",
}
_DOTS: Final = "\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH FULL STOP}\N{HALFWIDTH IDEOGRAPHIC FULL STOP}"

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*{_LABEL}\.?")
_HOST_AND_PORT: Final = re.compile(
    r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}(?:%[\w.-]{1,16})?\]):(\d{1,5})", re.ASCII
)


def is_host_name(text: str) -> bool:
    """Whether a text has the form of a host name in ASCII (RFC 1123 §2.1), or of an IPv4 address.

    Underscores are accepted, since networks have hosts with such names.
    """
    return _NAME.fullmatch(text) is not None


def is_host_and_port(text: str) -> bool:
    """Whether a text has the form of a host and a port: `name:5684`, `[fe80::1%eth0]:5684`."""
    found = _HOST_AND_PORT.fullmatch(text)
    return found is not None and 0 < int(found[1]) <= 65535


def ascii_host(name: str) -> str:
    """Return a host name in its ASCII form: `bücher.example` is `xn--bcher-kva.example`.

    A name in ASCII is returned as it is. Raises `Malformed` if there is no such form.
    """
    if name.isascii():
        return name
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    why = "it contains a character that IDNA does not allow"
    if set(name) & _DEVIATIONS:
        why = "it contains a character that two versions of IDNA read differently"
    elif all(map(_is_allowed, unicodedata.normalize("NFKC", name))):
        try:
            return name.encode("idna").decode("ascii")
        except UnicodeError:
            pass
    raise Malformed(
        f"{name!r} is not a host name: {why}",
        advice="Give its ASCII form, which starts with xn--, or the IP address.",
    )


def _is_allowed(character: str) -> bool:
    """Whether a name may contain it: of other characters than ASCII, letters, marks and digits.

    IDNA 2003 also allows symbols, such as one that looks like a slash.
    """
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    category = unicodedata.category(character)
    return character.isascii() or character in _DOTS or category[0] in "LM" or category == "Nd"
