"""Parse a CoAP message without letting its sender make aiocoap's tables grow."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

import aiocoap
from aiocoap.message import Direction
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import Type
from aiocoap.optiontypes import ContentFormatOption, OpaqueOption, OptionType
from aiocoap.util import ExtensibleIntEnum

from peer.net.outline import Outline
from peer.net.remote import CoapsRemote

N = TypeVar("N", bound=ExtensibleIntEnum)

#: The lengths that the value of an option may have (RFC 7252 table 4, RFC 7641 §2, RFC 7959 §2.1
#: and §4, RFC 8768 §3, RFC 9175 §2.2.1 and §3.2.1, RFC 7967 §2).
OPTION_LENGTHS: Mapping[int, range] = MappingProxyType(
    {
        OptionNumber.IF_MATCH: range(9),
        OptionNumber.URI_HOST: range(1, 256),
        OptionNumber.ETAG: range(1, 9),
        OptionNumber.IF_NONE_MATCH: range(1),
        OptionNumber.OBSERVE: range(4),
        OptionNumber.URI_PORT: range(3),
        OptionNumber.LOCATION_PATH: range(256),
        OptionNumber.URI_PATH: range(256),
        OptionNumber.CONTENT_FORMAT: range(3),
        OptionNumber.MAX_AGE: range(5),
        OptionNumber.URI_QUERY: range(256),
        OptionNumber.HOP_LIMIT: range(1, 2),
        OptionNumber.ACCEPT: range(3),
        OptionNumber.LOCATION_QUERY: range(256),
        OptionNumber.BLOCK2: range(4),
        OptionNumber.BLOCK1: range(4),
        OptionNumber.SIZE2: range(5),
        OptionNumber.PROXY_URI: range(1, 1035),
        OptionNumber.PROXY_SCHEME: range(1, 256),
        OptionNumber.SIZE1: range(5),
        OptionNumber.ECHO: range(1, 41),
        OptionNumber.NO_RESPONSE: range(2),
        OptionNumber.REQUEST_TAG: range(9),
    }
)


class InvalidOption(OpaqueOption):
    """An option whose value has a length or an encoding that it cannot have.

    Attributes:
        is_text: the option is a text, and the value is not UTF-8.
    """

    is_text = False


def decode_untrusted(
    message: bytes, outline: Outline, remote: CoapsRemote | None
) -> aiocoap.Message:
    """Return the message that `outline` describes. It differs from `Message.decode` in three ways.

    - Unknown numbers are not remembered. aiocoap's `ExtensibleIntEnum` stores each unknown number
      of an option, Content-Format or Accept in its class, without limit. A peer chooses these
      numbers, so each of its messages could make the process grow by kilobytes.
    - Unknown elective options are left out (RFC 7252 §5.4.1), and all but the first of the unknown
      critical ones, since aiocoap looks up each of their numbers. An option that an application
      defines (`OptionNumber(65000).format = …`) is known.
    - A value of a wrong length is not interpreted, and text that is not UTF-8 is no error of the
      message. An elective option with such a value is left out (§5.4.3), a critical one and
      Hop-Limit become an `InvalidOption`.
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
        option = _option_untrusted(number, message[start:end])
        if not isinstance(option, InvalidOption) or _is_refused_if_invalid(number):
            options.add_option(option)
    return made


def unknown_critical(response: aiocoap.Message) -> OptionNumber | None:
    """Return the first critical option that a response cannot have, or None.

    Only the Block options are critical and defined for responses (RFC 7252 §5.4, table 4).
    """
    seen: set[int] = set()
    for option in response.opt.option_list():
        number = option.number
        if number.is_critical() and (
            number not in (OptionNumber.BLOCK1, OptionNumber.BLOCK2)
            or number in seen
            or isinstance(option, InvalidOption)
        ):
            return number
        seen.add(number)
    return None


def _option_untrusted(number: OptionNumber, value: bytes) -> OptionType:
    """Return an option, as an `InvalidOption` if its value cannot be interpreted."""
    invalid = InvalidOption(number, value)
    lengths = OPTION_LENGTHS.get(number)
    if lengths is not None and len(value) not in lengths:
        return invalid
    if number.format is ContentFormatOption:
        return ContentFormatOption(number, _member(ContentFormat, int.from_bytes(value, "big")))
    try:
        return number.create_option(decode=value)
    except UnicodeDecodeError:
        invalid.is_text = True
        return invalid


def _is_refused_if_invalid(number: OptionNumber) -> bool:
    """Return whether an invalid value is the sender's error; elsewhere the option is ignored."""
    return number.is_critical() or number is OptionNumber.HOP_LIMIT


def _member(numbers: type[N], value: int) -> N:
    """Return `numbers(value)` without remembering an unknown one."""
    known = numbers._value2member_map_.get(value)
    if isinstance(known, numbers):
        return known
    unknown = int.__new__(numbers, value)
    unknown._value_ = value
    return unknown
