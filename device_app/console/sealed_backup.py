r"""The file of a backup: key, store, settings and policies, sealed as a whole with a passphrase.

    "HANDFAST-BACKUP 1\n" ‖ length of the header (2 bytes) ‖ header ‖ AES-256-GCM of the contents

Header and contents are CBOR maps. The header has the parameters of scrypt, the nonce, the ID of the
device and its time; it is authenticated along with the contents, as is all that precedes it. The
file comes from anywhere: its size is checked before it is read, and the header before scrypt runs.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device_app.console import passphrases
from device_app.console.passphrases import Stretching
from device_app.console.settings_files import SettingsFiles
from device_app.errors import AppError, DamagedBackup, unreadable
from device_app.limits import (
    BACKUP_HEADER_BYTES_MAX,
    BACKUP_MODULES_MAX,
    BACKUP_TIME_MAX,
    SCRYPT_SALT_BYTES,
    SEALED_BACKUP_BYTES_MAX,
)
from device_app.remote.master_key import MasterKey
from peer import cbor
from peer.errors import IdentityError, Malformed, WrongCode
from peer.files import open_regular
from peer.identity import CROCKFORD, Identity
from peer.terminal.exit_codes import ExitCode

_BEGIN: Final = b"HANDFAST-BACKUP "
MAGIC: Final = _BEGIN + b"1\n"
_SQLITE: Final = b"SQLite format 3\0"
_LENGTH_BYTES, _NONCE_BYTES, _TAG_BYTES = 2, 12, 16
_ID_SYMBOLS: Final = 8
#: Random bytes that sealing takes: salt and nonce.
RANDOM_BYTES: Final = SCRYPT_SALT_BYTES + _NONCE_BYTES


class Kind(Enum):
    """The kind of a file, by its first bytes."""

    SEALED = "sealed"
    COPY = "copy"  # of a store: SQLite
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a backup. `modules` names what is not in it: the device's own modules.

    `remote_key` is the remote master key, if the device has one.
    """

    identity: Identity
    store: bytes
    settings: SettingsFiles
    modules: tuple[str, ...] = ()
    remote_key: MasterKey | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a backup that can be read without its passphrase."""

    stretching: Stretching
    nonce: bytes
    device_id: str
    made: int

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Self:
        """Read a header. Raises `Malformed`."""
        found = cbor.decode_untrusted(data, size=BACKUP_HEADER_BYTES_MAX, depth=2)
        if not isinstance(found, dict):
            raise Malformed("the header is no map")
        salt, nonce = found.get("salt"), found.get("nonce")
        device_id, made = found.get("id"), found.get("made")
        if not isinstance(salt, bytes) or len(salt) != SCRYPT_SALT_BYTES:
            raise Malformed("the header has no salt")
        if not isinstance(nonce, bytes) or len(nonce) != _NONCE_BYTES:
            raise Malformed("the header has no nonce")
        if not isinstance(device_id, str) or len(device_id) != _ID_SYMBOLS:
            raise Malformed("the header has no ID")
        if not set(device_id) <= set(CROCKFORD):
            raise Malformed("the header has no ID")
        if type(made) is not int or not 0 <= made < BACKUP_TIME_MAX:
            raise Malformed("the header has no time")
        return cls(Stretching.parse_untrusted(found, salt), nonce, device_id, made)

    def encode(self) -> bytes:
        """Return the bytes in the file."""
        return cbor.encode(
            {
                "kdf": passphrases.KDF,
                "n": self.stretching.n,
                "r": self.stretching.r,
                "p": self.stretching.p,
                "salt": self.stretching.salt,
                "nonce": self.nonce,
                "id": self.device_id,
                "made": self.made,
            }
        )


def kind_of(path: Path) -> Kind:
    """Return the kind of a file. Raises `AppError` if it cannot be read."""
    with _opened(path) as file:
        begin = file.read(len(MAGIC))
    if begin.startswith(_BEGIN):
        return Kind.SEALED
    return Kind.COPY if begin.startswith(_SQLITE) else Kind.OTHER


def seal(contents: Contents, passphrase: str, *, made: int, random_bytes: bytes) -> bytes:
    """Return the content of a backup file.

    Args:
        contents: what is sealed.
        passphrase: a long one; see `passphrases.check`.
        made: the device's time.
        random_bytes: `RANDOM_BYTES` fresh ones.

    Raises:
        UsageError: the passphrase is too short.
        AppError: the store is larger than a backup may be.
    """
    passphrases.check(passphrase)
    assert len(random_bytes) == RANDOM_BYTES
    salt, nonce = random_bytes[:SCRYPT_SALT_BYTES], random_bytes[SCRYPT_SALT_BYTES:]
    device_id = contents.identity.fingerprint.device_id
    header = Header(Stretching.create(salt), nonce, device_id, made)
    body = cbor.encode(
        {
            "key": contents.identity.key_pem(),
            "store": contents.store,
            "config": dict(contents.settings.config),
            "policies": dict(contents.settings.policies),
            "modules": list(contents.modules),
            **({"remote": contents.remote_key.encode()} if contents.remote_key else {}),
        }
    )
    encoded = header.encode()
    before = MAGIC + len(encoded).to_bytes(_LENGTH_BYTES) + encoded
    if len(before) + len(body) + _TAG_BYTES > SEALED_BACKUP_BYTES_MAX:
        raise AppError(
            f"the backup would be longer than {SEALED_BACKUP_BYTES_MAX} bytes",
            advice="Keep fewer events (limits.events_kept in device.toml).",
        )
    key = AESGCM(header.stretching.key(passphrases.plain(passphrase)))
    return before + key.encrypt(nonce, body, before)


@dataclass(frozen=True, slots=True)
class SealedBackup:
    """A backup that was read, and whose header is sound; nothing in it is authentic yet."""

    path: Path
    header: Header
    before: bytes  # all that precedes the sealed part
    sealed: bytes

    @classmethod
    def read_untrusted(cls, path: Path) -> Self:
        """Read a file that begins like a backup.

        Raises:
            AppError: it cannot be read, is too long, or a later version made it.
            DamagedBackup: it is damaged.
        """
        data = _read_whole(path)
        if not data.startswith(MAGIC):
            version, end, _ = data.removeprefix(_BEGIN).partition(b"\n")
            if end and version.isdigit() and len(version) <= len(str(BACKUP_TIME_MAX)):
                raise AppError(f"a later version made {path}", advice="Update handfast.")
            raise DamagedBackup(path, "its beginning was changed")
        at = len(MAGIC) + _LENGTH_BYTES
        end_of_header = at + int.from_bytes(data[len(MAGIC) : at])
        if len(data) < end_of_header + _TAG_BYTES:
            raise DamagedBackup(path, "it ends too early")
        try:
            header = Header.parse_untrusted(data[at:end_of_header])
        except Malformed as error:
            raise DamagedBackup(path, str(error)) from error
        return cls(path, header, data[:end_of_header], data[end_of_header:])

    def opened(self, passphrase: str) -> Contents:
        """Return the contents.

        Raises:
            WrongCode: the passphrase is wrong, or the file was changed.
            DamagedBackup: the contents are not those of a backup.
        """
        key = AESGCM(self.header.stretching.key(passphrases.plain(passphrase)))
        try:
            body = key.decrypt(self.header.nonce, self.sealed, self.before)
        except InvalidTag:
            raise WrongCode(
                "the passphrase is wrong, or the backup was changed",
                advice="Try again with the passphrase of this backup. Nothing was changed.",
            ) from None
        try:
            contents = _contents_untrusted(body)
            if contents.identity.fingerprint.device_id != self.header.device_id:
                raise Malformed("it holds another key than it says")
        except (Malformed, IdentityError) as error:
            raise DamagedBackup(self.path, str(error)) from error
        return contents


def _contents_untrusted(body: bytes) -> Contents:
    """Check the contents: anyone who has the passphrase may have written them."""
    found = cbor.decode_untrusted(body, size=len(body), depth=3)
    if not isinstance(found, dict):
        raise Malformed("its contents are no map")
    key, store, modules = found.get("key"), found.get("store"), found.get("modules", [])
    if not isinstance(key, bytes) or not isinstance(store, bytes):
        raise Malformed("it has no key or no store")
    if not isinstance(modules, list) or len(modules) > BACKUP_MODULES_MAX:
        raise Malformed("its list of modules is damaged")
    settings = SettingsFiles.parse_untrusted(_texts(found, "config"), _texts(found, "policies"))
    identity = Identity.from_pem(key)
    remote_key = _remote_key(found.get("remote"), identity)
    return Contents(identity, store, settings, tuple(map(str, modules)), remote_key)


def _remote_key(data: object, identity: Identity) -> MasterKey | None:
    if data is None:
        return None
    if not isinstance(data, bytes):
        raise Malformed("its remote master key is damaged")
    found = MasterKey.decode_untrusted(data)
    if found.device != identity.fingerprint:
        raise Malformed("its remote master key belongs to another device")
    return found


def _texts(found: Mapping[object, object], name: str) -> Mapping[object, object]:
    texts = found.get(name)
    if not isinstance(texts, dict):
        raise Malformed(f"it has no {name}")
    return texts


def _read_whole(path: Path) -> bytes:
    """Read a file, unless it is longer than any backup."""
    with _opened(path) as file:
        if os.fstat(file.fileno()).st_size > SEALED_BACKUP_BYTES_MAX:
            raise DamagedBackup(path, f"it is longer than {SEALED_BACKUP_BYTES_MAX} bytes")
        return file.read(SEALED_BACKUP_BYTES_MAX)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(path) as file:
            yield file
    except FileNotFoundError as error:
        raise AppError(
            f"there is no file {path}",
            advice="Name a backup, or a copy of device.db: `handfast-device restore FILE`.",
            code=ExitCode.USAGE,
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
