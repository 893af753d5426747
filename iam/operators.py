"""The operators of conditions: how they parse numbers, times and addresses, and compare them.

Parsing is strict: a text that programs read in different ways is a vulnerability. Numbers
are decimal digits with an optional sign and fraction, and compare exactly; a truth value is `true`
or `false`; a time has a zone or is seconds since 1970. An IPv4-mapped IPv6 address
(`::ffff:192.0.2.1`) is that IPv4 address, and a network of one family contains no address of the
other.
"""

from __future__ import annotations

import operator as relations
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from iam.limits import TEXTS_REMEMBERED


class Operator(StrEnum):
    """The operators, as policy files write them."""

    STRING_EQUALS = "StringEquals"
    STRING_NOT_EQUALS = "StringNotEquals"
    STRING_LIKE = "StringLike"
    STRING_NOT_LIKE = "StringNotLike"
    NUMERIC_EQUALS = "NumericEquals"
    NUMERIC_NOT_EQUALS = "NumericNotEquals"
    NUMERIC_LESS_THAN = "NumericLessThan"
    NUMERIC_LESS_THAN_EQUALS = "NumericLessThanEquals"
    NUMERIC_GREATER_THAN = "NumericGreaterThan"
    NUMERIC_GREATER_THAN_EQUALS = "NumericGreaterThanEquals"
    BOOL = "Bool"
    IP_ADDRESS = "IpAddress"
    NOT_IP_ADDRESS = "NotIpAddress"
    DATE_EQUALS = "DateEquals"
    DATE_NOT_EQUALS = "DateNotEquals"
    DATE_LESS_THAN = "DateLessThan"
    DATE_LESS_THAN_EQUALS = "DateLessThanEquals"
    DATE_GREATER_THAN = "DateGreaterThan"
    DATE_GREATER_THAN_EQUALS = "DateGreaterThanEquals"


Value = str | Decimal | IPv4Address | IPv6Address
Test = Callable[[Any], bool]  # takes only the values of its kind: a check would cost each decision
_Reader = Callable[[str], Value | None]  # None for a text that is not of the operator's kind
_Relation = Callable[[Value, Value], bool]


# ------------------------------------------------------------------------- texts of each kind

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")


def _text(text: str) -> str:
    return text


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _truth(text: str) -> str | None:
    return text if text in ("true", "false") else None


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _moment(text: str) -> Decimal | None:
    """Seconds since 1970, from such a number or from a date and time of RFC 3339."""
    if _SECONDS.fullmatch(text):
        return Decimal(text)
    if (found := _DATE.fullmatch(text)) is None:
        return None
    *parts, fraction, sign, hours, minutes = found.groups()
    try:
        whole = (datetime(*map(int, parts), tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)  # type: ignore[misc,arg-type]
    except ValueError:  # the 30th of February
        return None
    if sign:
        ahead = int(hours) * 3600 + int(minutes) * 60
        whole += ahead if sign == "-" else -ahead
    return whole + Decimal(f"0{fraction or ''}")


@lru_cache(maxsize=TEXTS_REMEMBERED)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    if "%" in text:
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _network(text: str) -> IPv4Network | IPv6Network | None:
    _, slash, prefix = text.partition("/")
    if "%" in text or (slash and not _PREFIX.fullmatch(prefix)):
        return None
    try:
        found = ip_network(text)
    except ValueError:
        return None
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped is not None and found.prefixlen >= 96:
        return IPv4Network((mapped, found.prefixlen - 96))
    return found


# ----------------------------------------------------------------------- tests of each operator


@dataclass(frozen=True, slots=True)
class Kind:
    """How an operator parses the attribute's text, a literal value, and the text of `${…}`.

    A text that is not of the kind is None. `negative`: it holds where the comparison does not.
    """

    read: _Reader
    literal: Callable[[str], Test | None]
    other: Callable[[str], Test | None]
    example: str
    negative: bool = False


def _compared(read: _Reader, relation: _Relation) -> Callable[[str], Test | None]:
    def test_of(text: str) -> Test | None:
        bound = read(text)
        return None if bound is None else lambda value: relation(value, bound)

    return test_of


def _within(text: str) -> Test | None:
    network = _network(text)
    return None if network is None else lambda address: address in network


def _like(pattern: str) -> Test:
    """Compile a pattern: `*` is any text, `?` any one character.

    The text between two `*` matches at its first occurrence only (an atomic group), so no
    pattern can cause backtracking.
    """

    def piece(text: str) -> str:
        return "".join("." if symbol == "?" else re.escape(symbol) for symbol in text)

    first, *rest = map(piece, pattern.split("*"))
    if rest:
        *middle, last = rest
        first += "".join(f"(?>.*?{one})" for one in middle if one) + f".*{last}"
    compiled = re.compile(first, re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


def _kind(read: _Reader, relation: _Relation, example: str, **more: bool) -> Kind:
    test_of = _compared(read, relation)
    return Kind(read, test_of, test_of, example, **more)


def _kinds() -> Mapping[Operator, Kind]:
    same = _compared(_text, relations.eq)
    kinds = {
        Operator.STRING_EQUALS: Kind(_text, same, same, "text"),
        Operator.STRING_NOT_EQUALS: Kind(_text, same, same, "text", negative=True),
        Operator.STRING_LIKE: Kind(_text, _like, same, "text"),
        Operator.STRING_NOT_LIKE: Kind(_text, _like, same, "text", negative=True),
        Operator.BOOL: _kind(_truth, relations.eq, "true or false"),
    }
    network = "an address, or a network such as 192.168.1.0/24"
    kinds[Operator.IP_ADDRESS] = Kind(_address, _within, _within, network)
    kinds[Operator.NOT_IP_ADDRESS] = Kind(_address, _within, _within, network, negative=True)
    for family, read, example in (
        ("Numeric", _number, "a number such as 42 or 42.3"),
        ("Date", _moment, "a time with a zone, such as 2030-01-31T12:00:00Z"),
    ):
        for name, relation in (
            ("Equals", relations.eq),
            ("LessThan", relations.lt),
            ("LessThanEquals", relations.le),
            ("GreaterThan", relations.gt),
            ("GreaterThanEquals", relations.ge),
        ):
            kinds[Operator(family + name)] = _kind(read, relation, example)
        opposite = _kind(read, relations.eq, example, negative=True)
        kinds[Operator(f"{family}NotEquals")] = opposite
    return kinds


KINDS: Final = _kinds()
NEGATIVE: Final = frozenset(one for one, kind in KINDS.items() if kind.negative)
