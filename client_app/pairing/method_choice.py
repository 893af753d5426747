"""Choosing the pairing method from what the device offers and what this side's user can do.

The first usable member of `peer.pairing.methods.Method` is chosen. A man in the middle can remove
methods from the device's offer, so every method that can be chosen automatically is secure by
itself. A method that verifies no key (`button`) is used only if the user names it.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from client_app.pairing.arguments import AskCode
from client_app.pairing.ceremony import Confirm
from client_app.pairing.messages import Offer
from peer.errors import Malformed, PinMismatch, UsageError
from peer.pairing import jpake
from peer.pairing.button import ButtonClient
from peer.pairing.code import CodeClient
from peer.pairing.compare import CompareClient
from peer.pairing.label import Label, LabelClient
from peer.pairing.methods import Method
from peer.pairing.sas import SasClient
from peer.pairing.sides import ClientSide, Session
from peer.pairing.typed import TypedCode

SideMaker = Callable[[Session], ClientSide]
"""Creates the client's side of a method for one session."""


def meaning(method: Method) -> str:
    """Return what a pairing by this method proves, as text for the user."""
    match method:
        case Method.LABEL:
            return "the label proved the device's key, and that you have the label"
        case Method.CODE:
            return "both sides proved that they know the code"
        case Method.SAS:
            return "equal six-digit numbers on both sides rule out a man in the middle"
        case Method.COMPARE:
            return "both keys are proved, provided that you compared all digits"
        case Method.BUTTON:
            return "nothing is verified; a man in the middle would go unnoticed"
        case _:
            assert_never(method)


@dataclass(frozen=True, slots=True)
class MethodInputs:
    """The inputs for the methods that this side has.

    Attributes:
        method: the only method to use; empty for the best one.
        confirm: asks this side's user to compare; None if the user cannot be asked.
        ask_code: asks for the code; None if there is none and the user cannot be asked.
        label: the label of the device.
        is_key_expected: the session has the fingerprint that was expected, so no one compares it.
    """

    method: str = ""
    confirm: Confirm | None = None
    ask_code: AskCode | None = field(default=None, repr=False)
    label: Label | None = None
    is_key_expected: bool = False

    def method_for(self, offer: Offer) -> Method:
        """Return the best method that both sides can use.

        Raises `UsageError` with what prevents each method.
        """
        wanted = Method.LABEL if self.label is not None else self.method
        if wanted:
            return self._wanted(wanted, offer)
        offered = _known(offer)
        for method in offered:
            if method.spec.verifies_key and not self._lacking(method):
                return method
        why = "; ".join(
            f"{method}: {lacking}" for method in offered if (lacking := self._lacking(method))
        )
        raise UsageError(
            f"none of the device's pairing methods can be used here "
            f"({why or 'this version knows none of them'})",
            advice="Choose a method with --method, or open the pairing window with another method.",
        )

    def passed_over(self, offer: Offer, chosen: Method) -> str:
        """Return why a stronger method of the offer is not used, if a library is missing here."""
        no_curve = jpake.unavailable()
        offered = _known(offer)
        if self.method or not no_curve or Method.CODE not in offered:
            return ""
        if chosen not in offered[offered.index(Method.CODE) :]:
            return ""
        return f"the method code is stronger than {chosen} and cannot be used here: {no_curve}"

    def _wanted(self, name: str, offer: Offer) -> Method:
        offered = _known(offer)
        method = Method.named(name)
        if method is None or method not in offered:
            raise UsageError(
                f"the device does not offer the pairing method {name}; "
                f"it offers: {', '.join(offered) or 'none'}",
                advice=f"On the device, {_offering(name)}, or use a method that it offers.",
            )
        if lacking := self._lacking(method):
            raise UsageError(
                f"the pairing method {name} cannot be used here: {lacking}",
                advice="Give what is missing, or choose another method with --method.",
            )
        return method

    def _lacking(self, method: Method) -> str:
        """Return what this side does not have for a method; empty if nothing is missing."""
        match method:
            case Method.LABEL:
                is_missing = self.label is None
                why = "TARGET is neither a picture of the device's label nor its text"
            case Method.CODE:
                if no_curve := jpake.unavailable():
                    return no_curve
                is_missing = self.ask_code is None
                why = "no code is given, and there is no terminal to ask for it"
            case Method.SAS:
                is_missing = self.confirm is None
                why = "there is no terminal to compare the numbers"
            case Method.COMPARE:
                is_missing = self.confirm is None and not self.is_key_expected
                why = "there is no terminal to compare the fingerprints"
            case Method.BUTTON:
                return ""
            case _:
                assert_never(method)
        return why if is_missing else ""

    async def side_maker(self, method: Method) -> SideMaker:
        """Return what creates this client's side of the method; ask for a code if it needs one.

        A client may need more than one side: a session that ends before the start is replaced.
        Raises `UsageError` for a text that is not a code.
        """
        match method:
            case Method.LABEL:
                assert self.label is not None
                return partial(_label_side, label=self.label)
            case Method.CODE:
                code = await self._code()
                return lambda session: CodeClient(session, code, secrets.token_bytes)
            case Method.SAS:
                return lambda _session: SasClient(secrets.token_bytes)
            case Method.COMPARE:
                return lambda _session: CompareClient()
            case Method.BUTTON:
                return lambda _session: ButtonClient()
            case _:
                assert_never(method)

    async def _code(self) -> TypedCode:
        assert self.ask_code is not None
        try:
            return TypedCode.parse_untrusted(await self.ask_code())
        except Malformed as error:
            raise UsageError(str(error), advice=error.advice) from None


def _offering(name: str) -> str:
    """Return what makes a device offer a method, as advice."""
    if name == Method.BUTTON:
        return "press the board's button"
    return f"run `handfast-device open --methods {name}`"


def _label_side(session: Session, label: Label) -> ClientSide:
    if label.device != session.device:
        raise PinMismatch(label.device.hex, session.device.hex, is_known=False)
    return LabelClient(session, label)


def _known(offer: Offer) -> list[Method]:
    """Return the methods of an offer that this version knows, in order of preference."""
    return [method for method in Method if method in offer.methods]
