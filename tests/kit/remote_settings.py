"""Settings for reaching a device from other networks, as a device hands them out."""

from typing import Any, Final

from peer.remote.settings import RemoteSettings, Server
from peer.secret import Secret

SECRET: Final = bytes(range(0x41, 0x61))
PASSWORD: Final = "correct-horse-battery"


def remote_settings(**changes: Any) -> RemoteSettings:
    """Return settings with one broker, a STUN server and a relay, and some changes."""
    fields: dict[str, Any] = {
        "secret": Secret(SECRET),
        "prefix": "hf1/alice",
        "brokers": (Server("mqtts://mqtt.example", "alice", Secret(PASSWORD), bytes(32)),),
        "stun": ("stun.example:3478",),
        "turn": (Server("turn:relay.example:3478", "alice", Secret(PASSWORD)),),
    }
    return RemoteSettings(**{**fields, **changes})
