"""The closed registry of pairing methods (protocol §5).

Each method has a file of its own with its device side and its client side. These are their message
fields, beside those that all methods have:

    method   start          answer    exchange       answer    confirm            answer
    label                                                      token, confirm     confirm
    code     round_one      rounds                             round_two, confirm confirm
    sas                     commit    nonce          nonce     confirm            confirm
    compare                                                    confirm            confirm
    button                                                     confirm            confirm

To add a method: add a member and its `MethodSpec` here, write its file, then run mypy. Every place
that depends on the method is a `match` that ends in `assert_never`, so mypy lists what is missing.
"""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Self, assert_never


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """The properties of a method.

    Attributes:
        needs_code: the client's user types a code of the device before the start.
        has_exchange: messages pass between the start and the confirmation.
        users_compare: both users compare something, so the device waits for its user's answer.
        verifies_key: the method proves both keys. If not, a client uses it only on request, and the
            device grants the role for unverified keys.
        keeps_receipt: only the device's tag proves the device's key to the client. The device keeps
            a receipt of it for a client that lost the last message (protocol §5.8).
    """

    needs_code: bool = False
    has_exchange: bool = False
    users_compare: bool = False
    verifies_key: bool = True
    keeps_receipt: bool = False


@unique
class Method(StrEnum):
    """A pairing method by its name on the wire, in order of preference.

    The order: methods that prove the most and ask the least of users come first.
    """

    LABEL = "label"
    CODE = "code"
    SAS = "sas"
    COMPARE = "compare"
    BUTTON = "button"

    @classmethod
    def named(cls, name: str) -> Self | None:
        """Return the method of this name; None if this version has no such method."""
        return next((method for method in cls if method == name), None)

    @property
    def spec(self) -> MethodSpec:
        """The properties of this method."""
        match self:
            case Method.LABEL:
                return MethodSpec()
            case Method.CODE:
                return MethodSpec(needs_code=True, keeps_receipt=True)
            case Method.SAS:
                return MethodSpec(has_exchange=True, users_compare=True)
            case Method.COMPARE:
                return MethodSpec(users_compare=True)
            case Method.BUTTON:
                return MethodSpec(verifies_key=False)
            case _:
                assert_never(self)
