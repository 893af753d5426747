"""Suggestions for a word that is not known: the verb that a person probably meant."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

_NO_SYNONYMS: Final[Mapping[str, str]] = MappingProxyType({})


def did_you_mean(
    word: str, known: Iterable[str], synonyms: Mapping[str, str] = _NO_SYNONYMS
) -> str:
    """Return a question with the known words that are like `word`, or ''.

    Args:
        word: what a person typed.
        known: the words that exist.
        synonyms: words that other programs use, each with one of `known`.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only an error needs it

    plain = word.casefold()
    names = list(known)
    found = get_close_matches(plain, names, n=3, cutoff=0.6)
    if plain in synonyms:
        found = [synonyms[plain], *(one for one in found if one != synonyms[plain])]
    if not found:
        found = [one for one in names if len(plain) > 1 and one.startswith(plain)]
    if not found:
        return ""
    quoted = [f"`{one}`" for one in found[:3]]
    return f"Did you mean {' or '.join(quoted)}?"
