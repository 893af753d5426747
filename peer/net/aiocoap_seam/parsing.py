"""Parse a CoAP message without letting its sender make aiocoap's tables grow."""

from typing import TypeVar

import aiocoap
from aiocoap.message import Direction
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import Type
from aiocoap.optiontypes import ContentFormatOption
from aiocoap.util import ExtensibleIntEnum

from peer.net.outline import Outline
from peer.net.remote import CoapsRemote

N = TypeVar("N", bound=ExtensibleIntEnum)


def decode_untrusted(
    message: bytes, outline: Outline, remote: CoapsRemote | None
) -> aiocoap.Message:
    """Return the message that `outline` describes. It differs from `Message.decode` in two ways.

    - Unknown numbers are not remembered. aiocoap's `ExtensibleIntEnum` stores each unknown number
      of an option, Content-Format or Accept in its class, without limit. A peer chooses these
      numbers, so each of its messages could make the process grow by kilobytes.
    - Unknown elective options are left out (RFC 7252 §5.4.1), and all but the first of the unknown
      critical ones, since aiocoap looks up each of their numbers. An option that an application
      defines (`OptionNumber(65000).format = …`) is known.

    Raises `UnicodeDecodeError` if an option that has to be UTF-8 is not.
    """
    made = aiocoap.Message(
        code=outline.code, payload=message[outline.payload_at :], _mid=outline.message_id
    )
    made.mtype, made.token = Type(outline.type), outline.token
    made.remote, made.direction = remote, Direction.INCOMING
    options, has_unknown = made.opt, False
    for value, start, end in outline.options:
        if value not in OptionNumber._value2member_map_:
            is_critical = value & 1
            if has_unknown or not is_critical:
                continue
            has_unknown = True
        number = _member(OptionNumber, value)
        if number.format is ContentFormatOption:
            known = _member(ContentFormat, int.from_bytes(message[start:end], "big"))
            options.add_option(ContentFormatOption(number, known))
        else:
            options.add_option(number.create_option(decode=message[start:end]))
    return made


def _member(numbers: type[N], value: int) -> N:
    """Return `numbers(value)` without remembering an unknown one."""
    known = numbers._value2member_map_.get(value)
    if isinstance(known, numbers):
        return known
    unknown = int.__new__(numbers, value)
    unknown._value_ = value
    return unknown
