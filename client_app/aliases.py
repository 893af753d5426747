"""Aliases of paired devices."""

import re
import unicodedata
from typing import Final

from peer.errors import UsageError

_ALIAS: Final = re.compile(r"\w([\w.-]{0,62}\w)?")


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
