"""Codes that users type: their format, and detection of typing errors."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import Malformed
from peer.identity import CROCKFORD, Fingerprint
from peer.pairing.typed import TypedCode

DEVICE = Fingerprint(b"\xdd" * 32)
PRINTED = TypedCode.printed(lambda count: bytes(range(7, 7 + count)))


def fixed(data: bytes) -> TypedCode:
    return TypedCode.shown(lambda count: data.rjust(count, b"\0"))


def test_a_shown_code_is_eight_digits_in_two_groups() -> None:
    assert fixed((48219930).to_bytes(4, "big")).text == "4821-9930"
    assert fixed((7).to_bytes(1, "big")).text == "0000-0007"
    assert fixed((10**8 + 5).to_bytes(4, "big")).text == "0000-0005"


def test_a_printed_code_is_ten_symbols_in_three_groups() -> None:
    assert len(PRINTED.text) == 12
    assert [len(group) for group in PRINTED.text.split("-")] == [4, 4, 2]
    assert set(PRINTED.symbols) <= set(CROCKFORD)


@given(st.binary(min_size=8, max_size=8))
def test_a_code_is_read_back_in_every_accepted_spelling(drawn: bytes) -> None:
    for made in (TypedCode.shown(lambda _: drawn), TypedCode.printed(lambda count: drawn[:count])):
        for typed in (
            made.text,
            made.text.lower(),
            made.symbols,
            f" {made.text.replace('-', ' ')}\n",
        ):
            assert TypedCode.parse_untrusted(typed) == made
        assert made.is_printed == (len(made.symbols) == 10)


def test_letters_that_look_like_digits_are_read_as_digits() -> None:
    assert TypedCode.parse_untrusted("O1lI-9930") == TypedCode("01119930")


def test_any_wrong_symbol_of_a_printed_code_is_detected() -> None:
    right = PRINTED.symbols
    for place, symbol in enumerate(right):
        for other in set(CROCKFORD) - {symbol}:
            with pytest.raises(Malformed, match="typing error"):
                TypedCode.parse_untrusted(right[:place] + other + right[place + 1 :])


def test_any_swap_of_adjacent_symbols_in_a_printed_code_is_detected() -> None:
    for _ in range(200):
        right = TypedCode.printed(secrets.token_bytes).symbols
        for place in range(9):
            swapped = right[:place] + right[place + 1] + right[place] + right[place + 2 :]
            if swapped != right:
                with pytest.raises(Malformed, match="typing error"):
                    TypedCode.parse_untrusted(swapped)


@pytest.mark.parametrize("wrong", ["", "4821-993", "4821-99301", "48a1-9930", "١٢٣٤٥٦٧٨", None, 5])
def test_an_invalid_code_is_malformed_and_not_quoted(wrong: object) -> None:
    with pytest.raises(Malformed) as caught:
        TypedCode.parse_untrusted(wrong)
    assert not wrong or str(wrong) not in f"{caught.value} {caught.value.advice}"


@given(st.text(max_size=20))
def test_any_text_is_a_code_or_malformed(text: str) -> None:
    try:
        code = TypedCode.parse_untrusted(text)
    except Malformed:
        return
    assert TypedCode.parse_untrusted(code.text) == code


def test_a_repr_shows_no_typed_code() -> None:
    assert PRINTED.symbols not in repr(PRINTED)
    assert "4821" not in repr(fixed((48219930).to_bytes(4, "big")))


def test_only_a_printed_code_is_stretched_with_the_device_key() -> None:
    secret = PRINTED.secret(DEVICE)
    assert len(secret) == 48
    assert secret != PRINTED.secret(Fingerprint(b"\xde" * 32))
    assert fixed((48219930).to_bytes(4, "big")).secret(DEVICE) == b"48219930"
