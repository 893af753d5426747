"""The bounded scan of a message: what it rejects and costs, and that it agrees with aiocoap."""

import itertools
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.optiontypes import StringOption
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peer.errors import Malformed
from peer.limits import DEFAULT_LIMITS
from peer.net.aiocoap_seam.parsing import OPTION_LENGTHS, InvalidOption, decode_untrusted
from peer.net.outline import (
    ACK,
    EMPTY,
    Outline,
    TooLarge,
    is_empty_acknowledgement,
    outline_untrusted,
)
from tests.kit.coap_numbers import forget_all_but, known_numbers

HEAD = b"\x40\x01\x12\x34"  # CON GET
HEADS = st.builds(
    lambda kind, size, code, number: bytes([0x40 | kind << 4 | size, code]) + number,
    st.integers(0, 3),
    st.integers(0, 9),
    st.integers(0, 255),
    st.binary(min_size=2, max_size=2),
)
#: Options in encoded form, with short and extended deltas and lengths; some are cut or reserved.
OPTIONS = st.lists(
    st.builds(
        lambda delta, length, rest: bytes([delta << 4 | length]) + rest,
        st.integers(0, 15),
        st.integers(0, 15),
        st.binary(max_size=20),
    ),
    max_size=8,
).map(b"".join)
MESSAGES = st.binary(max_size=80) | st.builds(
    lambda head, token, options, rest: head + token + options + rest,
    HEADS,
    st.binary(max_size=8),
    OPTIONS,
    st.just(b"") | st.binary(max_size=20).map(lambda payload: b"\xff" + payload),
)


def outline(message: bytes) -> Outline:
    return outline_untrusted(message, DEFAULT_LIMITS)


@settings(max_examples=2000, database=None, derandomize=True)
@given(MESSAGES)
@example(HEAD)
@example(HEAD + b"\xff")
@example(HEAD + b"\xb5hello\xff\x00")
@example(b"\x48\x01\x00\x00token")
@example(b"\x50\x45\x00\x00\xc2\xff\xff\x62\x01\x02\xff\xa0")
@example(HEAD + b"\xb1\xff")
def test_the_scan_rejects_a_message_or_agrees_with_aiocoap(message: bytes) -> None:
    try:
        found = outline(message)
    except Malformed:
        return
    values = [(number, message[start:end]) for number, start, end in found.options]
    try:
        decoded = aiocoap.Message.decode(message)
    except UnicodeDecodeError:
        texts = [value for number, value in values if is_text(number)]
        assert any(not_utf8(value) for value in texts)
        return
    assert (found.type, found.code, found.message_id, found.token, message[found.payload_at :]) == (
        int(decoded.mtype),
        int(decoded.code),
        decoded.mid,
        decoded.token,
        decoded.payload,
    )
    read = [(int(one.number), one.value) for one in decoded.opt.option_list()]
    assert read == [(number, value_of(number, value)) for number, value in values]


@settings(max_examples=2000, database=None, derandomize=True)
@given(MESSAGES)
@example(HEAD + b"\xb1a\x01b")
@example(HEAD + b"\xd1\x04\x3c\x01\x2a\x31\x07\x01\x09")  # Accept and Block1, twice each
@example(HEAD + b"\xc3\xff\xff\xff\xe0\x27\x10\x10")  # a Content-Format and unknown options
def test_the_decoded_message_equals_that_of_aiocoap_for_known_options(message: bytes) -> None:
    """Unknown and invalid options are left out, except the first unknown critical one."""
    known = known_numbers()
    try:
        found = outline(message)
        made = decode_untrusted(message, found, None)
    except Malformed:
        return
    assert known_numbers() == known
    try:
        theirs = aiocoap.Message.decode(message)
    except UnicodeDecodeError:
        forget_all_but(known)
        return
    assert (made.mtype, made.code, made.mid, made.token, made.payload, made.direction) == (
        theirs.mtype,
        theirs.code,
        theirs.mid,
        theirs.token,
        theirs.payload,
        theirs.direction,
    )
    expected: list[tuple[int, Any]] = []
    has_unknown = False
    for (number, start, end), option in zip(found.options, theirs.opt.option_list(), strict=True):
        if number not in known[0]:
            if not has_unknown and option.number.is_critical():
                expected.append((number, option.value))
                has_unknown = True
        elif end - start in OPTION_LENGTHS.get(number, range(end - start + 1)):
            expected.append((number, option.value))
    read = [
        (int(one.number), one.value)
        for one in made.opt.option_list()
        if not isinstance(one, InvalidOption)
    ]
    assert read == expected
    forget_all_but(known)


