"""Checks of configuration values: each function returns the value in its internal form."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from device_app.limits import SETTING_SECONDS_MAX
from device_app.settings.limits import LimitSetting, Unit
from peer.errors import Malformed, UsageError
from peer.host_names import ascii_host, is_host_name
from peer.pairing.methods import Method
from peer.pairing.names import check_name
from peer.terminal.durations import parse_duration

_HOST_PORT = re.compile(r"(?:([^:\[\]]+)|\[([^\[\]%]+)\])(?::([0-9]{1,5}))?")
_PORT_MAX = 65_535  # UDP, RFC 768
_Member = TypeVar("_Member", bound=StrEnum)


class InvalidSetting(Exception):
    """A value is not valid; the message continues "SETTING …" and says what would be valid."""


def name(value: object) -> str:
    """Return the name of a device."""
    try:
        return check_name(value)
    except Malformed as error:
        raise InvalidSetting(f"is not a valid name: {error}. {error.advice}") from error


def port(value: object) -> int:
    """Return a UDP port; 0 is any."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _PORT_MAX:
        raise InvalidSetting(f"has to be a port: 0 (any) to {_PORT_MAX}")
    return value


def text(value: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise InvalidSetting("has to be text")
    return value


def flag(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise InvalidSetting("has to be true or false")
    return value


def texts(value: object) -> tuple[str, ...]:
    """Return a list of texts that are not empty."""
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise InvalidSetting("has to be a list of text")
    return tuple(value)


def addresses(value: object) -> tuple[str, ...]:
    """Return at least one address."""
    found = texts(value)
    if not found:
        raise InvalidSetting('has to name one address at least, for example ["::"]')
    return found


def hosts(value: object) -> tuple[str, ...]:
    """Return a list of HOST or HOST:PORT; internationalized names become ASCII."""
    try:
        found = tuple(map(_ascii, texts(value)))
    except Malformed as error:
        raise InvalidSetting(f"is not valid: {error}. {error.advice}") from error
    for one in found:
        match = _HOST_PORT.fullmatch(one)
        if (
            match is None
            or not _is_host(match[1], match[2])
            or not 0 < int(match[3] or 1) <= _PORT_MAX
        ):
            raise InvalidSetting('has to be a list such as ["home.example:5684", "[2001:db8::1]"]')
    return found


def _is_host(name: str | None, ipv6: str | None) -> bool:
    if name is not None:
        return is_host_name(name)
    try:
        ipaddress.IPv6Address(ipv6 or "")
    except ValueError:
        return False
    return True


def _ascii(text: str) -> str:
    host, colon, port = text.partition(":")  # an IPv6 address is ASCII
    return f"{ascii_host(host)}{colon}{port}"


def methods(value: object) -> tuple[str, ...]:
    """Return at least one pairing method."""
    found = texts(value)
    if not found or set(found) - set(Method):
        raise InvalidSetting(f"has to be a list of: {', '.join(Method)}")
    return found


def seconds(value: object) -> float:
    """Return a time in seconds, from a number or from a text such as "2m"."""
    if isinstance(value, str):
        try:
            value = parse_duration(value)
        except UsageError as error:
            raise InvalidSetting(f"{error}. {error.advice}") from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_time(value):
        raise InvalidSetting('has to be a time, for example 120 or "2m"')
    return float(value)


def _is_time(value: float) -> bool:
    return 0 < value < SETTING_SECONDS_MAX


def member(kind: type[_Member]) -> Callable[[object], _Member]:
    """Return a check for one of the values of this enum."""

    def check(value: object) -> _Member:
        if not isinstance(value, str) or value not in {*kind}:
            raise InvalidSetting(f"has to be one of: {', '.join(kind)}")
        return kind(value)

    return check


def limit(setting: LimitSetting) -> Callable[[object], float]:
    """Return a check for the range of this limit."""

    def check(value: object) -> float:
        if setting.unit is Unit.SECONDS:
            value = seconds(value)
        is_number = isinstance(value, int if setting.is_whole else int | float)
        if isinstance(value, bool) or not is_number or not isinstance(value, int | float):
            raise InvalidSetting(f"has to be {setting.range}")
        if not setting.least <= value <= setting.most:
            raise InvalidSetting(f"is {value:.12g}, and has to be {setting.range}")
        return value if setting.is_whole else float(value)

    return check
