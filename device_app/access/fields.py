"""Fields of a request body, as CBOR and JSON have them. A wrong one raises `Malformed`."""

from collections.abc import Collection, Mapping
from math import isfinite

from device_app.limits import LABEL_CHARACTERS_MAX
from peer.errors import Malformed
from peer.identity import Fingerprint

_LATEST = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second that a date can be written for


def refuse_unknown(body: Mapping[str, object], known: Collection[str]) -> None:
    """Refuse a body with a field that is not known."""
    for field in body:
        if field not in known:
            raise Malformed(
                f"there is no field {str(field)[:40]!r} here",
                advice=f"Known fields: {', '.join(sorted(known))}.",
            )


def wrong_field(field: str, expected: str) -> Malformed:
    """The error for a field that is missing or of the wrong kind."""
    return Malformed(
        f"{field} is missing or is not {expected}", advice=f"Give {field} as {expected}."
    )


def text_field(body: Mapping[str, object], field: str) -> str:
    """A text that must not be empty."""
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise wrong_field(field, "text")
    return value


def label_field(body: Mapping[str, object], field: str) -> str:
    """A short text for people, without characters that control a terminal; empty if absent."""
    value = body.get(field)
    if value is None:
        return ""
    # `isprintable` is false for controls, bidirectional marks and characters of private use.
    if not isinstance(value, str) or len(value) > LABEL_CHARACTERS_MAX or not value.isprintable():
        raise wrong_field(field, f"printable text of at most {LABEL_CHARACTERS_MAX} characters")
    return value


def duration_field(body: Mapping[str, object], field: str) -> float | None:
    """A number of seconds above 0, or None if absent."""
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LATEST:
        raise wrong_field(field, "a number of seconds above 0")
    return float(value)


def time_field(body: Mapping[str, object], field: str) -> float | None:
    """A time in seconds since 1970, or None if absent."""
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_field(field, "seconds since 1970")
    if abs(value) > _LATEST or not isfinite(value):  # an integer can exceed the range of a float
        raise wrong_field(field, "seconds since 1970")
    return float(value)


def fingerprint_untrusted(value: object) -> str:
    """The canonical form of a fingerprint in any spelling: 64 lower-case hex digits."""
    if not isinstance(value, str):
        raise wrong_field("fingerprint", "text of 64 hex digits")
    return Fingerprint.parse(value).hex
