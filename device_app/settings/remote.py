"""The settings below `[remote]`: how clients reach the device from other networks.

Without a broker, remote reach is off, and nothing of it is imported. Passwords are never settings:
they are in files of their own, which no backup contains and no command prints
(`device_app.remote.servers`).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from device_app.settings import checks
from device_app.settings.checks import InvalidSetting
from peer.errors import Malformed
from peer.fingerprint import Fingerprint

DEFAULT_PREFIX: Final = "hf1"
_STUN_PORT: Final = 3478  # RFC 8489 §18.6
_NEEDS: Final = {
    "broker_pin": "brokers",
    "username": "brokers",
    "password_file": "username",
    "prefix": "brokers",
    "stun": "brokers",
    "turn": "brokers",
    "turn_username": "turn",
    "turn_password_file": "turn_username",
    "turn_pin": "turn",
}
"""A setting that has no effect without another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOptions:
    """The settings below `[remote]`. Files of passwords are relative to the folder of the settings.

    Attributes:
        brokers: URLs of MQTT brokers: `mqtts://HOST[:PORT]` or `wss://HOST[:PORT][/PATH]`.
        broker_pin: the pins of their keys, one for all or one for each broker; none to verify
            their certificates with the certificate authorities of the system.
        username: the account at the brokers.
        password_file: the file whose first line is its password.
        prefix: the first levels of all topics; empty for `hf1/USERNAME`.
        stun: STUN servers, as HOST:PORT.
        turn: URLs of TURN servers.
        turn_username: the account at the TURN servers.
        turn_password_file: the file whose first line is its password.
        turn_pin: the pins of the keys of TURN servers over TLS, as `broker_pin`.
        relay: whether the TURN servers are used.
    """

    brokers: tuple[str, ...] = ()
    broker_pin: tuple[bytes, ...] = ()
    username: str = ""
    password_file: str = ""
    prefix: str = ""
    stun: tuple[str, ...] = ()
    turn: tuple[str, ...] = ()
    turn_username: str = ""
    turn_password_file: str = ""
    turn_pin: tuple[bytes, ...] = ()
    relay: bool = True

    @property
    def is_on(self) -> bool:
        """Whether the device can be reached from other networks at all."""
        return bool(self.brokers)

    @property
    def topic_prefix(self) -> str:
        """The first levels of all topics."""
        return self.prefix or f"{DEFAULT_PREFIX}/{self.username}"

    @property
    def relays(self) -> tuple[str, ...]:
        """The TURN servers that are used."""
        return self.turn if self.relay else ()


def contradictions(options: RemoteOptions, given: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each setting that is wrong beside another one, and why.

    `given` are the names of those that the files set.
    """
    for name in given:
        needed = _NEEDS.get(name)
        if needed is not None and not getattr(options, needed):
            yield name, f"has no effect without remote.{needed}"
    if options.brokers and not (options.username or options.prefix):
        yield "brokers", "needs remote.username, or remote.prefix at a broker without accounts"
    elif options.username and not options.prefix and set(options.username) & set("/+#$"):
        why = "cannot be a part of a topic; set remote.prefix to what the account may use"
        yield "username", why
    if options.turn and not options.turn_username:
        yield "turn", "needs remote.turn_username: a TURN server serves accounts only"
    for name, servers in (("broker_pin", options.brokers), ("turn_pin", options.turn)):
        pins = getattr(options, name)
        if len(pins) > 1 and len(pins) != len(servers):
            yield name, f"has {len(pins)} pins for {len(servers)} servers; give one for each"


# -- checks ---------------------------------------------------------------------------------------


def broker_urls(value: object) -> tuple[str, ...]:
    """Return the URLs of brokers."""
    return _urls(value, ("mqtts://", "wss://"), '["mqtts://broker.example"]')


def turn_urls(value: object) -> tuple[str, ...]:
    """Return the URLs of TURN servers (RFC 7065)."""
    return _urls(value, ("turn:", "turns:"), '["turn:relay.example", "turns:relay.example"]')


def stun_servers(value: object) -> tuple[str, ...]:
    """Return STUN servers as HOST:PORT."""
    found = checks.hosts(value)
    _check_number(found)
    return tuple(one if _has_port(one) else f"{one}:{_STUN_PORT}" for one in found)


def pins(value: object) -> tuple[bytes, ...]:
    """Return one pin or a list of pins: each is SHA-256 of a SubjectPublicKeyInfo."""
    texts = (value,) if isinstance(value, str) else checks.texts(value)
    try:
        return tuple(Fingerprint.parse(one).digest for one in texts)
    except Malformed as error:
        raise InvalidSetting(
            f"is not valid: {error}. A pin is SHA-256 over the public key of the server, as 64 hex "
            "digits; without this setting, `handfast-device remote test` shows the one it finds"
        ) from error


def prefix(value: object) -> str:
    """Return the prefix of topics."""
    from peer.remote.settings import is_prefix  # noqa: PLC0415 - only for devices with [remote]

    text = checks.text(value)
    if not is_prefix(text):
        raise InvalidSetting('has to be levels of a topic without wildcards, such as "hf1/kitchen"')
    return text


def username(value: object) -> str:
    """Return the name of an account."""
    from peer.remote.limits import MAX_USERNAME_CHARS  # noqa: PLC0415 - as above

    text = checks.text(value)
    if len(text) > MAX_USERNAME_CHARS or not text.isprintable():
        raise InvalidSetting(f"has to be printable text of {MAX_USERNAME_CHARS} characters at most")
    return text


def _urls(value: object, schemes: tuple[str, ...], example: str) -> tuple[str, ...]:
    from peer.remote.settings import Server  # noqa: PLC0415 - as above

    found = checks.texts(value)
    _check_number(found)
    if len({*found}) < len(found):
        raise InvalidSetting("names a server twice")
    for one in found:
        if "@" in one:
            raise InvalidSetting(
                "has a URL with an account; name it in remote.username or remote.turn_username, "
                "and put its password into a file"
            )
        try:
            scheme = Server(one).address.scheme
        except Malformed:
            scheme = ""
        if scheme not in {start.partition(":")[0] for start in schemes}:
            raise InvalidSetting(
                f"has to be a list such as {example}: {one!r} does not begin with "
                f"{' or '.join(schemes)}, or has no valid host and port"
            )
    return found


def _check_number(found: tuple[str, ...]) -> None:
    from peer.remote.limits import MAX_SERVERS  # noqa: PLC0415 - as above

    if len(found) > MAX_SERVERS:
        raise InvalidSetting(f"has to name {MAX_SERVERS} servers at most")


def _has_port(host: str) -> bool:
    return host.rpartition("]")[2].count(":") == 1
