"""The daemon's settings: `device.toml`, then `device.d/*.toml` in order of their names.

Parsing is strict: an unknown key, a wrong type or a value out of range is an error that names file
and line. A later file overrides an earlier one key by key. Options of the command line override
both.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from device_app.errors import READ_ADVICE, ConfigError
from device_app.limits import CONFIG_FILE_BYTES
from device_app.pairing.hardware import Hardware
from device_app.pairing.terms import PairingTerms
from device_app.settings import checks, limits, remote, tunnel
from device_app.settings.limits import LIMIT_SETTINGS
from device_app.settings.remote import RemoteOptions
from device_app.settings.tunnel import TunnelOptions
from iam import toml_nodes
from iam.errors import PolicyFileError
from iam.limits import DEFAULT_IAM_LIMITS, IamLimits
from iam.toml_nodes import TomlNode
from peer.errors import Malformed
from peer.files import read_text
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.locality_verdict import LocalMode
from peer.pairing.ceremony import OverlapRule

COAPS_PORT, PAIRING_PORT = 5684, 5685


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this device runs. Port 0 is any port; times are in seconds.

    Attributes:
        interfaces: where mDNS announces the device (names or own addresses); None is every link.
        public: HOST or HOST:PORT at which clients elsewhere reach the device; invites contain it.
        local_interfaces: links whose neighbours may pair, whatever the kind of the link.
        ccm8: also offer AES-128-CCM-8.
        values: what the files set, by full key such as `network.port`.
        origin: "FILE:LINE" by full key, for errors that are found only later.
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
    remote: RemoteOptions = field(default_factory=RemoteOptions)
    tunnel: TunnelOptions = field(default_factory=TunnelOptions)
    limits: Limits = DEFAULT_LIMITS
    iam_limits: IamLimits = DEFAULT_IAM_LIMITS
    values: Mapping[str, object] = field(default_factory=dict, compare=False)
    origin: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def display_name(self) -> str:
        """Name of this device for people."""
        return self.name or "device"

    def require_role(self, roles: Collection[str]) -> None:
        """Raise `ConfigError` unless the role of `[pairing]` is one that a user can have."""
        role = self.terms.role
        if role is None or (role in roles and role != "unpaired"):
            return
        raise ConfigError(
            f"{self.origin.get('pairing.role', 'pairing.role')}: no role {role!r} for users",
            advice=f"Known roles: {', '.join(sorted(set(roles) - {'unpaired'}))}.",
        )


CHECKS: Final[Mapping[str, Callable[[object], object]]] = MappingProxyType(
    {
        "name": checks.name,
        "network.listen": checks.addresses,
        "network.port": checks.port,
        "network.pairing_port": checks.port,
        "network.interfaces": checks.texts,
        "network.advertise": checks.flag,
        "network.public": checks.hosts,
        "network.local": checks.member(LocalMode),
        "network.local_interfaces": checks.texts,
        "network.allow_loopback": checks.flag,
        "network.ccm8": checks.flag,
        "pairing.role": checks.text,
        "pairing.methods": checks.methods,
        "pairing.seconds": checks.seconds,
        "pairing.overlap": checks.member(OverlapRule),
        "board.display": checks.flag,
        "board.label": checks.flag,
        "board.button": checks.flag,
        "resources.modules": checks.texts,
        "remote.brokers": remote.broker_urls,
        "remote.broker_pin": remote.pins,
        "remote.username": remote.username,
        "remote.password_file": checks.text,
        "remote.prefix": remote.prefix,
        "remote.stun": remote.stun_servers,
        "remote.turn": remote.turn_urls,
        "remote.turn_username": remote.username,
        "remote.turn_password_file": checks.text,
        "remote.turn_pin": remote.pins,
        "remote.relay": checks.flag,
        "tunnel.services": tunnel.services,
        **{f"limits.{name}": checks.limit(one) for name, one in LIMIT_SETTINGS.items()},
    }
)
"""All settings by key, each with the function that checks its value."""
_TABLES: Final = frozenset(key.partition(".")[0] for key in CHECKS if "." in key)


def load(files: Iterable[Path]) -> Settings:
    """Read the files. Raises `ConfigError`."""
    values: dict[str, object] = {}
    origin: dict[str, str] = {}
    for path in files:
        for key, node in _read(path):
            values[key], origin[key] = _checked(key, node), str(node)
    return _settings(values, origin)


def changed_keys(old: Settings, new: Settings) -> list[str]:
    """Return the keys that the files set differently, sorted."""
    keys = old.values.keys() | new.values.keys()
    return sorted(key for key in keys if old.values.get(key) != new.values.get(key))


def _settings(values: dict[str, object], origin: dict[str, str]) -> Settings:
    tables: dict[str, dict[str, Any]] = {
        "pairing": {},
        "board": {},
        "limits": {},
        "remote": {},
        "tunnel": {},
    }
    others: dict[str, Any] = {}
    for key, value in values.items():
        table, _, name = key.rpartition(".")
        tables.get(table, others)[name] = value
    for name, why in limits.contradictions(tables["limits"]):
        raise _error(origin[f"limits.{name}"], f"limits.{name} {why}")
    peer_limits, iam_limits = limits.with_values(
        DEFAULT_LIMITS, DEFAULT_IAM_LIMITS, tables["limits"]
    )
    terms = PairingTerms(**tables["pairing"])
    if terms.seconds > peer_limits.window_max_seconds:
        key = "pairing.seconds" if "pairing.seconds" in origin else "limits.window_max_seconds"
        most = f"limits.window_max_seconds, {peer_limits.window_max_seconds:.12g}"
        raise _error(origin[key], f"pairing.seconds is {terms.seconds:.12g}, more than {most}")
    options = RemoteOptions(**tables["remote"])
    for name, why in remote.contradictions(options, tables["remote"]):
        raise _error(origin[f"remote.{name}"], f"remote.{name} {why}")
    return Settings(
        terms=terms,
        hardware=Hardware(**tables["board"]),
        remote=options,
        tunnel=TunnelOptions(**tables["tunnel"]),
        limits=peer_limits,
        iam_limits=iam_limits,
        values=values,
        origin=origin,
        **others,
    )


def _error(place: str, why: str) -> ConfigError:
    return ConfigError(f"{place}: {why}", advice="Correct that line.")


def _read(path: Path) -> Iterator[tuple[str, TomlNode]]:
    """Yield each setting of a file with its value."""
    try:
        text = read_text(path, CONFIG_FILE_BYTES)
        content = toml_nodes.read(text, file=str(path)).table("the file")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            raise ConfigError(
                f"{path}: cannot be read: it is a link to nothing",
                advice="Create the file that it names, or remove the link to use the defaults.",
            ) from error
        message = f"{path}: cannot be read: {error.strerror}"
        raise ConfigError(message, advice=READ_ADVICE) from error
    except Malformed as error:
        raise ConfigError(f"{path}: {error}", advice=error.advice) from error
    except PolicyFileError as error:
        raise ConfigError(str(error), advice=error.advice) from error
    for name, node in content.items():
        if name in _TABLES and isinstance(node.value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in node.value.items())
        else:
            yield name, node


def _similar_settings(key: str) -> str:
    """The settings of the same table; the tables if there is none of that name."""
    table, dot, _ = key.rpartition(".")
    found = sorted(one for one in CHECKS if one.startswith(f"{table}{dot}")) if table else []
    if found:
        return (
            f"Settings of [{table}]: {', '.join(one.removeprefix(f'{table}.') for one in found)}."
        )
    return f"Settings are `name`, and those of {', '.join(f'[{one}]' for one in sorted(_TABLES))}."


def _checked(key: str, node: TomlNode) -> object:
    if (check := CHECKS.get(key)) is None:
        if key in _TABLES:
            raise _error(str(node), f"{key} has to be a table: write its settings below [{key}]")
        raise ConfigError(
            f"{node}: there is no setting {key!r}",
            advice=_similar_settings(key),
        )
    try:
        return check(node.plain())
    except checks.InvalidSetting as error:
        raise _error(str(node), f"{key} {error}") from error


_TEMPLATE = """\
# handfast-device: the settings of this device, all optional. A commented line shows the default.
# Files in device.d/*.toml beside this one are read after it; a later file wins.

