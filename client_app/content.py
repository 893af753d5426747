"""Bodies of requests and responses, with their content formats."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from client_app.limits import RESPONSE_BODY_BYTES
from peer import cbor, json_text
from peer.errors import UsageError

#: The body of `Device.put` and `Device.post`: bytes, text, or a value for JSON and CBOR.
Body = object


class Format(StrEnum):
    """Content formats by the names of the command line (RFC 7252 §12.3)."""

    CBOR = "cbor"
    JSON = "json"
    TEXT = "text"
    OCTETS = "octets"


NUMBERS: Mapping[Format, int] = MappingProxyType(
    {Format.TEXT: 0, Format.OCTETS: 42, Format.JSON: 50, Format.CBOR: 60}
)
_TEXTUAL = frozenset({0, 40, 50})  # 40: application/link-format (RFC 6690)


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which an observation received no states, since its session was lost.

    Attributes:
        reason: what happened, in words.
        seconds: how long it lasted; None while it lasts.
    """

    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2.xx response, or a state of an observation.

    Attributes:
        code: the response code, for example "2.05".
        payload: the body.
        format: the number of the content format, None if there is none.
        gap: the gap before this state of an observation, None if there is none.
    """

    code: str
    payload: bytes
    format: int | None = None
    gap: Gap | None = None

    @property
    def is_text(self) -> bool:
        """Whether the body is text: plain text, JSON, links, or UTF-8 without a format."""
        if self.format is not None:
            return self.format in _TEXTUAL
        try:
            self.payload.decode()
        except UnicodeDecodeError:
            return False
        return True

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.payload.decode("utf-8", "replace")

    @property
    def value(self) -> Any:  # noqa: ANN401 - like json.loads
        """The body as a value: CBOR and JSON parsed, text as str, the rest as bytes.

        Raises `Malformed` if the body does not parse in its content format.
        """
        match self.format:
            case 60:
                return cbor.decode_untrusted(self.payload, size=RESPONSE_BODY_BYTES)
            case 50:
                return json_text.decode_untrusted(self.payload)
            case _:
                return self.text if self.is_text else self.payload


def encoded(body: Body, body_format: Format | None) -> tuple[bytes, int | None]:
    """Encode a body; return the payload and the number of its content format.

    Bytes are sent as they are. Without a format, a string is sent as text and any other value as
    CBOR. Raises `UsageError` if the body cannot be encoded in the format.
    """
    if body is None and body_format is None:
        return b"", None
    if isinstance(body, bytes):
        return body, NUMBERS[body_format or Format.OCTETS]
    chosen = body_format or (Format.TEXT if isinstance(body, str) else Format.CBOR)
    try:
        return _encoders(chosen, body), NUMBERS[chosen]
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the body cannot be sent as {chosen}: {error}", advice="Choose another format."
        ) from error


def _encoders(chosen: Format, body: Body) -> bytes:
    match chosen:
        case Format.CBOR:
            return cbor.encode(body)
        case Format.JSON:
            return json.dumps(body, allow_nan=False).encode()
        case Format.TEXT | Format.OCTETS:
            return str(body).encode()
