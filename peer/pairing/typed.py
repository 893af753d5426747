"""Codes that users read from a device and type (protocol §5, method `code`).

    shown     8 digits, `4821-9930`: on the display or the terminal, for one use
    printed   8 Crockford base32 symbols and 2 check symbols, `K7QM-2ZXD-4H`: on the box, permanent

The lengths tell the two kinds apart. A printed code is typed from paper, so it has check symbols:
the first eight symbols as a number, modulo the prime 1021, in two symbols. They detect every single
wrong symbol and every swap of two neighbours before an attempt is spent. They do not help an
attacker, because they follow from the other symbols. A shown code has none: the next attempt gets
another code anyway.

The secret of a printed code is stretched with scrypt, which takes about a second on a small board.
The device stores that secret and never the code.
"""

from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from peer import pasted
from peer.errors import Malformed
from peer.identity import CROCKFORD, Fingerprint
from peer.limits import MAX_ARMOURED_SYMBOLS
from peer.pairing.binding import lp
from peer.pairing.sides import RandomBytes

SHOWN_DIGITS = 8
PRINTED_SYMBOLS = 8
_CHECK_SYMBOLS = 2
_CHECK_PRIME = 1021  # the largest below 32²
_BITS = 5  # of a Crockford symbol
STRETCHED_BYTES = 48  # 128 bits more than n, so the remainder modulo n has no noticeable bias
SCRYPT_COST = 2**15  # with r = 8: 32 MiB and about 0.1 s, on a small board about a second
SCRYPT_BLOCK, SCRYPT_LANES = 8, 1


@dataclass(frozen=True, slots=True)
class TypedCode:
    """A code. The `repr` does not show it."""

    symbols: str = field(repr=False)
    is_printed: bool = False

    @classmethod
    def shown(cls, random_bytes: RandomBytes) -> Self:
        """Create a code for one use, from 64 random bits.

        All codes are equally likely up to one part in 10^11.
        """
        return cls(f"{int.from_bytes(random_bytes(8)) % 10**SHOWN_DIGITS:0{SHOWN_DIGITS}}")

    @classmethod
    def printed(cls, random_bytes: RandomBytes) -> Self:
        """Create a code for a label: 40 random bits."""
        number = int.from_bytes(random_bytes(PRINTED_SYMBOLS * _BITS // 8))
        return cls(_symbols(number, PRINTED_SYMBOLS) + _check(number), is_printed=True)

    @classmethod
    def parse_untrusted(cls, text: object) -> Self:
        """Parse what a user typed or pasted: any case, with anything that `pasted.compact` removes.

        Raises `Malformed`; its text does not repeat the code.
        """
        if not isinstance(text, str) or len(text) > MAX_ARMOURED_SYMBOLS:
            raise _not_a_code("it is too long" if isinstance(text, str) else "it is not text")
        plain = pasted.crockford(text)
        if not set(plain) <= set(CROCKFORD):
            raise _not_a_code("it contains a character that no code has")
        if len(plain) == SHOWN_DIGITS and plain.isdecimal():
            return cls(plain)
        if len(plain) != PRINTED_SYMBOLS + _CHECK_SYMBOLS:
            raise _not_a_code(f"it has {len(plain)} letters and digits")
        if _check(_number(plain[:PRINTED_SYMBOLS])) != plain[PRINTED_SYMBOLS:]:
            raise Malformed(
                "the code contains a typing error",
                advice="Compare it with the label. This did not count as an attempt.",
            )
        return cls(plain, is_printed=True)

    @property
    def text(self) -> str:
        """The code as users read it: in groups of four."""
        return "-".join(self.symbols[at : at + 4] for at in range(0, len(self.symbols), 4))

    def secret(self, device: Fingerprint) -> bytes:
        """Return the secret for J-PAKE. For a printed code this takes about a second."""
        if self.is_printed:
            return printed_secret(self.symbols, device)
        return shown_secret(self.symbols)


def stretched(code: bytes, salt: bytes) -> bytes:
    """Return the secret of a code that does not change: 48 bytes of scrypt (RFC 7914 §2).

    The parameters are N = 2^15, r = 8 and p = 1. A device stores this secret and not the code, so
    an attacker who reads the store pays this cost for each guess.
    """
    kdf = Scrypt(salt=salt, length=STRETCHED_BYTES, n=SCRYPT_COST, r=SCRYPT_BLOCK, p=SCRYPT_LANES)
    return kdf.derive(code)


def _not_a_code(why: str) -> Malformed:
    return Malformed(
        f"the text is not a pairing code: {why}",
        advice="A code on a screen has 8 digits, a code on a label 10 letters and digits.",
    )


def shown_secret(symbols: str) -> bytes:
    """Return the secret of a code for one use: its digits in ASCII, without separators."""
    return symbols.encode("ascii")


def printed_secret(symbols: str, device: Fingerprint) -> bytes:
    """Return the secret of a printed code: stretched, salted with the device's fingerprint.

    The client knows this salt from its session, before the device has sent anything. `symbols` are
    in upper case, without separators.
    """
    return stretched(symbols.encode("ascii"), lp(b"handfast/1 code") + lp(device.digest))


def _check(number: int) -> str:
    return _symbols(number % _CHECK_PRIME, _CHECK_SYMBOLS)


def _symbols(number: int, count: int) -> str:
    return "".join(CROCKFORD[number >> _BITS * at & 31] for at in reversed(range(count)))


def _number(symbols: str) -> int:
    number = 0
    for symbol in symbols:
        number = number << _BITS | CROCKFORD.index(symbol)
    return number
