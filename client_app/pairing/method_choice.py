"""Choosing the pairing method from what the device offers and what this side's user can do.

The first usable method of `peer.pairing.methods.NAMES` is chosen. A man in the middle can remove
methods from the device's offer, so every method that can be chosen automatically is secure by
itself. `button`, which proves nothing, is used only if the user names it.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from client_app.pairing.ceremony import Confirm, Offer
from peer.errors import Malformed, PinMismatch, UsageError
from peer.pairing import jpake, methods
from peer.pairing.armour import INVITE, is_armoured, kind_untrusted
from peer.pairing.label import Label
from peer.pairing.methods import ClientSide, Session
from peer.pairing.typed import TypedCode

AskCode = Callable[[], Awaitable[str]]
"""Asks this side's user for the code on the device's screen or label."""

MEANING: Mapping[str, str] = {
    methods.LABEL: "the label proved the device's key, and that you have the label",
    methods.CODE: "both sides proved that they know the code",
    methods.SAS: "equal six-digit numbers on both sides rule out a man in the middle",
    methods.COMPARE: "the fingerprints prove both keys, provided that you compared all digits",
    methods.BUTTON: "nothing is proved: a man in the middle would not have been noticed",
}
"""What each method proves, as text for the user."""


def is_invite(text: str) -> bool:
    """Whether this is the text of an invite. Raises `UsageError` for one with an error in it."""
    if not is_armoured(text):
        return False
    try:
        return kind_untrusted(text) == INVITE
    except Malformed as error:
        raise UsageError(str(error), advice=error.advice) from None


def scanned(text: str) -> Label | None:
    """The label, if this is the text of one. Raises `UsageError` for one with an error in it."""
    if not is_armoured(text):
        return None
    try:
        return Label.parse_untrusted(text)
    except Malformed as error:
        raise UsageError(str(error), advice=error.advice) from None


@dataclass(frozen=True, slots=True)
class Means:
    """What this side's user brings. `method`: this one and no other. `is_vouched`: the device's
    fingerprint was known beforehand, and is the one that the session has."""

    method: str = ""
    confirm: Confirm | None = None
    ask_code: AskCode | None = field(default=None, repr=False)
    label: Label | None = None
    is_vouched: bool = False

    def method_for(self, offer: Offer) -> str:
        """The best method that both can do. Raises `UsageError` with what is in the way."""
        wanted = methods.LABEL if self.label is not None else self.method
        if wanted:
            return self._wanted(wanted, offer)
        for name in methods.NAMES:
            if name in offer.methods and name != methods.BUTTON and not self._lacking(name):
                return name
        why = "; ".join(
            f"{name}: {lacking}"
            for name in offer.methods
            if name in methods.NAMES and (lacking := self._lacking(name))
        )
        raise UsageError(
            f"none of the device's pairing methods can be used here "
            f"({why or 'this version knows none of them'})",
            advice="Choose a method with --method, or open the pairing window with another method.",
        )

    def _wanted(self, name: str, offer: Offer) -> str:
        if name not in offer.methods:
            offered = ", ".join(one for one in offer.methods if one in methods.NAMES) or "none"
            raise UsageError(
                f"the device does not offer the pairing method {name}; it offers: {offered}",
                advice=f"Open the pairing window with {name}, or use a method that it offers.",
            )
        if lacking := self._lacking(name):
            raise UsageError(f"the pairing method {name} cannot be used: {lacking}")
        return name

    def _lacking(self, name: str) -> str:
        """What this side does not have for a method."""
        match name:
            case methods.LABEL if self.label is None:
                return "the text of the device's label is not given"
            case methods.CODE if jpake.unavailable():
                return jpake.unavailable()
            case methods.CODE if self.ask_code is None:
                return "no code is given, and there is no terminal to ask for it"
            case methods.SAS if self.confirm is None:
                return "there is no terminal to compare the numbers"
            case methods.COMPARE if self.confirm is None and not self.is_vouched:
                return "there is no terminal to compare the fingerprints"
            case _:
                return ""

    async def code_for(self, name: str) -> TypedCode | None:
        """The code, asked for where that is the method. A person may take their time over it.

        Raises `UsageError` for a text that is none.
        """
        if name != methods.CODE:
            return None
        assert self.ask_code is not None
        try:
            return TypedCode.parse_untrusted(await self.ask_code())
        except Malformed as error:
            raise UsageError(str(error), advice=error.advice) from None

    def side_for(self, name: str, session: Session, code: TypedCode | None) -> ClientSide:
        """Our half of the method, for one session; `code` is that of `code_for`."""
        match name:
            case methods.LABEL:
                assert self.label is not None
                if self.label.device != session.device:
                    raise PinMismatch(self.label.device.hex, session.device.hex, is_known=False)
                return methods.LabelClient(session, self.label)
            case methods.CODE:
                assert code is not None
                return methods.CodeClient(session, code, secrets.token_bytes)
            case methods.SAS:
                return methods.SasClient(secrets.token_bytes)
            case _:
                return methods.TagsClient(method=name)
