"""Check rows of users and keys block by block, and write them as the texts of `iam.rights`.

A function of Python that is called for each value of 100,000 rows takes most of a start. So the
values of a column are checked together, and a text that many rows have is checked once. The result
is that of the constructors of `iam.values` and of `iam.restored_rows` for each row: a block that
has one row which they reject is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import starmap
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any, Final

from iam.limits import NAME_CHARACTERS_MAX
from iam.restored_rows import COLUMN_TYPES, check_name
from iam.values import FINGERPRINT_DIGITS, INVITE_ID, RECEIPT_BYTES

Block = Sequence[tuple[Any, ...]]
_PLAIN_NAMES: Final = re.compile(r"(?:[A-Za-z0-9_-]+(?: [A-Za-z0-9_-]+)*\n)*")
_HEX: Final = re.compile("[0-9a-f]*")


def key_texts(block: Block) -> list[str]:
    """Return the texts of rows of the table of keys. Raises ValueError if one is invalid."""
    columns = _columns("key", block)
    fingerprints, owners, names, methods, verified, added, invites, receipts = columns
    _check_fingerprints(fingerprints)
    shared = {*names, *methods}
    _check_shown(shared)
    _require({*verified} <= {0, 1})
    _require(all(map(isfinite, added)))
    invited = {*invites}
    _require(all(map(INVITE_ID.fullmatch, invited - {""})))
    _require({*map(len, receipts)} <= {0, RECEIPT_BYTES})
    quoted = _quoted(shared | invited)
    return [
        f'["key","{fingerprint}",{owner},{quoted[name]},{quoted[method]}'
        f',{is_verified},{at!r},{quoted[invite]},"{receipt.hex()}"]'
        for fingerprint, owner, name, method, is_verified, at, invite, receipt in zip(
            fingerprints,
            map(encode_basestring_ascii, owners),
            names,
            methods,
            verified,
            added,
            invites,
            receipts,
            strict=True,
        )
    ]


def user_texts(block: Block) -> list[str]:
    """Return the texts of rows of the table of users. Raises ValueError if one is invalid."""
    names, roles, display_names, starts, ends, created = _columns("user", block)
    check_names(names)
    shared = {*roles, *display_names}
    _check_shown(shared)
    _require("" not in {*roles})
    _require(all(map(isfinite, created)))
    if {*starts} != {None} or {*ends} != {None}:
        _require(all(starmap(_is_period, zip(starts, ends, strict=True))))
    quoted = _quoted(shared)
    return [
        f'["user",{name},{quoted[role]},{quoted[display_name]},{_json(start)},{_json(end)},{at!r}]'
        for name, role, display_name, start, end, at in zip(
            map(encode_basestring_ascii, names),
            roles,
            display_names,
            starts,
            ends,
            created,
            strict=True,
        )
    ]


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError unless each is a name that a user can be given."""
    _check_length(names)
    joined = "".join([f"{name}\n" for name in names])
    # A plain name has no line break, so a match has one name on each line.
    if joined.count("\n") != len(names) or not _PLAIN_NAMES.fullmatch(joined):
        for name in names:
            check_name(name)


def _columns(kind: str, block: Block) -> tuple[tuple[Any, ...], ...]:
    """The columns of rows that have exactly the types of their columns, and no others."""
    columns = tuple(zip(*block, strict=True))
    _require(
        all(
            {*map(type, column)} <= types
            for column, types in zip(columns, COLUMN_TYPES[kind], strict=True)
        )
    )
    return columns


def _check_fingerprints(texts: Sequence[str]) -> None:
    _require({*map(len, texts)} == {FINGERPRINT_DIGITS} and bool(_HEX.fullmatch("".join(texts))))


def _check_shown(texts: Iterable[str]) -> None:
    """Check texts that a terminal shows as they are; a surrogate is not printable, either."""
    _check_length(texts)
    _require("".join(texts).isprintable())


def _check_length(texts: Iterable[str]) -> None:
    _require(max(map(len, texts)) <= NAME_CHARACTERS_MAX)


def _is_period(start: float | None, end: float | None) -> bool:
    """Whether both are points in time, as far as they are given, and in this order."""
    if start is None:
        return end is None or isfinite(end)
    return isfinite(start) and (end is None or (isfinite(end) and start < end))


def _require(is_valid: bool) -> None:
    if not is_valid:
        raise ValueError("a row is not as this version writes it")


def _quoted(texts: set[str]) -> dict[str, str]:
    return {text: encode_basestring_ascii(text) for text in texts}


def _json(time: float | None) -> str:
    return "null" if time is None else repr(time)
