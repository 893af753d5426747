"""The daemon's settings: `device.toml`, then `device.d/*.toml` in order of their names.

Strict: an unknown key, a wrong type or a value that makes no sense is an error that names file and
line. A later file wins key by key. Options of the command line win over both.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_app.errors import ConfigError
from device_app.pairing.methods import Hardware
from device_app.pairing.terms import PairingTerms
from iam.limits import DEFAULT_IAM_LIMITS, IamLimits
from peer.errors import Malformed, UsageError
from peer.files import read_regular
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.onlink import LocalMode
from peer.pairing.ceremony import OverlapRule
from peer.pairing.methods import Method
from peer.pairing.names import check_name
from peer.terminal.durations import parse_duration

COAPS_PORT, PAIRING_PORT = 5684, 5685
_FILE_BYTES = 1 << 20  # of one file


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this device runs. Ports: 0 is any. Times in seconds.

    `interfaces`: where mDNS announces the device (names or own addresses; None: every link).
    `public`: HOST or HOST:PORT where others find it from outside, told in invites.
    `local_interfaces`: links whose neighbours may pair, whatever their kind. `origin`: setting →
    "file:line", for errors that are found only later. `ccm8`: also offer AES-128-CCM-8.
    """

    name: str = ""
    listen: tuple[str, ...] = ("::",)
    port: int = COAPS_PORT
    pairing_port: int = PAIRING_PORT
    interfaces: tuple[str, ...] | None = None
    advertise: bool = True
    public: tuple[str, ...] = ()
    local: LocalMode = LocalMode.STRICT
    local_interfaces: tuple[str, ...] = ()
    allow_loopback: bool = False
    ccm8: bool = False
    terms: PairingTerms = field(default_factory=PairingTerms)
    hardware: Hardware = field(default_factory=Hardware)
    modules: tuple[str, ...] = ()
    limits: Limits = DEFAULT_LIMITS
    iam_limits: IamLimits = DEFAULT_IAM_LIMITS
    origin: Mapping[str, str] = field(default_factory=dict, compare=False)

    def require_role(self, roles: Collection[str]) -> None:
        """A window gives a known role, not `unpaired`. Raises `ConfigError`."""
        role = self.terms.role
        if role is None or (role in roles and role != "unpaired"):
            return
        raise ConfigError(
            f"{self.origin.get('pairing.role', 'pairing.role')}: there is no role {role!r} to give",
            advice=f"Known roles: {', '.join(sorted(set(roles) - {'unpaired'}))}.",
        )


class _Wrong(Exception):
    """A value does not fit; the message says what would."""


def _is_name(value: object) -> str:
    try:
        return check_name(value)
    except Malformed as error:
        raise _Wrong(f"{error}. {error.advice}") from error


def _is_port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise _Wrong("has to be a port: 0 (any) to 65535")
    return value


def _is_text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong("has to be text")
    return value


def _is_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("has to be true or false")
    return value


def _is_texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise _Wrong("has to be a list of text")
    return tuple(value)


def _is_addresses(value: object) -> tuple[str, ...]:
    found = _is_texts(value)
    if not found:
        raise _Wrong('has to name one address at least, for example ["::"]')
    return found


def _is_places(value: object) -> tuple[str, ...]:
    found = _is_texts(value)
    for text in found:
        place = _PLACE.fullmatch(text)
        if place is None or not 0 < int(place[1] or 1) <= 65535:
            raise _Wrong('has to be a list such as ["home.example:5684", "[2001:db8::1]"]')
    return found


def _is_methods(value: object) -> tuple[str, ...]:
    found = _is_texts(value)
    if not found or set(found) - set(Method):
        raise _Wrong(f"has to be a list of: {', '.join(Method)}")
    return found


def _is_seconds(value: object) -> float:
    if isinstance(value, str):
        try:
            value = parse_duration(value)
        except UsageError as error:
            raise _Wrong(f"{error}. {error.advice}") from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise _Wrong('has to be a time, for example 120 or "2m"')
    return float(value)


def _one_of(words: Iterable[str]) -> Callable[[object], str]:
    known = tuple(words)

    def check(value: object) -> str:
        if value not in known:
            raise _Wrong(f"has to be one of: {', '.join(known)}")
        return str(value)

    return check


