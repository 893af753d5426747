"""The remote settings of a client: how it reaches its device from another network (protocol §10.1).

They are the body of GET /remote.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from peer import cbor
from peer.errors import Malformed
from peer.host_names import is_host_and_port
from peer.remote.limits import (
    MAX_PREFIX_CHARS,
    MAX_REVISION,
    MAX_SERVER_PASSWORD_CHARS,
    MAX_SERVER_URL_CHARS,
    MAX_SERVERS,
    MAX_SETTINGS_BYTES,
    MAX_USERNAME_CHARS,
    PAIR_SECRET_BYTES,
)
from peer.remote.messages import is_address
from peer.secret import Secret

PIN_BYTES = 32
BROKER_SCHEMES: Final = ("mqtts", "wss")
TURN_SCHEMES: Final = ("turn", "turns")

_NO_PASSWORD: Final = Secret("")
_UNKNOWN_REVISION: Final = -1
_DEFAULT_PORTS: Final = {"mqtts": 8883, "wss": 443, "turn": 3478, "turns": 5349}
_URL: Final = re.compile(
    r"(?P<scheme>mqtts://|wss://|turns?:)"
    r"(?P<host>[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>\d{1,5}))?"
    r"(?P<path>/[\x21-\x7e]*)?(?:\?transport=(?P<transport>udp|tcp))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """The parts of a server's URL.

    Attributes:
        scheme: `mqtts`, `wss`, `turn` or `turns`.
        host: a name or an IP address, without brackets.
        port: the port, or the default of the scheme.
        path: of a `wss` URL, "/" at least; otherwise empty.
        transport: of a TURN URL, `udp` or `tcp`; otherwise empty. `turns` is always over TCP.
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    transport: str = ""

    def __str__(self) -> str:
        """Return "host:port", with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Server:
    """A broker or a TURN server, with an account. Raises `Malformed` for an invalid value.

    Attributes:
        url: `mqtts://host[:port]` or `wss://host[:port][/path]` of a broker;
            `turn:host[:port][?transport=udp|tcp]` or `turns:host[:port]` of a TURN server
            (RFC 7065).
        username: the account; empty for none.
        password: its password.
        pin: SHA-256 of the SubjectPublicKeyInfo of the server's certificate; empty: the server's
            name is verified with the certificate authorities of the system.
    """

    url: str
    username: str = ""
    password: Secret[str] = _NO_PASSWORD
    pin: bytes = b""

    def __post_init__(self) -> None:
        _parse_url(self.url)
        if not _is_text(self.username, MAX_USERNAME_CHARS):
            raise _malformed("have an invalid user name of a server")
        if not _is_text(self.password.reveal(), MAX_SERVER_PASSWORD_CHARS):
            raise _malformed("have an invalid password of a server")
        if self.pin and len(self.pin) != PIN_BYTES:
            raise _malformed("have a pin of another length than 32 bytes")

    @property
    def address(self) -> ServerAddress:
        """The parts of the URL."""
        return _parse_url(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """The remote settings of one client key. Raises `Malformed` for an invalid value.

    Attributes:
        secret: the pair secret, 32 bytes.
        prefix: the first levels of all topics, such as `hf1/alice`.
        brokers: the brokers at which the device listens, 1 to 4.
        stun: STUN servers as "host:port", up to 4.
        turn: TURN servers, up to 4.
        revision: the first 32 bits of SHA-256 over the encoding of the other members. A challenge
            has the device's, so a client learns that its settings are old.
    """

    secret: Secret[bytes]
    prefix: str
    brokers: tuple[Server, ...]
    stun: tuple[str, ...] = ()
    turn: tuple[Server, ...] = ()
    revision: int = field(default=_UNKNOWN_REVISION, compare=False)

    def __post_init__(self) -> None:
        if len(self.secret.reveal()) != PAIR_SECRET_BYTES:
            raise _malformed("have a secret of another length than 32 bytes")
        if not is_prefix(self.prefix):
            raise _malformed("have an invalid prefix")
        if not self.brokers or max(map(len, (self.brokers, self.stun, self.turn))) > MAX_SERVERS:
            raise _malformed("have no broker, or too many servers")
        if not all(one.address.scheme in BROKER_SCHEMES for one in self.brokers):
            raise _malformed("have a broker whose URL is not mqtts:// or wss://")
        if not all(one.address.scheme in TURN_SCHEMES for one in self.turn):
            raise _malformed("have a TURN server whose URL is not turn: or turns:")
        if not all(map(is_address, self.stun)):
            raise _malformed("have an invalid STUN server")
        if self.revision == _UNKNOWN_REVISION:
            object.__setattr__(self, "revision", _revision(_fields(self)))

    def encode(self) -> bytes:
        """Return the body of GET /remote, with the secret and the passwords."""
        return cbor.encode({**_fields(self), "revision": self.revision})

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        """Decode such a body. Unknown members are ignored. Raises `Malformed`, and no other error.

        `revision` stays as the device sent it: a newer device may have members that count for it.
        """
        value = cbor.decode_untrusted(data, size=MAX_SETTINGS_BYTES)
        match value:
            case {
                "revision": int() as revision,
                "secret": bytes() as secret,
                "prefix": str() as prefix,
                "brokers": list() as brokers,
                "stun": list() as stun,
                "turn": list() as turn,
            } if 0 <= revision <= MAX_REVISION and not isinstance(revision, bool):
                if not all(isinstance(one, str) for one in stun):
                    raise _malformed("have an invalid STUN server")
                return cls(
                    secret=Secret(secret),
                    prefix=prefix,
                    brokers=tuple(map(_server_untrusted, brokers)),
                    stun=tuple(stun),
                    turn=tuple(map(_server_untrusted, turn)),
                    revision=revision,
                )
            case _:
                raise _malformed("lack a member, or have one of the wrong type")


def is_prefix(text: str) -> bool:
    """Whether a text can be the prefix of the topics: MQTT topic levels without wildcards."""
    levels = text.split("/")
    return _is_text(text, MAX_PREFIX_CHARS) and all(levels) and not set(text) & set("+#$")


def _fields(settings: RemoteSettings) -> dict[str, object]:
    return {
        "secret": settings.secret.reveal(),
        "prefix": settings.prefix,
        "brokers": [_server_fields(one) for one in settings.brokers],
        "stun": list(settings.stun),
        "turn": [_server_fields(one) for one in settings.turn],
    }


def _server_fields(server: Server) -> dict[str, object]:
    pin = {"pin": server.pin} if server.pin else {}
    password = server.password.reveal()
    return {"url": server.url, "username": server.username, "password": password, **pin}


def _revision(fields: Mapping[str, object]) -> int:
    return int.from_bytes(sha256(cbor.encode(dict(fields))).digest()[:4], "big")


def _server_untrusted(value: object) -> Server:
    match value:
        case {
            "url": str() as url,
            "username": str() as username,
            "password": str() as password,
            **others,
        }:
            pin = others.get("pin", b"")
            if not isinstance(pin, bytes) or (not pin and "pin" in others):
                raise _malformed("have a pin that is not valid")
            return Server(url, username, Secret(password), pin)
        case _:
            raise _malformed("have a server without URL, user name or password")


def _parse_url(url: str) -> ServerAddress:
    found = _URL.fullmatch(url) if len(url) <= MAX_SERVER_URL_CHARS else None
    if found is None:
        raise _malformed("have an invalid URL of a server")
    scheme = found["scheme"].rstrip(":/")
    port = int(found["port"] or _DEFAULT_PORTS[scheme])
    path, transport = found["path"] or "", found["transport"] or ""
    if not is_host_and_port(f"{found['host']}:{port}"):
        raise _malformed("have an invalid URL of a server")
    match scheme:
        case "mqtts":
            is_valid = path in {"", "/"} and not transport
            path = ""
        case "wss":
            is_valid = not transport
            path = path or "/"
        case "turn":
            is_valid = not path
            transport = transport or "udp"
        case _:
            is_valid = not path and transport != "udp"
            transport = "tcp"
    if not is_valid:
        raise _malformed("have an invalid URL of a server")
    host = found["host"].strip("[]")
    return ServerAddress(scheme=scheme, host=host, port=port, path=path, transport=transport)


def _is_text(text: str, most: int) -> bool:
    return len(text) <= most and text.isprintable()


def _malformed(what: str) -> Malformed:
    return Malformed(f"the remote settings {what}", advice="Check [remote] in device.toml.")
