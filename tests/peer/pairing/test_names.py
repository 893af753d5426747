"""Names that a user may have (protocol §5.2)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.names import check_name, default_name


@pytest.mark.parametrize(
    "name",
    [
        "anna",
        "Anna",
        "anna-laptop",
        "Anna Maria",
        "a b c",
        "anna_2",
        "7",
        "x",
        "Zoë",
        "Łukasz",
        "Σωκράτης",
        "Анна",
        "שָׁלוֹם",
        "مُحَمَّد",
        "नमस्ते",
        "สวัสดี",
        "မြန်မာ",
        "བོད་ཡིག".replace("་", ""),
        "田中",
        "さくら",
        "한국어",
        "a" * 64,
        "字" * 64,
    ],
)
def test_valid_names_are_accepted(name: str) -> None:
    assert check_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(None, "missing", id="none"),
        pytest.param(7, "not text", id="number"),
        pytest.param(b"anna", "not text", id="bytes"),
        pytest.param("", "empty", id="empty"),
        pytest.param("a" * 65, "longer than 64", id="65 characters"),
        pytest.param("a" * 100_000, "longer than 64", id="100000 characters"),
        pytest.param("\U00020000" * 64, "255 bytes", id="too long for a path segment"),
        pytest.param("_((;;.::)", "symbol or a separator", id="punctuation"),
        pytest.param("anna/bert", "separator", id="slash"),
        pytest.param("anna\\bert", "separator", id="backslash"),
        pytest.param("anna?x=1", "separator", id="question mark"),
        pytest.param("anna%2fb", "separator", id="percent"),
        pytest.param(".", "separator", id="dot"),
        pytest.param("..", "separator", id="dots"),
        pytest.param("anna  bert", "two spaces", id="two spaces"),
        pytest.param(" anna", "begin and end", id="leading space"),
        pytest.param("anna ", "begin and end", id="trailing space"),
        pytest.param("anna\u00a0bert", "space", id="no-break space"),
        pytest.param("anna\u3000bert", "space", id="ideographic space"),
        pytest.param("anna\u2028bert", "line break", id="line separator"),
        pytest.param("anna\nbert", "control", id="newline"),
        pytest.param("anna\x00", "control", id="nul"),
        pytest.param("\x1b[31manna", "control", id="terminal escape"),
        pytest.param("anna\x7f", "control", id="delete"),
        pytest.param("\u202eanna", "direction", id="RLO"),
        pytest.param("anna\u2066b", "direction", id="isolate"),
        pytest.param("anna\u200fb", "direction", id="right-to-left mark"),
        pytest.param("an\u200dna", "invisible", id="ZWJ"),
        pytest.param("an\u200bna", "invisible", id="zero-width space"),
        pytest.param("an\u00adna", "invisible", id="soft hyphen"),
        pytest.param("\ufeffanna", "invisible", id="byte order mark"),
        pytest.param("an\U000e0061na", "invisible", id="tag character"),
        pytest.param("an\ufe0fna", "invisible character", id="variation selector"),
        pytest.param("an\u034fna", "invisible character", id="grapheme joiner"),
        pytest.param("\u3164", "invisible character", id="Hangul filler"),
        pytest.param("anna\ue000", "private", id="private use"),
        pytest.param("anna\U0010ffff", "unassigned", id="noncharacter"),
        pytest.param("anna\ud800", "surrogate", id="surrogate"),
        pytest.param("anna😀", "symbol", id="emoji"),
        pytest.param("anna²", "symbol", id="superscript"),
        pytest.param("-anna", "begin and end", id="leading hyphen"),
        pytest.param("anna_", "begin and end", id="trailing underscore"),
        pytest.param("\u0301anna", "begin and end", id="leading mark"),
        pytest.param("x" + "\u0316" * 5, "accents", id="stacked marks"),
    ],
)
def test_invalid_names_are_rejected_with_a_reason(name: object, words: str) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        check_name(name)
    assert "1 to 64" in caught.value.advice


def test_equivalent_unicode_spellings_are_one_name() -> None:
    assert check_name("Zoe\u0308") == check_name("Zoë") == "Zo\u00eb"


def test_the_length_limit_applies_after_nfc() -> None:
    assert check_name("e\u0301" * 64) == "é" * 64
    assert check_name("\u03b1\u0313\u0300\u0345" * 64) == "\u1f82" * 64
    with pytest.raises(Malformed, match="longer"):
        check_name("\u0958" * 40)  # NFC decomposes this letter, so the name has 80 characters


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_malformed(text: str) -> None:
    try:
        name = check_name(text)
    except Malformed:
        return
    assert 1 <= len(name) <= 64
    assert len(name.encode()) <= 255
    assert unicodedata.is_normalized("NFC", name)
    assert check_name(name) == name
    assert name.isprintable()
    assert not set(name) & set("./\\%?#&;:\"'<>|*$`~")


@given(st.binary(min_size=32, max_size=32))
def test_the_default_name_is_a_valid_name(digest: bytes) -> None:
    name = default_name(Fingerprint(digest))
    assert name == check_name(name)
    assert len(name) == len("client-") + 8
    assert name == name.lower()
