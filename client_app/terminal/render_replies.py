"""Output of responses to requests, as text and as JSON.

Importing this module registers the type with `render`; only the verbs that need it import it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from client_app.content import Reply
from client_app.terminal.render import NEXT_STEPS, as_json, as_text, plain, raw_bytes
from peer.errors import PeerError
from peer.terminal.text import on_lines

FORMATS: Final[Mapping[int | None, str]] = {
    0: "text",
    40: "links",
    42: "octets",
    50: "json",
    60: "cbor",
}
_WIDE: Final = 160  # characters of a value that is printed on one line


def _payload(reply: Reply) -> bytes:
    return reply.payload


def _done(reply: Reply) -> str:
    return f"done ({reply.code})"


raw_bytes[Reply] = _payload
NEXT_STEPS[Reply] = _done


@as_json.register
def _(value: Reply) -> dict[str, object]:
    return {
        "code": value.code,
        "format": FORMATS.get(value.format, value.format),
        "value": plain(_value_of(value)),
    } | ({"gap": plain(asdict(value.gap))} if value.gap else {})


def _value_of(reply: Reply) -> object:
    """The body as a value; as bytes if it does not parse in its content format."""
    try:
        return reply.value
    except PeerError:
        return reply.payload


@as_text.register
def _(reply: Reply) -> str:
    value = _value_of(reply)
    match value:
        case str():
            return on_lines(value).removesuffix("\n")
        case bytes():
            return f"{len(value)} bytes: {value.hex(' ')}" if value else ""
        case _:
            return readable(value)


def readable(value: object) -> str:
    """A CBOR or JSON value as escaped text: on one line if it is short, bytes as h'…'."""
    shown = _shown(value)
    line = json.dumps(shown, ensure_ascii=False)
    if len(line) > _WIDE:
        line = json.dumps(shown, ensure_ascii=False, indent=2)
    return on_lines(line)


def _shown(value: object) -> object:
    match value:
        case bytes():
            return f"h'{value.hex()}'"
        case list():
            return [_shown(item) for item in value]
        case Mapping():
            return {str(key): _shown(item) for key, item in value.items()}
        case _:
            return value
