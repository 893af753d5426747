"""The brokers, STUN and TURN servers of the settings, with the passwords from their files."""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device_app.limits import PASSWORD_FILE_BYTES_MAX
from device_app.remote.master_key import RemoteTrouble, TroubleReason
from device_app.settings.remote import RemoteOptions
from peer.errors import Malformed
from peer.files import decode_text, open_regular
from peer.remote.limits import MAX_SERVER_PASSWORD_CHARS
from peer.remote.settings import RemoteSettings, Server
from peer.secret import Secret


@dataclass(frozen=True, slots=True)
class RemoteServers:
    """The servers that the device and its clients use. `warnings` is about files of passwords."""

    prefix: str
    brokers: tuple[Server, ...]
    stun: tuple[str, ...]
    turn: tuple[Server, ...]
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, options: RemoteOptions, folder: Path) -> "RemoteServers":
        """Read the passwords. `folder` is that of the settings.

        Raises:
            RemoteTrouble: a file cannot be used.
        """
        warnings: list[str] = []
        broker_password = _password(options.password_file, folder, warnings)
        turn_password = Secret("")
        if options.relays:
            turn_password = _password(options.turn_password_file, folder, warnings)
        return cls(
            options.topic_prefix,
            _servers(options.brokers, options.username, broker_password, options.broker_pin),
            options.stun,
            _servers(options.relays, options.turn_username, turn_password, options.turn_pin),
            tuple(dict.fromkeys(warnings)),
        )

    def settings_for(self, secret: Secret[bytes]) -> RemoteSettings:
        """Return what the client with this pair secret gets."""
        return RemoteSettings(
            secret=secret,
            prefix=self.prefix,
            brokers=self.brokers,
            stun=self.stun,
            turn=self.turn,
        )


def _servers(
    urls: Sequence[str], username: str, password: Secret[str], pins: Sequence[bytes]
) -> tuple[Server, ...]:
    each = pins if len(pins) > 1 else (pins[0] if pins else b"",) * len(urls)
    return tuple(
        # A pin is about TLS; `turn:` without it has none.
        Server(url, username, password, b"" if url.startswith("turn:") else pin)
        for url, pin in zip(urls, each, strict=True)
    )


def _password(name: str, folder: Path, warnings: list[str]) -> Secret[str]:
    """Return the first line of a file, or nothing if there is no such setting."""
    if not name:
        return Secret("")
    path = folder / name
    try:
        with open_regular(path) as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            line = file.readline(PASSWORD_FILE_BYTES_MAX + 1)
        if len(line) > PASSWORD_FILE_BYTES_MAX:
            raise _unusable(path, f"its first line is longer than {PASSWORD_FILE_BYTES_MAX} bytes")
        password = decode_text(line).strip("\r\n")
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    except Malformed as error:
        raise _unusable(path, str(error)) from error
    if not password.isprintable() or not 0 < len(password) <= MAX_SERVER_PASSWORD_CHARS:
        why = f"its first line is not text of 1 to {MAX_SERVER_PASSWORD_CHARS} characters"
        raise _unusable(path, why)
    if mode & 0o077:
        warnings.append(
            f"other users can read the password file {path} (mode {mode:04o}): run "
            f"`chmod 600 {path}`"
        )
    return Secret(password)


def _unusable(path: Path, why: str) -> RemoteTrouble:
    return RemoteTrouble(
        f"the password file {path} cannot be used: {why}",
        advice="Write the password into its first line, and let it belong to the user of the "
        "daemon, with mode 0600. Then start the daemon again.",
        reason=TroubleReason.PASSWORD_FILE,
    )
