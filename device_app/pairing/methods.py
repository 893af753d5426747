"""The pairing methods of this board: what it has to show, and the secrets behind them.

    display   a screen or a terminal where the window is opened: shown codes, six digits
    label     what `handfast-device label` printed: a QR code with a token, and a code to type
    button    a press opens a window in which the first client pairs, with nothing to compare

A shown code is for one ceremony: whatever becomes of it, the next one gets another. A label stays,
so the device keeps a verifier of its token and a stretched form of its code, and neither in clear;
its code is dead after some failures in a row (`Limits.printed_code_failures`), until the console
revives it; the token is not, because 128 bits cannot be guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, assert_never

from peer.errors import UsageError
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.pairing import button, code, compare, jpake, label, sas
from peer.pairing.label import TOKEN_BYTES, Label
from peer.pairing.methods import Method
from peer.pairing.sides import OfferedMethod, RandomBytes
from peer.pairing.typed import TypedCode

LABEL_RECORD = "label"  # its entry among the store's attempt counters


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a board has, by its configuration."""

    display: bool = True
    label: bool = True
    button: bool = False


@dataclass(frozen=True, slots=True)
class StoredLabel:
    """What the device remembers of its label. Empty bytes: there is none."""

    token_verifier: bytes = field(default=b"", repr=False)
    code_secret: bytes = field(default=b"", repr=False)
    failures: int = 0  # of its code, since the last success

    @property
    def is_made(self) -> bool:
        """Whether there is a label."""
        return bool(self.token_verifier)

    def is_code_dead(self, limits: Limits) -> bool:
        """Whether its code was guessed at too often."""
        return self.failures >= limits.printed_code_failures

    @classmethod
    def made(cls, device: Fingerprint, random_bytes: RandomBytes) -> tuple[Self, Label, TypedCode]:
        """A new label, and what to remember of it. It takes about a second on a small board."""
        label, code = Label(device, random_bytes(TOKEN_BYTES)), TypedCode.printed(random_bytes)
        return cls(label.verifier, code.secret(device)), label, code

    @classmethod
    def restored(cls, record: object) -> Self:
        """From the store. A record that is damaged is no label: nobody pairs by it."""
        if not isinstance(record, Mapping):
            return cls()
        token, code, failures = (record.get(name) for name in ("token", "code", "failures"))
        if isinstance(failures, bool) or not isinstance(failures, int) or failures < 0:
            return cls()
        try:
            return cls(bytes.fromhex(str(token)), bytes.fromhex(str(code)), failures)
        except ValueError:
            return cls()

    def record(self) -> dict[str, object]:
        """The form to persist; no token and no code is in it."""
        return {
            "token": self.token_verifier.hex(),
            "code": self.code_secret.hex(),
            "failures": self.failures,
        }


class BoardMethods:
    """The methods that this board can offer now, and the code that it shows."""

    def __init__(
        self,
        hardware: Hardware,
        label: StoredLabel,
        device: Fingerprint,
        *,
        random_bytes: RandomBytes,
        limits: Limits,
        counts_tries: Callable[[], bool] = lambda: True,
    ) -> None:
        self.hardware = hardware
        self._label = label
        self._device = device
        self._random_bytes = random_bytes
        self._limits = limits
        self._counts_tries = counts_tries
        self._shown: TypedCode | None = None
        self._is_printed = False  # the code that was last asked for

    @property
    def label(self) -> StoredLabel:
        """What the device remembers of its label."""
        return self._label

    def replace_label(self, label: StoredLabel) -> None:
        """Offer this label from now on; the caller has stored it."""
        self._label = label

    @property
    def shown_code(self) -> str:
        """For the display: the code of the next ceremony, or nothing."""
        return self._shown.text if self._shown is not None else ""

    def offered(
        self, wanted: Sequence[str], *, pressed: bool, counts_tries: bool = True
    ) -> list[OfferedMethod]:
        """Return the methods of a window, in order of preference.

        Args:
            wanted: the names of the methods; none means all that are possible.
            pressed: whether the board's button opens the window.
            counts_tries: False for a window with an attempt budget of its own, in which a blocked
                code may be tried.

        Raises:
            UsageError: a method is unknown, or this board cannot offer it.
        """
        required = [_method_named(name) for name in wanted]
        for method in required:
            if lacking := self.lacking(method, pressed=pressed, counts_tries=counts_tries):
                raise UsageError(
                    f"the method {method} cannot be offered: {lacking}",
                    advice="Offer another method, or correct the table [board] of device.toml.",
                )
        return [
            self._offer(method)
            for method in Method
            if method in required
            or not (required or self.lacking(method, pressed=pressed, counts_tries=counts_tries))
        ]

    def lacking(self, method: Method, *, pressed: bool, counts_tries: bool = True) -> str:
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
                is_missing = not (hardware.display or self._printed_code(counts_tries=counts_tries))
                why = "this board has no display, and no usable code on a label"
            case Method.SAS:
                is_missing = not hardware.display
                why = "this board has no display for the six digits"
            case Method.COMPARE:
                return ""
            case Method.BUTTON:
                is_missing, why = not pressed, "it needs a window that the board's button opened"
            case _:
                assert_never(method)
        return why if is_missing else ""

    def renew(self, *, wanted: bool) -> None:
        """Show another code from now on, or none."""
        can = wanted and self.hardware.display and not jpake.unavailable()
        self._shown = TypedCode.shown(self._random_bytes) if can else None

    def succeeded(self, method: Method) -> None:
        """Somebody has paired. By the printed code: its failures are forgotten."""
        if method is Method.CODE and self._is_printed:
            self._label = replace(self._label, failures=0)

    def _offer(self, method: Method) -> OfferedMethod:
        match method:
            case Method.LABEL:
                return label.offer(lambda: self._label.token_verifier)
            case Method.CODE:
                return code.offer(self._secret, self._random_bytes, self._count_try)
            case Method.SAS:
                return sas.offer(self._random_bytes)
            case Method.COMPARE:
                return compare.offer()
            case Method.BUTTON:
                return button.offer()
            case _:
                assert_never(method)

    def _secret(self, *, printed: bool) -> bytes:
        """The secret that a ceremony is about."""
        self._is_printed = printed
        if printed:
            secret = self._printed_code(counts_tries=self._counts_tries())
        else:
            secret = self._shown.secret(self._device) if self._shown is not None else b""
        return secret or self._random_bytes(len(self._label.code_secret) or 32)

    def _count_try(self, *, printed: bool) -> None:
        """A try at the printed code, a failure until it succeeds; the caller stores it before it
        answers."""
        if printed and self._counts_tries() and self._printed_code(counts_tries=True):
            self._label = replace(self._label, failures=self._label.failures + 1)

    @property
    def is_code_dead(self) -> bool:
        """Whether the printed code was guessed at too often."""
        return self._label.is_code_dead(self._limits)

    def _printed_code(self, *, counts_tries: bool) -> bytes:
        """Empty where there is none, or where it was guessed at too often and tries count."""
        can = self.hardware.label and not (counts_tries and self.is_code_dead)
        return self._label.code_secret if can else b""


def _method_named(name: str) -> Method:
    method = Method.named(name)
    if method is None:
        raise UsageError(
            f"there is no pairing method {name!r}", advice=f"Choose from: {', '.join(Method)}."
        )
    return method
