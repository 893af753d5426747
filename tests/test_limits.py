"""Every bound is defined in a module `limits`, except numbers that a format or protocol fixes.

A bound is recognized by its name, for example `_MAX` or `_SECONDS`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("peer", "iam", "device_app", "client_app")
BOUND = re.compile(
    r"(^|_)(MAX|MAXIMUM|MIN|MOST|LEAST|LIMIT|LIMITS|SECONDS|MILLISECONDS|MINUTES|HOURS|DAYS|BYTES"
    r"|CHARACTERS|BURST|TRIES|RETRIES|ATTEMPTS|COUNT|DEPTH|PAGE|KEPT|SIZE|LENGTH|TIMEOUT|RATE)(_|$)"
)

_SIZE: Final = "the size of a field of the wire format"
FIXED: Final = {
    # Sizes fixed by a format, an algorithm or the operating system.
    "client_app:_DEFAULT_MAX_AGE": "RFC 7252 §5.10.5",
    "client_app:_PORT_MAX": "RFC 9293",
    "client_app:_TUNNEL_ID_BYTES": _SIZE,
    "device_app:KEY_BYTES": "AES-256",
    "device_app:MADE_RANDOM_BYTES": "20 symbols of 5 bits",
    "device_app:_ARRAY_HEAD_BYTES": "RFC 8949 §3",
    "device_app:_CEREMONY_ID_BYTES": _SIZE,
    "device_app:_ID_BYTES": _SIZE,
    "device_app:_LEAST_EVENT_BYTES": "two digests, which every event has",
    "device_app:_NONCE_BYTES": "NIST SP 800-38D §5.2.1.1",
    "device_app:_PORT_MAX": "RFC 768",
    "iam:NUMBER_MAX": "the digits that an IEEE 754 double holds exactly",
    "iam:RANK_MAX": "one below the rank of guest",
    "iam:RECEIPT_BYTES": "SHA-256",
    "peer:BUFFER_BYTES": "the largest netlink message that the kernel sends",
    "peer:EKM_BYTES": _SIZE,
    "peer:FINGERPRINT_BYTES": "SHA-256",
    "peer:FLIGHT_OVERHEAD_BYTES": _SIZE,
    "peer:HEADER_BYTES": "RFC 6347 §4.1, RFC 7252 §3",
    "peer:HOP_LIMIT": "RFC 5082 §3",
    "peer:ID_BYTES": _SIZE,
    "peer:MASTER_KEY_BYTES": _SIZE,
    "peer:NONCE_BYTES": _SIZE,
    "peer:PIN_BYTES": "SHA-256",
    "peer:POINT_BYTES": "SEC 1 §2.3.3 for P-256",
    "peer:ROUND_ONE_BYTES": _SIZE,
    "peer:SCALAR_BYTES": "P-256",
    "peer:SEAL_NONCE_BYTES": "NIST SP 800-38D §5.2.1.1",
    "peer:SIGNATURE_BYTES": "RFC 9053 §2.1 for P-256",
    "peer:SIGNED_MAX": "the capacity of a QR code 13-L",
    "peer:STRETCHED_BYTES": _SIZE,
    "peer:TAG_BYTES": _SIZE,
    "peer:TOKEN_BYTES": _SIZE,
    "peer:TUNNEL_ID_BYTES": _SIZE,
    "peer:WINDOW_ID_BYTES": _SIZE,
    "peer:_CBOR_LENGTH_BYTES": "RFC 8949 §3",
    "peer:_CONNECTION_ID_BYTES": "RFC 9000 §17.2",
    "peer:_COOKIE_BYTES": "BLAKE2s",
    "peer:_COUNTER_BYTES": _SIZE,
    "peer:_DEPTH": "the depth of a message of the wire format",
    "peer:_DIGEST_BYTES": "a key of stored answers, not a bound",
    "peer:_EXPORTER_BYTES": _SIZE,
    "peer:_HANDSHAKE_HEADER_BYTES": "RFC 6347 §4.2.2",
    "peer:_HELLO_BYTES": "the buffer of DTLSv1_listen in OpenSSL",
    "peer:_LABEL_BYTES": "RFC 1035 §2.3.4",
    "peer:_LENGTH_BYTES": _SIZE,
    "peer:_ID_LENGTH_AT": "RFC 8999 §5.1",
    "peer:_KEY_BYTES": "AES-256",
    "peer:_LEAST_QUIET": "the margin of a QR code on a screen",
    "peer:_MAX_FRAGMENT": "RFC 6347 §4.1",
    "peer:_MOST_NUMBER": "RFC 7252 §12.2",
    "peer:_MOST_TOKEN_BYTES": "RFC 7252 §3",
    "peer:_NUMBER_BYTES": _SIZE,
    "peer:_PATH_KEY_BYTES": "AES-128",
    "peer:_RANDOM_BYTES": "RFC 5246 §7.4.1.2",
    "peer:_READ_BYTES": "more than the largest datagram (RFC 768)",
    "peer:_RECORD_BYTES": "RFC 6347 §4.1",
    "peer:_SCALAR_BYTES": "P-256",
    "peer:_TAG_BYTES": "RFC 9175 §3.2",
    "peer:_TOPIC_BYTES": _SIZE,
    "peer:_URI_PATH_BYTES": "RFC 7252 §5.10",
    # Rules of the protocol that are not configurable.
    "device_app:CLEARING_SECONDS": "protocol §5.12",
    "device_app:RECOVERY_SECONDS": "protocol §5.12",
    # Units, estimates and intervals, which are not bounds.
    "client_app:_LOCK_POLL_SECONDS": "an interval",
    "client_app:_POLL_SECONDS": "an interval",
    "device_app:_TICK_SECONDS": "the interval of a countdown",
    "peer:LONGEST_SECONDS": "the range of the notation of times",
    "peer:_ENTRY_BYTES": "an estimate of memory",
    "peer:_HELD_SECONDS": "a delay of the simulated network",
    "peer:_LINE_BYTES": "one read from a terminal",
}
"""Numbers outside of `limits`, by "PACKAGE:NAME", and what each is or what fixes it."""


def is_number(node: ast.expr) -> bool:
    """Whether an expression is a number or consists only of numbers."""
    match node:
        case ast.Constant(value=value):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ast.UnaryOp(operand=operand):
            return is_number(operand)
        case ast.BinOp(left=left, right=right):
            return is_number(left) and is_number(right)
        case _:
            return False


def bounds_of(source: str) -> Iterator[str]:
    """The constants of a module and its classes that are numbers and have the name of a bound."""
    tree = ast.parse(source)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for statement in [*tree.body, *(inner for one in classes for inner in one.body)]:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        if name.isupper() and BOUND.search(name) and is_number(value):
            yield name


def found() -> set[str]:
    """Every bound outside of the modules `limits`, as "PACKAGE:NAME"."""
    return {
        f"{package}:{name}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "limits.py"
        for name in bounds_of(path.read_text())
    }


def test_every_bound_is_in_a_module_of_limits() -> None:
    assert sorted(found() - FIXED.keys()) == []


def test_every_exception_is_still_needed() -> None:
    assert sorted(FIXED.keys() - found()) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_defines_its_limits(package: str) -> None:
    assert [*bounds_of((ROOT / package / "limits.py").read_text())]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("USERS_MAX = 3", ["USERS_MAX"]),
        ("_IDLE_SECONDS: Final = -2.5 * 60", ["_IDLE_SECONDS"]),
        ("class Cache:\n    PAGE_BYTES = 1 << 20", ["PAGE_BYTES"]),
        ("USERS_MAX = OTHER", []),
        ("PORT = 5684\nIS_MAX = True\nmax_users = 3\nMAXIM = 4", []),
        ("def f() -> None:\n    USERS_MAX = 3", []),
    ],
)
def test_bounds_are_found_by_their_names(source: str, names: list[str]) -> None:
    assert [*bounds_of(source)] == names


def unbounded_caches(source: str) -> Iterator[str]:
    """The functions whose results are all remembered, although they have arguments."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for one in map(ast.unparse, node.decorator_list):
            if "cached_property" in one or not re.search(r"\b(lru_cache|cache)\b", one):
                continue
            if ast.unparse(node.args) and not re.search(r"maxsize=[A-Z][A-Z_]+\b", one):
                yield node.name


def test_every_cache_of_a_function_is_bounded_by_a_limit() -> None:
    assert [
        f"{path.relative_to(ROOT)}: {name}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in unbounded_caches(path.read_text())
    ] == []


@pytest.mark.parametrize(
    ("decorator", "is_bounded"),
    [
        ("@cache", False),
        ("@functools.cache", False),
        ("@lru_cache", False),
        ("@lru_cache(maxsize=None)", False),
        ("@lru_cache(maxsize=10**9)", False),
        ("@functools.lru_cache(maxsize=NAMES_MAX)", True),
        ("@cached_property", True),
        ("@click.command", True),
    ],
)
def test_caches_without_a_bound_are_found(decorator: str, *, is_bounded: bool) -> None:
    assert [*unbounded_caches(f"{decorator}\ndef f(x): ...")] == ([] if is_bounded else ["f"])
    assert [*unbounded_caches(f"{decorator}\ndef f(): ...")] == []
