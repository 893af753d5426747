"""A value that no `repr`, log line or error message shows."""

from hmac import compare_digest
from typing import Generic, TypeVar

T = TypeVar("T", bound=bytes | str)


class Secret(Generic[T]):
    """Key bytes or a password. `reveal()` is the only way to the value.

    Two secrets are equal if their values are. The comparison takes a time that does not depend on
    where they differ. It is not a dataclass, so `dataclasses.asdict` does not open it, and no JSON
    or CBOR encoder accepts it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """Return the value. Use it at once, and keep it nowhere."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret) or type(other._value) is not type(self._value):
            return NotImplemented
        return compare_digest(_as_bytes(self._value), _as_bytes(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        """Whether the value is not empty."""
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"


def _as_bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
