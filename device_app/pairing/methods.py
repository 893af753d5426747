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
from typing import Self

from peer.errors import UsageError
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.pairing import jpake, methods
from peer.pairing.label import TOKEN_BYTES, Label
from peer.pairing.sides import OfferedMethod
from peer.pairing.typed import TypedCode

RandomBytes = Callable[[int], bytes]
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
        """The methods of a window, the best first. `wanted` are names, none for all that can be.

        `counts_tries` is False for a window with attempts of its own, which a dead code does not
        concern. Raises `UsageError` for one that is not known, or that this board cannot do.
        """
        for name in wanted:
            if name not in methods.NAMES:
                raise UsageError(
                    f"there is no pairing method {name!r}",
                    advice=f"Choose from: {', '.join(methods.NAMES)}.",
                )
            if lacking := self.lacking(name, pressed=pressed, counts_tries=counts_tries):
                raise UsageError(
                    f"the method {name} cannot be offered: {lacking}",
                    advice="Offer another one, or say in the table [board] of device.toml what the "
                    "board has.",
                )
        found = [
            name
            for name in methods.NAMES
            if (
                name in wanted
                if wanted
                else not self.lacking(name, pressed=pressed, counts_tries=counts_tries)
            )
        ]
        return [self._made(name) for name in found]

    def lacking(self, name: str, *, pressed: bool, counts_tries: bool = True) -> str:
        """What a method needs and this board does not have, or nothing."""
        hardware = self.hardware
        no_curve = jpake.unavailable()
        reasons = (
            (methods.LABEL, not hardware.label, "this board has no label, by its configuration"),
            (
                methods.LABEL,
                not self._label.is_made,
                "there is no label yet; print one with `handfast-device label`",
            ),
            (methods.CODE, bool(no_curve), no_curve),
            (
                methods.CODE,
                not (hardware.display or self._printed_code(counts_tries=counts_tries)),
                "this board has no display, and no code on a label that can be used",
            ),
            (methods.SAS, not hardware.display, "this board has no display for the six digits"),
            (methods.BUTTON, not pressed, "it is for windows that the board's button opened"),
        )
        return next((why for one, lacks, why in reasons if one == name and lacks), "")

    def renew(self, *, wanted: bool) -> None:
        """Show another code from now on, or none."""
        can = wanted and self.hardware.display and not jpake.unavailable()
        self._shown = TypedCode.shown(self._random_bytes) if can else None

    def succeeded(self, method: str) -> None:
        """Somebody has paired. By the printed code: its failures are forgotten."""
        if method == methods.CODE and self._is_printed:
            self._label = replace(self._label, failures=0)

    def _made(self, name: str) -> OfferedMethod:
        match name:
            case methods.LABEL:
                return methods.label(lambda: self._label.token_verifier)
            case methods.CODE:
                return methods.code(self._secret, self._random_bytes, self._count_try)
            case methods.SAS:
                return methods.sas(self._random_bytes)
            case methods.BUTTON:
                return methods.button()
            case _:
                return methods.compare()

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
