"""Parsing and checking of the arguments of a pairing, before a connection is opened."""

from collections.abc import Awaitable, Callable

from client_app.aliases import check_alias
from peer.errors import Malformed, PinMismatch, UsageError
from peer.identity import Fingerprint
from peer.pairing.armour import INVITE, is_armoured, kind_untrusted
from peer.pairing.label import Label
from peer.pairing.names import check_name

AskName = Callable[[], Awaitable[str]]
"""Asks this side's user for the user name on the device."""

AskCode = Callable[[], Awaitable[str]]
"""Asks this side's user for the code on the device's screen or label."""


def is_invite(text: str) -> bool:
    """Whether a text is an invite. Raises `UsageError` if it is one with a mistake."""
    if not is_armoured(text):
        return False
    try:
        return kind_untrusted(text) == INVITE
    except Malformed as error:
        raise UsageError(str(error), advice=error.advice) from None


def parse_label(text: str) -> Label | None:
    """Parse the text of a label; None if it is none. Raises `UsageError` if it has a mistake."""
    if not is_armoured(text):
        return None
    try:
        return Label.parse_untrusted(text)
    except Malformed as error:
        raise UsageError(str(error), advice=error.advice) from None


def expected_key(device: Fingerprint, expected: Fingerprint | None) -> Fingerprint:
    """Return the key that a label or an invite names. Raises `PinMismatch`."""
    if expected not in {None, device}:
        assert expected is not None
        raise PinMismatch(expected.hex, device.hex, is_known=False)
    return device


class FixedText:
    """A name or a code that was given in advance, in place of a function that asks for it."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def __call__(self) -> str:
        """Return the text."""
        return self._text


def code_source(code: AskCode | str) -> AskCode | None:
    """Return a function that asks for the code; None for an empty code."""
    if not isinstance(code, str):
        return code
    return FixedText(code) if code else None


def name_source(name: AskName | str) -> AskName | None:
    """Return a function that asks for the name; None for an empty name."""
    if not isinstance(name, str):
        return name
    return FixedText(name) if name else None


def check_names(name: str, alias: str) -> None:
    """Raise `UsageError` for an invalid name or alias, before connecting."""
    if alias:
        check_alias(alias)
    if name:
        try:
            check_name(name)
        except Malformed as error:
            raise UsageError(str(error), advice=error.advice) from error
