"""The pairing methods that this board can offer, and the code that it shows.

The methods depend on the hardware (`hardware`) and on the label (`stored_label`). A shown code is
for one ceremony: however it ends, the next one gets another code.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from device_app.pairing.hardware import Hardware
from device_app.pairing.stored_label import StoredLabel
from peer.errors import UsageError
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.pairing import button, code, compare, jpake, label, sas
from peer.pairing.methods import Method
from peer.pairing.sides import OfferedMethod, RandomBytes
from peer.pairing.typed import TypedCode


class BoardMethods:
    """The methods that this board can offer, and the code that it shows.

    `counts_attempts` returns whether the open window counts attempts at the printed code; a window
    with an attempt budget of its own does not.
    """

    def __init__(
        self,
        hardware: Hardware,
        label: StoredLabel,
        device: Fingerprint,
        *,
        random_bytes: RandomBytes,
        limits: Limits,
        counts_attempts: Callable[[], bool] = lambda: True,
    ) -> None:
        self.hardware = hardware
        self._label = label
        self._device = device
        self._random_bytes = random_bytes
        self._limits = limits
        self._counts_tries = counts_attempts
        self._shown: TypedCode | None = None
        self._is_printed = False  # whether the last ceremony was about the printed code

    @property
    def label(self) -> StoredLabel:
        """The stored form of the device's label."""
        return self._label

    def replace_label(self, label: StoredLabel) -> None:
        """Offer this label from now on; the caller has stored it."""
        self._label = label

    @property
    def shown_code(self) -> str:
        """The code of the next ceremony, for the display; empty if none is shown."""
        return self._shown.text if self._shown is not None else ""

    def offered(
        self, wanted: Sequence[str], *, pressed: bool, counts_attempts: bool = True
    ) -> list[OfferedMethod]:
        """Return the methods of a window, in order of preference.

        Args:
            wanted: the names of the methods; none means all that are possible.
            pressed: whether the board's button opens the window.
            counts_attempts: False for a window with an attempt budget of its own, in which a
                blocked code is valid.

        Raises:
            UsageError: a method is unknown, or this board cannot offer it.
        """
        required = [_method_named(name) for name in wanted]
        for method in required:
            if lacking := self.lacking(method, pressed=pressed, counts_attempts=counts_attempts):
                is_installed = method not in self.not_installed()
                correction = "correct the table [board] of device.toml"
                raise UsageError(
                    f"the method {method} cannot be offered: {lacking}",
                    advice=f"Offer another method, or {correction}."
                    if is_installed
                    else "Then start the daemon again. All other methods work without it.",
                )
        return [
            self._offer(method)
            for method in Method
            if method in required
            or not (
                required or self.lacking(method, pressed=pressed, counts_attempts=counts_attempts)
            )
        ]

    def lacking(self, method: Method, *, pressed: bool, counts_attempts: bool = True) -> str:
        """Return what a method needs and this board does not have; empty if nothing is missing."""
        hardware = self.hardware
        match method:
            case Method.LABEL:
                if not hardware.label:
                    return "this board has no label, by its configuration"
                is_missing = not self._label.is_made
                why = "there is no label yet; print one with `handfast-device label`"
            case Method.CODE:
                if no_curve := jpake.unavailable():
                    return no_curve
                is_missing = not (
                    hardware.display or self._printed_code(counts_attempts=counts_attempts)
                )
                why = "this board has no display, and no usable code on a label"
            case Method.SAS:
                is_missing = not hardware.display
                why = "this board has no display for the six digits"
            case Method.COMPARE:
                return ""
            case Method.BUTTON:
                is_missing, why = not pressed, "only a press of the board's button offers it"
            case _:
                assert_never(method)
        return why if is_missing else ""

    @staticmethod
    def missing() -> dict[str, str]:
        """Return what `not_installed` does, as far as that is known without loading a library."""
        no_curve = jpake.missing()
        return {Method.CODE.value: no_curve} if no_curve else {}

    def not_installed(self) -> dict[str, str]:
        """Return the methods whose library is missing on this device, each with the reason."""
        no_curve = jpake.unavailable()
        return {Method.CODE.value: no_curve} if no_curve else {}

    def renew(self, *, wanted: bool) -> None:
        """Show another code from now on; none if `wanted` is false or the board cannot show one."""
        can = wanted and self.hardware.display and not jpake.unavailable()
        self._shown = TypedCode.shown(self._random_bytes) if can else None

    def succeeded(self, method: Method) -> None:
        """A client has paired by this method: clear the printed code's failures if it was used."""
        if method is Method.CODE and self._is_printed:
            self._label = replace(self._label, failures=0)

    def _offer(self, method: Method) -> OfferedMethod:
        match method:
            case Method.LABEL:
                return label.offer(lambda: self._label.token_verifier)
            case Method.CODE:
                return code.offer(self._secret, self._random_bytes, self._count_attempt)
            case Method.SAS:
                return sas.offer(self._random_bytes)
            case Method.COMPARE:
                return compare.offer()
            case Method.BUTTON:
                return button.offer()
            case _:
                assert_never(method)

    def _secret(self, *, printed: bool) -> bytes:
        """Return the secret of a ceremony: random bytes if there is no such code."""
        self._is_printed = printed
        if printed:
            secret = self._printed_code(counts_attempts=self._counts_tries())
        else:
            secret = self._shown.secret(self._device) if self._shown is not None else b""
        return secret or self._random_bytes(len(self._label.code_secret) or 32)

    def _count_attempt(self, *, printed: bool) -> None:
        """Count an attempt at the printed code; the caller stores the count before it answers."""
        if printed and self._counts_tries() and self._printed_code(counts_attempts=True):
            self._label = replace(self._label, failures=self._label.failures + 1)

    @property
    def is_code_blocked(self) -> bool:
        """Whether too many attempts at the printed code have failed."""
        return self._label.is_code_blocked(self._limits)

    def _printed_code(self, *, counts_attempts: bool) -> bytes:
        """Return the secret of the printed code; empty if there is none, or if it is blocked."""
        can = self.hardware.label and not (counts_attempts and self.is_code_blocked)
        return self._label.code_secret if can else b""


def _method_named(name: str) -> Method:
    method = Method.named(name)
    if method is None:
        raise UsageError(
            f"there is no pairing method {name!r}", advice=f"Choose from: {', '.join(Method)}."
        )
    return method
