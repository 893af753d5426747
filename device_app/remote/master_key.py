"""The remote master key of a device, from which the secret of each client key is derived.

It is in the file `remote.key` of the state folder, with its generation and the fingerprint of the
device to which it belongs. A device with another key than that makes a new master key: a board that
was made from a copied SD card does so after `new-identity`, and then no longer listens where the
other board does. A backup contains the master key, so that a device which is restored can still be
reached; a factory reset deletes it.
"""

from dataclasses import dataclass, replace
from enum import StrEnum, unique
from pathlib import Path
from typing import Final, Self

from device_app.errors import AppError
from device_app.limits import REMOTE_KEY_FILE_BYTES_MAX
from peer import cbor
from peer.errors import Malformed
from peer.files import atomic_write, read_own
from peer.fingerprint import Fingerprint
from peer.remote.limits import MAX_GENERATION
from peer.secret import Secret
from peer.terminal.exit_codes import ExitCode

KEY_BYTES: Final = 32


@unique
class TroubleReason(StrEnum):
    """Why remote reach cannot work before a person has done something."""

    KEY = "remote-key"
    NOT_INSTALLED = "not-installed"
    PASSWORD_FILE = "password-file"  # noqa: S105  # a slug
    STOPPED = "stopped"


class RemoteTrouble(AppError):
    """Remote reach cannot work now. The device serves its other clients."""

    def __init__(self, message: str, *, advice: str, reason: TroubleReason) -> None:
        is_missing = reason is TroubleReason.NOT_INSTALLED
        super().__init__(
            message, advice=advice, code=ExitCode.NOT_FOUND if is_missing else ExitCode.OTHER
        )
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A remote master key. `device` is the fingerprint of the device that it was made for."""

    secret: Secret[bytes]
    generation: int
    device: Fingerprint

    @classmethod
    def create(cls, device: Fingerprint, random_bytes: bytes) -> Self:
        """Return a new key; `random_bytes` are `KEY_BYTES` fresh ones."""
        assert len(random_bytes) == KEY_BYTES
        return cls(Secret(random_bytes), 0, device)

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        """Read the content of the file. Raises `Malformed`."""
        match cbor.decode_untrusted(data, size=REMOTE_KEY_FILE_BYTES_MAX, depth=1):
            case {
                "key": bytes() as key,
                "generation": int() as number,
                "device": bytes() as digest,
            }:
                if len(key) == KEY_BYTES and type(number) is int and 0 <= number <= MAX_GENERATION:
                    return cls(Secret(key), number, Fingerprint(digest))
            case _:
                pass
        raise Malformed("it is not a remote master key", advice="Restore it from a backup.")

    def encode(self) -> bytes:
        """Return the content of the file."""
        return cbor.encode(
            {
                "key": self.secret.reveal(),
                "generation": self.generation,
                "device": self.device.digest,
            }
        )

    def rotated(self, random_bytes: bytes) -> Self:
        """Return the key of the next generation: no secret of this one is valid with it.

        `random_bytes` are `KEY_BYTES` fresh ones, for a key that has used all generations.
        """
        if self.generation == MAX_GENERATION:
            return self.create(self.device, random_bytes)
        return replace(self, generation=self.generation + 1)

    def at_least(self, other: Self | None) -> Self:
        """Return this key with the later generation of both, if they are the same key.

        So an old backup restores no secret that was rotated away.
        """
        if other is None or other.secret != self.secret or other.device != self.device:
            return self
        return replace(self, generation=max(self.generation, other.generation))

    def secret_of(self, client: Fingerprint) -> Secret[bytes]:
        """Return the pair secret of a client key."""
        from peer.remote.pair_keys import pair_secret  # noqa: PLC0415 - a backup needs none

        return pair_secret(self.secret, self.generation, client)


def load(path: Path) -> MasterKey | None:
    """Read the file; None if there is none.

    Raises:
        RemoteTrouble: it cannot be read, is damaged, or other users can read it.
    """
    try:
        data, mode = read_own(path)
        if mode & 0o077:
            raise RemoteTrouble(
                f"the remote master key {path} is readable by other users (mode {mode:04o})",
                advice=f"Run: chmod 600 {path}. Then run `handfast-device remote rotate`, since "
                "someone may have copied it.",
                reason=TroubleReason.KEY,
            )
        return MasterKey.decode_untrusted(data)
    except FileNotFoundError:
        return None
    except (OSError, Malformed) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        raise RemoteTrouble(
            f"the remote master key {path} cannot be read: {why}",
            advice="Restore it from a backup, or delete it and start the daemon again: clients "
            "then fetch new settings when they are next on the device's network.",
            reason=TroubleReason.KEY,
        ) from error


def save(key: MasterKey, path: Path) -> None:
    """Write the file durably, mode 0600. Raises `RemoteTrouble`; the old file is still there."""
    try:
        atomic_write(path, key.encode(), is_secret=True)
    except OSError as error:
        raise RemoteTrouble(
            f"the remote master key {path} cannot be written: {error.strerror or error}",
            advice="Check the permissions of its folder, and the space on its disk.",
            reason=TroubleReason.KEY,
        ) from error


def load_or_create(path: Path, device: Fingerprint, random_bytes: bytes) -> MasterKey:
    """Read the file, or make a new key if there is none or it belongs to another device.

    Args:
        path: the file.
        device: this device.
        random_bytes: `KEY_BYTES` fresh ones, for a new key.

    Raises:
        RemoteTrouble: the file cannot be read or written.
    """
    found = load(path)
    if found is None or found.device != device:
        found = MasterKey.create(device, random_bytes)
        save(found, path)
    return found


def rotate(path: Path, random_bytes: bytes) -> MasterKey:
    """Put the next generation of the key in the file into force, and return it.

    Raises:
        RemoteTrouble: there is no key, or the file cannot be read or written.
    """
    found = load(path)
    if found is None:
        raise RemoteTrouble(
            "there is no remote master key, so no client has a secret that could be replaced",
            advice="The daemon makes one when it first starts with `[remote]` in device.toml.",
            reason=TroubleReason.KEY,
        )
    found = found.rotated(random_bytes)
    save(found, path)
    return found