_KEYS: Mapping[str, Callable[[object], Any]] = {
    "name": _is_name,
    "network.listen": _is_addresses,
    "network.port": _is_port,
    "network.pairing_port": _is_port,
    "network.interfaces": _is_texts,
    "network.advertise": _is_flag,
    "network.public": _is_places,
    "network.local": lambda value: LocalMode(_one_of(LocalMode)(value)),
    "network.local_interfaces": _is_texts,
    "network.allow_loopback": _is_flag,
    "network.ccm8": _is_flag,
    "pairing.role": _is_text,
    "pairing.methods": _is_methods,
    "pairing.seconds": _is_seconds,
    "pairing.overlap": lambda value: OverlapRule(_one_of(OverlapRule)(value)),
    "board.display": _is_flag,
    "board.label": _is_flag,
    "board.button": _is_flag,
    "resources.modules": _is_texts,
}
_TABLES = {key.partition(".")[0] for key in _KEYS if "." in key}
_PLACE = re.compile(r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_ASSIGNED = re.compile(r"\s*([A-Za-z0-9_\-\"'. ]+?)\s*=")


def load(files: Iterable[Path]) -> Settings:
    """Read the files. Raises `ConfigError`."""
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for path in files:
        for key, (value, place) in _read(path).items():
            values[key], origin[key] = value, place
    return settings_of(values, origin)


def settings_of(values: Mapping[str, Any], origin: Mapping[str, str]) -> Settings:
    """Settings of checked values by their full key."""
    tables: dict[str, dict[str, Any]] = {"pairing": {}, "board": {}}
    others: dict[str, Any] = {}
    for key, value in values.items():
        table, _, name = key.rpartition(".")
        tables.get(table, others)[name] = value
    return Settings(
        terms=PairingTerms(**tables["pairing"]),
        hardware=Hardware(**tables["board"]),
        origin=dict(origin),
        **others,
    )


def _read(path: Path) -> dict[str, tuple[Any, str]]:
    try:
        text = read_regular(path, _FILE_BYTES).decode()
        content = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", advice="Correct that line.") from error
    except RecursionError:  # tomllib recurses as deep as its input is nested
        raise ConfigError(
            f"{path}: something in it is nested too deep", advice="No setting is nested."
        ) from None
    lines = _lines(text)
    found = {}
    for key, value in _flat(content):
        place = f"{path}:{lines.get(key, _nearest(lines, key))}"
        check = _KEYS.get(key)
        if check is None:
            raise ConfigError(
                f"{place}: there is no setting {key!r}",
                advice=f"Known settings: {', '.join(sorted(_KEYS))}.",
            )
        try:
            found[key] = (check(value), place)
        except _Wrong as error:
            raise ConfigError(f"{place}: {key} {error}", advice="Correct that line.") from error
    return found


def _flat(content: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and key in _TABLES:
            yield from ((f"{key}.{inner}", found) for inner, found in value.items())
        else:
            yield key, value


def _lines(text: str) -> dict[str, int]:
    """Full key → the line it is set on, and table → its header's line. tomllib does not tell."""
    table, found = "", {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _bare(header[1])
            found[table] = number
        elif assigned := _ASSIGNED.match(line):
            key = _bare(assigned[1])
            found.setdefault(f"{table}.{key}" if table else key, number)
    return found


def _bare(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _nearest(lines: Mapping[str, int], key: str) -> int:
    """The line of something below the key, or of its table: for inline and nested tables."""
    below = [number for known, number in lines.items() if known.startswith(f"{key}.")]
    return min(below, default=lines.get(key.partition(".")[0], 1))


TEMPLATE = """\
# handfast-device: the settings of this device, all optional. A commented line shows the default.
# More files may stand in device.d/*.toml beside this one; a later one wins.

# What people call this device. Never identity: that is its fingerprint.
name = {name}

[network]
# listen = ["::"]                 # addresses to listen on; "::" is IPv6 and IPv4
# port = 5684                     # CoAP over DTLS for paired clients; 0 = any
# pairing_port = 5685             # open only while the pairing window is; 0 = any
# interfaces = ["eth0"]           # where mDNS announces the device; default: every link
# advertise = true                # announce it at all
# public = []                     # HOST or HOST:PORT from outside, for the invites to tell
# local = "strict"                # "compat" lets stock CoAP clients pair, which send TTL 64
# local_interfaces = []           # links that count as local whatever their kind, for example the
                                  # interface of a container that its host bridges to the LAN
# allow_loopback = false          # demo and tests only
# ccm8 = false                    # also the suite of RFC 7252 with an 8-byte tag, for small peers

[pairing]
# role = "guest"                  # for everybody who pairs; default: owner first, then guest
# methods = ["code", "sas"]       # default: all that the board can do
# seconds = "2m"                  # how long a window is open
# overlap = "refuse"              # two clients in one window: refuse both, or "first-wins"

[board]
# display = true                  # digits and codes can be shown: a screen, or a terminal
# label = true                    # what `handfast-device label` printed is on the board
# button = false                  # `handfast-device press` is called when it is pressed

[resources]
# modules = ["my_board.lamp"]     # Python modules with resources of your own; the folder
                                  # "modules" beside this file is searched first
"""