def is_text(number: int) -> bool:
    return bool(OptionNumber(number).format is StringOption)


def not_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return False


def value_of(number: int, value: bytes) -> Any:
    return OptionNumber(number).create_option(decode=value).value


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x40\x01\x12",
        b"\x00\x01\x12\x34",  # version 0
        b"\xc0\x01\x12\x34",  # version 3
        b"\x49\x01\x12\x34" + bytes(9),  # a token of 9 bytes
        b"\x48\x01\x12\x34" + bytes(7),  # a token that is cut short
        b"\x41\x00\x12\x34t",  # an empty message with a token
        b"\x40\x00\x12\x34\x60",  # an empty message with an option
        b"\x50\x00\x12\x34",  # an empty message that is non-confirmable
        b"\x60\x01\x12\x34",  # an acknowledgement that is a request
        b"\x70\x01\x12\x34",  # a reset that is a request
        b"\x70\x45\x12\x34",  # a reset that is a response
        b"\x40\x20\x12\x34",  # codes of the classes 1, 6 and 7
        b"\x40\xc0\x12\x34",
        b"\x40\xe1\x12\x34",
        HEAD + b"\xff",  # a marker without a payload
        HEAD + b"\xf0\x00",  # a reserved delta
        HEAD + b"\x0f\x00",  # a reserved length
        HEAD + b"\xd0",  # an extended delta that is cut short
        HEAD + b"\xe0\x00",
        HEAD + b"\x0d",  # an extended length that is cut short
        HEAD + b"\x0e\x00",
        HEAD + b"\xb5hell",  # a value that is cut short
        HEAD + b"\xe0\xff\xff",  # an option number of 65,804
    ],
)
def test_malformed_messages_are_rejected(message: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        outline(message)
    assert not isinstance(caught.value, TooLarge)


def test_message_bounds_are_exact() -> None:
    most = DEFAULT_LIMITS
    assert len(outline(HEAD + b"\x10" * 64).options) == 64
    outline(HEAD + b"\x00" * 64 + b"\xff" + bytes(1300))
    # One option of 1,021 bytes has a head of three.
    outline(HEAD + b"\xbe" + (1021 - 269).to_bytes(2) + bytes(1021))
    outline(HEAD + b"\xff" + bytes(most.message_bytes - 5))
    for message in (
        HEAD + b"\x10" * 65,
        HEAD + b"\xbe" + (1022 - 269).to_bytes(2) + bytes(1022),
        HEAD + b"\xff" + bytes(most.message_bytes - 4),
        HEAD + b"\x00" * 16_000,
    ):
        with pytest.raises(TooLarge):
            outline(message)


def test_the_scan_returns_the_parts_of_a_message() -> None:
    found = outline(b"\x42\x02\x12\x34to\xb4pair\x10\xff{}")
    assert (found.type, found.code, found.message_id, found.token) == (0, 2, 0x1234, b"to")
    assert found.options == ((11, 7, 11), (12, 12, 12))
    assert found.payload_at == 13


def steps(run: Callable[[], object]) -> int:
    """The number of Python lines that run."""
    count = itertools.count()

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            next(count)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return next(count)


def test_the_work_is_linear_in_the_options_and_bounded_per_message() -> None:
    """Twice the options cost at most twice the work; 16 KiB cost no more than a valid message."""

    def cost(message: bytes) -> int:
        def run() -> None:
            with suppress(TooLarge):
                outline(message)

        return steps(run)

    for option in (b"\x00", b"\x01x", b"\x0d\x00" + bytes(13)):
        few, many = cost(HEAD + option * 30), cost(HEAD + option * 60)
        assert few < many <= 2 * few
    whole = cost(HEAD + b"\x00" * 64)
    assert cost(HEAD + b"\x00" * 16_000) < whole
    assert cost(HEAD + b"\x00" * 1_400) < 2 * whole


@given(MESSAGES)
@example(b"\x60\x00\x12\x34")
@example(b"\x60\x00\x12")
@example(b"\x60\x00\x12\x34\xff")
@example(b"\x61\x00\x12\x34")
@example(b"\x20\x00\x12\x34")
@example(b"\x70\x00\x12\x34")
def test_an_empty_acknowledgement_is_recognised_by_its_bytes(data: bytes) -> None:
    expected = False
    with suppress(Malformed):
        found = outline_untrusted(data, DEFAULT_LIMITS)
        expected = (found.type, found.code) == (ACK, EMPTY)
    assert is_empty_acknowledgement(data) is expected