# The name of this device for people. Its identity is its fingerprint.
name = {name}

[network]
# listen = ["::"]                 # addresses to listen on; "::" is IPv6 and IPv4
# port = 5684                     # CoAP over DTLS for paired clients; 0 = any
# pairing_port = 5685             # open only while the pairing window is; 0 = any
# interfaces = ["eth0"]           # where mDNS announces the device; default: every link
# advertise = true                # announce it at all
# public = []                     # HOST or HOST:PORT from outside, added to invites
# local = "strict"                # "compat" lets stock CoAP clients pair, which send TTL 64
# local_interfaces = []           # links that count as local whatever their kind, for example the
                                  # interface of a container that its host bridges to the LAN
# allow_loopback = false          # demo and tests only
# ccm8 = false                    # also the suite of RFC 7252 with an 8-byte tag, for small peers

[pairing]
# role = "guest"                  # for every user who pairs; default: owner first, then guest
# methods = ["code", "sas"]       # default: every method that the board supports
# seconds = "2m"                  # how long a window is open
# overlap = "refuse"              # two clients in one window: refuse both, or "first-wins"

[board]
# display = true                  # digits and codes can be shown: a screen, or a terminal
# label = true                    # what `handfast-device label` printed is on the board
# button = false                  # `handfast-device press` is called when it is pressed

[resources]
# modules = ["my_board.lamp"]     # Python modules with resources of your own; the folder
                                  # "modules" beside this file is searched first

[remote]                          # reach the device from other networks; off without a broker
# brokers = ["mqtts://broker.example"]  # MQTT brokers over TLS, or wss:// (MQTT over WebSocket)
# broker_pin = []                 # SHA-256 of the broker's public key, 64 hex digits; default: its
                                  # certificate is verified with the authorities of the system
# username = "kitchen"            # the account at the broker
# password_file = "broker.password"  # its password is the first line of this file, mode 0600
# prefix = "hf1/kitchen"          # of the topics; default: hf1/ and the username
# stun = ["relay.example"]        # STUN servers, HOST or HOST:PORT
# turn = ["turn:relay.example"]   # TURN servers (relays), also turns: (over TLS)
# turn_username = "kitchen"       # the account at the TURN servers
# turn_password_file = "turn.password"
# turn_pin = []                   # of a turns: server, as broker_pin
# relay = true                    # use the TURN servers

[tunnel.services]                 # TCP services that users reach with `handfast tunnel`
# ssh = "127.0.0.1:22"            # NAME = "HOST:PORT"; clients see the name only

[limits]
{limits}"""


def template(name: str) -> str:
    """Return a commented `device.toml` for a device of this name, in which nothing else is set."""
    limits = (
        f"# {f'{one.name} = {one.default:.12g}':<32}# {one.meaning}; {one.bounds}\n"
        for one in LIMIT_SETTINGS.values()
    )
    return _TEMPLATE.format(name=json.dumps(name, ensure_ascii=False), limits="".join(limits))
