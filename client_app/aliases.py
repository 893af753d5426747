"""Aliases of paired devices."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath
from typing import Final, Protocol

from client_app.limits import ID_SYMBOLS_LEAST
from peer.errors import UsageError
from peer.fingerprint import Fingerprint
from peer.pasted import compact, crockford

_ALIAS: Final = re.compile(r"\w([\w.-]{0,62}\w)?")


_READ_SUFFIXES: Final = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp")
_PHOTO_SUFFIXES: Final = (
    ".heic",
    ".heif",
    ".hif",
    ".avif",
    ".tif",
    ".tiff",
    ".jxl",
    ".jp2",
    ".dng",
)
_DRAWING_SUFFIXES: Final = (".svg", ".svgz", ".pdf", ".eps", ".ps", ".psd", ".ico")
PICTURE_SUFFIXES: Final = frozenset((*_READ_SUFFIXES, *_PHOTO_SUFFIXES, *_DRAWING_SUFFIXES))
"""File name suffixes of pictures, in lower case, of kinds that are read or only recognized."""

# Dotted numbers, also in the forms of inet_aton(3), such as 127.1 and 0x7f.1.
_IP_FORM: Final = re.compile(r"(?:0[xX][0-9a-fA-F]+|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]+|[0-9]+))+")


class KeyHolder(Protocol):
    """A paired device, as far as an alias can be mistaken for it."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Its key."""


def check_alias(text: str) -> str:
    """Return the alias in NFC: 1 to 64 letters, digits or `_`, with `-` and `.` inside.

    Raises `UsageError`.
    """
    alias = unicodedata.normalize("NFC", text)
    if not _ALIAS.fullmatch(alias):
        raise UsageError(
            f"{text!r} is not a valid alias",
            advice="Use 1 to 64 letters and digits, with -, _ or . inside; for example: kitchen.",
        )
    return alias


def check_new_alias(text: str, key: Fingerprint, others: Iterable[KeyHolder]) -> str:
    """Return the alias in NFC if it can be mistaken for nothing else. Raises `UsageError`.

    A command takes an alias, a device ID, a fingerprint, an address or the path of a picture. An
    alias that looks like one of these would name another device than the user means.

    Args:
        text: the alias.
        key: the key of the device that gets it, whose own ID it may be.
        others: the paired devices.
    """
    alias = check_alias(text)
    if _IP_FORM.fullmatch(alias):
        raise _confusing(alias, "an IP address")
    if PurePath(alias).suffix.lower() in PICTURE_SUFFIXES:
        raise _confusing(alias, "the file name of a picture")
    check_no_id(alias, key, others)
    return alias


def same_alias(text: str, aliases: Iterable[str]) -> str | None:
    """Return the alias that a text names: the same one, else the only one that differs in case."""
    known = set(aliases)
    plain = unicodedata.normalize("NFC", text)
    if plain in known:
        return plain
    folded = [one for one in known if one.casefold() == plain.casefold()]
    return folded[0] if len(folded) == 1 else None


def check_no_id(alias: str, key: Fingerprint, others: Iterable[KeyHolder]) -> None:
    """Raise `UsageError` if an alias is the ID or fingerprint of another device, or its start."""
    symbols, digits = crockford(alias), compact(alias).lower()
    if len(symbols) < ID_SYMBOLS_LEAST:
        return
    for other in (one.fingerprint for one in others if one.fingerprint != key):
        if other.device_id.startswith(symbols) or other.hex.startswith(digits):
            raise _confusing(alias, f"the ID of another paired device, {other.device_id}")


def unmistakable_alias(alias: str, key: Fingerprint, others: Iterable[KeyHolder]) -> str:
    """Return a derived alias, with the device ID added if it could be mistaken."""
    try:
        return check_new_alias(alias, key, others)
    except UsageError:
        return f"{alias[:48]}-{key.device_id.lower()}"


def _confusing(alias: str, what: str) -> UsageError:
    return UsageError(
        f"{alias!r} cannot be an alias: it would look like {what}",
        advice="Choose another alias; for example: kitchen.",
    )


def alias_for(name: str, device_id: str) -> str:
    """Derive an alias from the name of a device, or from its ID if the name has no usable part."""
    plain = unicodedata.normalize("NFC", name)[:64]
    word = re.sub(r"[^\w.]+", "-", plain).strip("-._").lower()
    return word if _ALIAS.fullmatch(word) else device_id.lower()


def alias_taken(alias: str) -> UsageError:
    """The error for an alias that another device has."""
    return UsageError(
        f"{alias!r} is the alias of another device",
        advice=f"Choose another alias (--as), or run `handfast rename {alias} NEW` first.",
    )
