"""Passphrases of backups: made or chosen, and turned into a key by scrypt (RFC 7914).

The parameters are stored with what the key protects, so that a later version can raise them. They
come from a file and decide about memory and time, so they are bounded before they are used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from device_app.limits import (
    PASSPHRASE_CHARACTERS_MIN,
    SCRYPT_BLOCKS,
    SCRYPT_COST,
    SCRYPT_COST_MAX,
    SCRYPT_MEMORY_BYTES_MAX,
    SCRYPT_PARALLEL,
    SCRYPT_WORK_BYTES_MAX,
)
from peer import pasted
from peer.errors import Malformed, UsageError
from peer.identity import CROCKFORD

KDF: Final = "scrypt"
KEY_BYTES: Final = 32
MADE_SYMBOLS: Final = 20  # of a passphrase that the device makes: 100 bits
MADE_RANDOM_BYTES: Final = 13
_BITS, _GROUP = 5, 4  # of a symbol; symbols in a group


def made(random_bytes: bytes) -> str:
    """Return a new passphrase: 20 symbols of Crockford's base32, in groups of four.

    `random_bytes` are `MADE_RANDOM_BYTES` fresh ones.
    """
    assert len(random_bytes) == MADE_RANDOM_BYTES
    number = int.from_bytes(random_bytes)
    symbols = "".join(CROCKFORD[number >> _BITS * at & 31] for at in range(MADE_SYMBOLS))
    return "-".join(symbols[at : at + _GROUP] for at in range(0, MADE_SYMBOLS, _GROUP))


def check(passphrase: str) -> None:
    """Raise `UsageError` if a passphrase is too short to resist a search on a stolen backup."""
    if len(normalized(passphrase).decode("utf-8", "surrogateescape")) < PASSPHRASE_CHARACTERS_MIN:
        raise UsageError(
            f"the passphrase is shorter than {PASSPHRASE_CHARACTERS_MIN} characters",
            advice="Take four or more random words: a thief of the file can guess without limit.",
        )


def plain(passphrase: str) -> bytes:
    """Return the bytes of a passphrase, the same for every way to type it.

    One that the device has made can be typed in small letters, and without its hyphens.
    """
    symbols = pasted.crockford(passphrase)
    if len(symbols) == MADE_SYMBOLS and set(symbols) <= set(CROCKFORD):
        return symbols.encode("ascii")
    return normalized(passphrase)


def normalized(passphrase: str) -> bytes:
    """The bytes of a passphrase, the same for every way to type its accents."""
    import unicodedata  # noqa: PLC0415 - 1 MB, which a daemon does not need

    return unicodedata.normalize("NFKC", passphrase).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Stretching:
    """The parameters of scrypt, and its salt."""

    n: int
    r: int
    p: int
    salt: bytes

    @classmethod
    def create(cls, salt: bytes) -> Self:
        """Return the parameters of a new backup."""
        return cls(SCRYPT_COST, SCRYPT_BLOCKS, SCRYPT_PARALLEL, salt)

    @classmethod
    def parse_untrusted(cls, record: Mapping[Any, object], salt: bytes) -> Self:
        """Read `kdf`, `n`, `r` and `p` of a record in a file. Raises `Malformed`."""
        if record.get("kdf") != KDF:
            raise Malformed(
                "the backup is sealed in a way that this version does not know",
                advice="Update handfast.",
            )
        n, r, p = (_number_untrusted(record.get(name)) for name in ("n", "r", "p"))
        memory = 128 * n * r  # RFC 7914 §2
        is_power = n > 1 and not n & (n - 1)
        if not is_power or n > SCRYPT_COST_MAX or memory > SCRYPT_MEMORY_BYTES_MAX:
            raise _out_of_range()
        if memory * p > SCRYPT_WORK_BYTES_MAX:
            raise _out_of_range()
        return cls(n, r, p, salt)

    def key(self, passphrase: bytes) -> bytes:
        """Return the key that belongs to the bytes of a passphrase. Takes about a second."""
        kdf = Scrypt(salt=self.salt, length=KEY_BYTES, n=self.n, r=self.r, p=self.p)
        return kdf.derive(passphrase)


def _number_untrusted(value: object) -> int:
    if type(value) is not int or not 0 < value <= SCRYPT_WORK_BYTES_MAX:
        raise _out_of_range()
    return value


def _out_of_range() -> Malformed:
    return Malformed(
        "the parameters of scrypt in the backup are out of range", advice="Use another backup."
    )
