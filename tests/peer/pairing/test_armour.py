"""The text form of labels and invites: typing errors are detected and reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import Malformed
from peer.identity import CROCKFORD
from peer.pairing.armour import (
    INVITE,
    LABEL,
    armour_fields,
    base32,
    base32_untrusted,
    fields_untrusted,
    is_armoured,
    kind_untrusted,
)

QR_ALPHANUMERICS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
TEXT = armour_fields(LABEL, base32(b"hello"), base32(bytes(range(16))), base32(b"\xff" * 7))
SYMBOLS = CROCKFORD + ":U%+/"
SAME = {"*": ":", "$": "U", "O": "0", "I": "1", "L": "1"}  # characters that readers confuse


def same(one: str, other: str) -> bool:
    return SAME.get(one, one) == SAME.get(other, other)


def read(text: str) -> tuple[str, ...]:
    return fields_untrusted(text, kind=LABEL, count=3)


def test_check_symbols_match_known_values() -> None:
    # Test vectors for other implementations, as in docs/protocol.md.
    assert armour_fields("1", "") == "HANDFAST:1:/"  # 1 - 2·1 = 36
    assert armour_fields("1", "0") == "HANDFAST:1:0%"  # 1 - 2·(2·1 + 0) = 34
    assert armour_fields("I", "Z", "7") == "HANDFAST:I:Z:7T"  # I counts 18, : counts 32


def test_the_check_symbol_matches_the_documented_formula() -> None:
    values = {s: v for v, s in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ:U%+/")}
    assert len(values) == 37
    kind, symbols = 1, TEXT.removeprefix("HANDFAST:1:")
    weighted = [values[s] * 2**at for at, s in enumerate(reversed(symbols))]
    assert (kind * 2 ** len(symbols) + sum(weighted)) % 37 == 1


def test_the_fields_of_a_text_are_read_back() -> None:
    assert set(TEXT) <= set(QR_ALPHANUMERICS)
    assert [base32_untrusted(field) for field in read(TEXT)] == [
        b"hello", bytes(range(16)), b"\xff" * 7,
    ]  # fmt: skip


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.sampled_from([LABEL, INVITE]))
def test_a_text_is_read_back_in_every_accepted_spelling(items: list[bytes], kind: str) -> None:
    text = armour_fields(kind, *map(base32, items))
    broken = "\r\n ".join(text[at : at + 9] for at in range(0, len(text), 9))
    misread = "HANDFAST:" + text[9:11] + text[11:].replace("0", "O").replace("1", "l")
    for given_text in (text, text.lower(), f"\t{broken}\u00a0", misread):
        assert kind_untrusted(given_text) == kind
        fields = fields_untrusted(given_text, kind=kind, count=len(items))
        assert [base32_untrusted(field) for field in fields] == items


@pytest.mark.parametrize("symbol", [symbol for symbol in QR_ALPHANUMERICS if symbol != " "])
def test_any_single_wrong_symbol_is_detected(symbol: str) -> None:
    tried = 0
    for at, right in enumerate(TEXT):
        if right == symbol or (at >= 10 and same(right, symbol)):
            continue
        with pytest.raises(Malformed):
            read(TEXT[:at] + symbol + TEXT[at + 1 :])
        tried += 1
    assert tried > len(TEXT) / 2


def test_any_swap_of_adjacent_symbols_is_detected() -> None:
    swapped = [
        TEXT[:at] + TEXT[at + 1] + TEXT[at] + TEXT[at + 2 :]
        for at in range(len(TEXT) - 1)
        if not same(TEXT[at], TEXT[at + 1])
    ]
    assert len(swapped) > len(TEXT) / 2
    for text in swapped:
        with pytest.raises(Malformed):
            read(text)


def is_correct(symbols: str) -> bool:
    """Whether the check symbol fits to the symbols of a label."""
    try:
        return kind_untrusted(f"HANDFAST:{LABEL}*{symbols}") == LABEL
    except Malformed:
        return False


@given(st.text(SYMBOLS, min_size=2, max_size=700), st.data())
def test_one_error_or_one_swap_is_detected_in_any_text(body: str, data: st.DataObject) -> None:
    text = armour_fields(LABEL, body)[11:]
    assert is_correct(text)
    at = data.draw(st.integers(0, len(text) - 1))
    for symbol in SYMBOLS:
        if symbol != text[at]:
            assert not is_correct(text[:at] + symbol + text[at + 1 :])
    for other in range(at + 1, min(at + 36, len(text))):
        if text[at] != text[other]:
            symbols = list(text)
            symbols[at], symbols[other] = symbols[other], symbols[at]
            assert not is_correct("".join(symbols))


def test_the_weights_detect_errors_in_texts_of_any_length() -> None:
    # For |d| < 37, a single error changes the total by d·2^i, and a swap over k positions changes
    # it by d·(1 - 2^k)·2^i.
    differences = set(range(-36, 37)) - {0}
    powers = {2**i % 37 for i in range(36)}
    assert len(powers) == 36
    assert all(d * p % 37 for d in differences for p in powers)
    assert all(d * (1 - 2**k) * p % 37 for d in differences for k in range(1, 36) for p in powers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither a label nor an invite"),
        ("kitchen", "neither a label nor an invite"),
        ("HANDFAST", "neither"),
        ("HANDFAST:", "truncated"),
        ("HANDFAST:1", "truncated"),
        ("HANDFAST:1:", "truncated"),
        ("HANDFAST:11*A", "start is wrong"),
        ("HANDFAST:1-ABC", "start is wrong"),
        ("HANDFAST:1:AU", "wrong or missing"),
        ("HANDFAST:1:A\x07", "is not allowed"),
        (TEXT[:-1], "wrong or missing"),
        (TEXT + "0", "wrong or missing"),
        ("ΗANDFAST" + TEXT[8:], "neither"),  # a Greek letter
        (TEXT.replace(":", "×"), "neither"),
        ("HANDFAST:1:" + "ß" * 8, "is not allowed"),
        (TEXT + "\ud800", "is not allowed"),
        (TEXT + "é", r"U\+00E9 \(LATIN SMALL LETTER E WITH ACUTE\), which is not allowed"),
        (TEXT[:-9], "80 symbols|symbols follow"),
        ("HANDFAST:1:" + "0" * 5000, "too long"),
        (None, "not text"),
        (b"HANDFAST:1:", "not text"),
        (armour_fields(INVITE, "00"), "this is an invite, not a label"),
        (armour_fields("2", "00"), "does not support"),
        (armour_fields(LABEL, "00", "00"), "does not support"),
        (armour_fields(LABEL, "00", "00", "00", "00"), "does not support"),
    ],
)
def test_an_invalid_text_is_rejected_with_a_reason(text: object, words: str) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        fields_untrusted(text, kind=LABEL, count=3)
    assert caught.value.advice


def test_a_typing_error_in_an_unknown_kind_is_reported_as_such() -> None:
    newer = armour_fields("2", "00")
    with pytest.raises(Malformed, match="wrong or missing"):
        read(newer[:-2] + "1" + newer[-1])


@pytest.mark.parametrize(
    "text", ["0", "000", "000000", "01", "0Z", "U0", "o0", "0=", "é0", "\ud800"]
)
def test_base32_accepts_only_the_canonical_form(text: str) -> None:
    with pytest.raises(Malformed):
        base32_untrusted(text)


@given(st.text() | st.text(QR_ALPHANUMERICS))
def test_any_text_is_read_or_malformed(text: str) -> None:
    for given_text in (
        text,
        "HANDFAST:" + text,
        "HANDFAST:1:" + text,
        armour_fields("1", "") + text,
    ):
        is_armoured(given_text)
        try:
            read(given_text)
        except Malformed as error:
            assert error.advice  # noqa: PT017 - only this error may come
    try:
        assert base32(base32_untrusted(text)) == text
    except Malformed as error:
        assert error.advice  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "meant"),
    [(TEXT, True), (" handfast:1*", True), ("HAND\nFAST:", True), ("kitchen", False), ("", False)],
)
def test_armoured_text_is_recognized_by_its_prefix(text: str, meant: bool) -> None:
    assert is_armoured(text) is meant


def test_no_error_quotes_the_text() -> None:
    secret = base32(b"a secret of mine")
    for text in (
        armour_fields(LABEL, secret) + "0",
        armour_fields(LABEL, secret) + "é",
        armour_fields(INVITE, secret),
        armour_fields("2", secret),
        armour_fields(LABEL, secret),
    ):
        with pytest.raises(Malformed) as caught:
            read(text)
        assert secret not in f"{caught.value!r} {caught.value} {caught.value.advice}"
        assert caught.value.__cause__ is None
