"""Codes that people read from a device and type (protocol §5, method `code`).

    shown     8 digits, `4821-9930`: on the display or the terminal, for one use
    printed   8 Crockford base32 symbols and 2 check symbols, `K7QM-2ZXD-4H`: on the box, to stay

The two lengths tell them apart. A printed code is typed from paper, so it carries check symbols:
the first eight as a number, modulo the prime 1021, in two symbols. With 32 per place, that shows
every wrong symbol and every swap of two neighbours before an attempt is spent on it; a guesser
gains nothing, for the check follows from the rest. A shown code has none: it stands on a screen and
the next try gets another one.

The secret of a printed code is stretched (`code.printed_secret`), which takes about a second on a
small board; the device stores that and never the code.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from peer.errors import Malformed
from peer.identity import CROCKFORD, Fingerprint
from peer.pairing.code import printed_secret, shown_secret

SHOWN_DIGITS = 8
PRINTED_SYMBOLS = 8
_CHECK_SYMBOLS = 2
_CHECK_PRIME = 1021  # the largest below 32²
_BITS = 5  # of a Crockford symbol
_MISREAD = str.maketrans("OIL", "011", " -\t\n")


@dataclass(frozen=True, slots=True)
class TypedCode:
    """One code. The `repr` does not show it."""

    symbols: str = field(repr=False)
    is_printed: bool = False

    @classmethod
    def shown(cls, random_bytes: Callable[[int], bytes]) -> Self:
        """A new code for one use, from 64 random bits: no code is likelier than another by more
        than one part in 10^11."""
        return cls(f"{int.from_bytes(random_bytes(8)) % 10**SHOWN_DIGITS:0{SHOWN_DIGITS}}")

    @classmethod
    def printed(cls, random_bytes: Callable[[int], bytes]) -> Self:
        """A new one for a label: 40 bits."""
        number = int.from_bytes(random_bytes(PRINTED_SYMBOLS * _BITS // 8))
        return cls(_symbols(number, PRINTED_SYMBOLS) + _check(number), is_printed=True)

    @classmethod
    def parse_untrusted(cls, text: object) -> Self:
        """What a person typed, in any case, with blanks and hyphens anywhere.

        Raises `Malformed`, whose words do not repeat it.
        """
        plain = text.upper().translate(_MISREAD) if isinstance(text, str) else ""
        if len(plain) == SHOWN_DIGITS and plain.isascii() and plain.isdecimal():
            return cls(plain)
        if len(plain) != PRINTED_SYMBOLS + _CHECK_SYMBOLS or not set(plain) <= set(CROCKFORD):
            raise Malformed(
                "the text is not a pairing code",
                advice="A code on a screen has 8 digits, a code on a label 10 letters and digits.",
            )
        if _check(_number(plain[:PRINTED_SYMBOLS])) != plain[PRINTED_SYMBOLS:]:
            raise Malformed(
                "the code contains a typing error",
                advice="Compare it with the label. This did not count as an attempt.",
            )
        return cls(plain, is_printed=True)

    @property
    def text(self) -> str:
        """For people: groups of four."""
        return "-".join(self.symbols[at : at + 4] for at in range(0, len(self.symbols), 4))

    def secret(self, device: Fingerprint) -> bytes:
        """What J-PAKE takes. For a printed code this costs a second."""
        if self.is_printed:
            return printed_secret(self.symbols, device)
        return shown_secret(self.symbols)


def _check(number: int) -> str:
    return _symbols(number % _CHECK_PRIME, _CHECK_SYMBOLS)


def _symbols(number: int, count: int) -> str:
    return "".join(CROCKFORD[number >> _BITS * at & 31] for at in reversed(range(count)))


def _number(symbols: str) -> int:
    number = 0
    for symbol in symbols:
        number = number << _BITS | CROCKFORD.index(symbol)
    return number
