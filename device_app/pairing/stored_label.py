"""The stored form of a board's label: enough to verify its token and its code, neither in clear.

The code is blocked after some failures in a row (`Limits.printed_code_failures`) until the console
unblocks it. The token is never blocked, since no one can guess 128 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from peer.identity import Fingerprint
from peer.limits import Limits
from peer.pairing.label import TOKEN_BYTES, Label
from peer.pairing.sides import RandomBytes
from peer.pairing.typed import TypedCode

LABEL_RECORD = "label"  # the key of the label's entry among the store's attempt counters


@dataclass(frozen=True, slots=True)
class StoredLabel:
    """The stored form of the device's label. Empty bytes mean that there is no label."""

    token_verifier: bytes = field(default=b"", repr=False)
    code_secret: bytes = field(default=b"", repr=False)
    failures: int = 0  # attempts at its code since the last success

    @property
    def is_made(self) -> bool:
        """Whether there is a label."""
        return bool(self.token_verifier)

    def is_code_blocked(self, limits: Limits) -> bool:
        """Return whether too many attempts at its code have failed."""
        return self.failures >= limits.printed_code_failures

    @classmethod
    def create(
        cls, device: Fingerprint, random_bytes: RandomBytes
    ) -> tuple[Self, Label, TypedCode]:
        """Create a label; return its stored form, the label and its code.

        This takes about a second on a small board.
        """
        label, code = Label(device, random_bytes(TOKEN_BYTES)), TypedCode.printed(random_bytes)
        return cls(label.verifier, code.secret(device)), label, code

    @classmethod
    def from_record(cls, record: object) -> Self:
        """Return the label of a stored record; a damaged record gives no label."""
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
        """Return the form to store; it contains no token and no code."""
        return {
            "token": self.token_verifier.hex(),
            "code": self.code_secret.hex(),
            "failures": self.failures,
        }
