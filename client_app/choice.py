"""Which method a pairing uses: what the device offers, what its user brings, and what is best.

The order is that of `peer.pairing.methods.NAMES`. What an attacker in between can do is take
methods out of the device's offer. So whatever is chosen has to be safe by itself, and `button`,
which proves nothing, is never chosen but by name.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from client_app.pairing import Confirm, Offer
from peer.errors import Malformed, PinMismatch, UsageError
from peer.pairing import jpake, methods
from peer.pairing.armour import INVITE, is_armoured, kind_untrusted
from peer.pairing.label import Label
from peer.pairing.methods import ClientSide, Session
from peer.pairing.typed import TypedCode

AskCode = Callable[[], Awaitable[str]]
"""Asks this side's user for the code that the device shows or bears."""

MEANING: Mapping[str, str] = {
    methods.LABEL: "the label proves the device, and that you hold it",
    methods.CODE: "only somebody who knows the code can be at the other end",
    methods.SAS: "the same six digits on both sides prove that nobody is in between",
    methods.COMPARE: "the fingerprints prove both keys, if all their digits are compared",
    methods.BUTTON: "nothing is proved: whoever answered first is taken for the device",
}
"""What each method proves, in words for people."""


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
            f"no pairing method that the device offers can be used here ({why or 'none is known'})",
            advice="Choose one with --method, or open the device's window with another.",
        )

    def _wanted(self, name: str, offer: Offer) -> str:
        if name not in offer.methods:
            offered = ", ".join(one for one in offer.methods if one in methods.NAMES) or "none"
            raise UsageError(
                f"the device does not offer the method {name} now; it offers: {offered}",
                advice="Use one of these, or open its window with the one you want.",
            )
        if lacking := self._lacking(name):
            raise UsageError(f"the method {name} cannot be used here: {lacking}")
        return name

    def _lacking(self, name: str) -> str:
        """What this side does not have for a method."""
        match name:
            case methods.LABEL if self.label is None:
                return "scan the device's label and give its text"
            case methods.CODE if jpake.unavailable():
                return jpake.unavailable()
            case methods.CODE if self.ask_code is None:
                return "nobody can be asked for the code; give it with --code"
            case methods.SAS if self.confirm is None:
                return "nobody can compare the digits"
            case methods.COMPARE if self.confirm is None and not self.is_vouched:
                return "nobody can compare the fingerprints"
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
