"""Typed, pasted or piped text is understood, and never as another value than meant."""

from __future__ import annotations

import codecs
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer import pasted
from peer.errors import Malformed
from peer.identity import Fingerprint, Identity
from peer.pairing import invite
from peer.pairing.armour import is_armoured
from peer.pairing.invite import InviteToken
from peer.pairing.label import Label
from peer.pairing.typed import TypedCode
from peer.terminal.prompts import yes_or_no

KEY = Fingerprint(bytes(range(32)))
SHOWN = TypedCode("48219930")
PRINTED = TypedCode.printed(lambda count: bytes(range(7, 7 + count)))
LABEL = Label(KEY, b"t" * 16)
_IDENTITY = Identity.create()
INVITE = InviteToken.text(
    InviteToken(_IDENTITY.fingerprint, bytes(16), "anna", "guest", 2_000_000_000, 1).sign(_IDENTITY)
)

DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d\u30fc"
BLANKS = " \t\n\r\v\f\x85\xa0\u2002\u2007\u2009\u202f\u205f\u3000\u2028\u2029\u2800"
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\xad\u200e\u200f\u202a\u202e\u2066\u2069\ufe0f\u180e"
DOTS = ".\xb7\u2022\u2026\u2027\u22c5\u3002\uff0e"
QUOTES = "'\"`\xb4\u2018\u2019\u201a\u201c\u201d\u201e\xab\xbb\u2039\u203a\u2032\uff02\x1a"
REMOVED = DASHES + BLANKS + INVISIBLE + DOTS + QUOTES


def fullwidth(text: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text)


READERS: list[tuple[str, Callable[[str], object], object]] = [
    (SHOWN.text, TypedCode.parse_untrusted, SHOWN),
    (PRINTED.text, TypedCode.parse_untrusted, PRINTED),
    (LABEL.text, Label.parse_untrusted, LABEL),
    (INVITE, invite.read_untrusted, invite.read_untrusted(INVITE)),
    (KEY.hex, Fingerprint.parse, KEY),
    (KEY.grouped, Fingerprint.parse, KEY),
]
KINDS = ["code on a screen", "code on a label", "label", "invite", "fingerprint", "grouped"]
ALL_KINDS = pytest.mark.parametrize(("text", "read", "value"), READERS, ids=KINDS)


@ALL_KINDS
@pytest.mark.parametrize("character", REMOVED, ids=ascii)
def test_a_character_that_a_program_adds_changes_nothing(
    text: str, read: Callable[[str], object], value: object, character: str
) -> None:
    middle = len(text) // 2
    assert read(f"{character}{text[:middle]}{character}{text[middle:]}{character}") == value


@ALL_KINDS
def test_fullwidth_forms_and_any_case_are_read(
    text: str, read: Callable[[str], object], value: object
) -> None:
    for spelling in (fullwidth(text), text.upper(), text.lower(), f"\ufeff{text}\r\n"):
        assert read(spelling) == value


@ALL_KINDS
@given(st.data())
def test_one_removed_or_replaced_symbol_never_gives_another_value(
    text: str, read: Callable[[str], object], value: object, data: st.DataObject
) -> None:
    """A letter of another script, which looks the same, is refused and not guessed."""
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(["", "\u0430", "\u0415", "\u0131", "\xdf", "\u0664", "\xbd"]))
    try:
        found = read(text[:at] + other + text[at + 1 :])
    except Malformed:
        return
    assert found == value


@pytest.mark.parametrize(
    "spelling",
    [
        f"SHA256:{KEY.hex}",
        f"sha-256: {KEY.hex.upper()}",
        f"0x{KEY.hex}",
        ":".join(KEY.hex[at : at + 2] for at in range(0, 64, 2)),
        KEY.ni,
        f"<{KEY.ni}>"[1:-1].replace("ni:", "NI:").replace("sha-256", "SHA-256"),
        f"\u201c{KEY.ni}\u201d\r\n",
        KEY.ni.replace("ni://", "ni://lamp.example"),
        f"{KEY.ni}=",
    ],
)
def test_a_fingerprint_with_its_usual_prefixes_is_read(spelling: str) -> None:
    assert Fingerprint.parse(spelling) == KEY


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        (KEY.hex[:-1], "it has 63 hex digits"),
        (KEY.hex + "0", "it has 65 hex digits"),
        (KEY.hex[:-1] + "g", "it contains 'G'"),
        (KEY.hex[:-1] + "\u0430", r"it contains U\+0430 \(CYRILLIC SMALL LETTER A\)"),
        (KEY.ni[:-1], "the URI has 42 characters of base64url, not 43"),
        (KEY.ni[:-1] + "9", "the URI ends differently"),
        ("ni:///sha-1;AA", "the URI is not ni:///sha-256"),
        ("0" * 5000, "it is too long"),
    ],
)
def test_a_wrong_fingerprint_is_refused_with_what_was_counted(text: str, counted: str) -> None:
    with pytest.raises(Malformed, match=counted):
        Fingerprint.parse(text)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("4821\u2013993", "it has 7 letters and digits"),
        ("4821-9930-1", "it has 9 letters and digits"),
        ("4821\u04109930", "a character that no code has"),
        ("4" * 5000, "too long"),
    ],
)
def test_a_wrong_code_is_refused_with_what_was_counted(text: str, counted: str) -> None:
    with pytest.raises(Malformed, match=counted):
        TypedCode.parse_untrusted(text)


@pytest.mark.parametrize("text", [LABEL.text, INVITE], ids=["label", "invite"])
def test_a_text_is_read_from_a_quoted_mail(text: str) -> None:
    lines = [text[at : at + 40] for at in range(0, len(text), 40)]
    mails = [
        "\n".join(f"> {line}" for line in lines),
        "\r\n".join(f">> {line}" for line in lines),
        "\n".join(f"| {line}" for line in lines),
        "=\r\n".join(lines),
        f"<{text}>",
        f"`{text}`",
        text.replace(":", "*", 2).replace("*", ":", 1).replace("*", "\\*"),
    ]
    read = Label.parse_untrusted if text == LABEL.text else invite.read_untrusted
    for mail in mails:
        assert is_armoured(mail)
        assert read(mail) == read(text)


def test_a_label_that_is_cut_off_is_refused_with_what_was_counted() -> None:
    with pytest.raises(Malformed, match="80 symbols follow the kind, and a label has 89"):
        Label.parse_untrusted(LABEL.text[:-9])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_pipe_in_another_encoding_is_decoded(encoding: str) -> None:
    marks = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    data = marks.get(encoding, b"") + f"{LABEL.text}\r\n".encode(encoding)
    assert Label.parse_untrusted(pasted.decode_pasted(data)) == LABEL


@given(st.binary(max_size=60))
def test_any_bytes_of_a_pipe_are_decoded(data: bytes) -> None:
    assert isinstance(pasted.decode_pasted(data), str)


@given(st.text(max_size=60))
def test_no_removed_character_is_left(text: str) -> None:
    assert not set(pasted.compact(f"{REMOVED}{text}{REMOVED}")) & set(REMOVED)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("yes\r\n", True),
        ("\ufeffＹ", True),
        ("\u201cno\u201d.", False),
        ("maybe", None),
        ("", None),
    ],
)
def test_an_answer_to_a_question_is_read_in_every_spelling(line: str, answer: bool | None) -> None:
    assert yes_or_no(line) is answer


AROUND = {
    "quoted mail": lambda text: "> " + "\n> ".join(halves(text)),
    "twice quoted mail": lambda text: "> > " + "\r\n> > ".join(halves(text)),
    "quoted-printable mail": lambda text: "=\r\n".join(halves(text)).replace(":", "=3A"),
    "URL": lambda text: text.replace(":", "%3a"),
    "HTML": lambda text: f"&lt;{text.replace('*', '&ast;')}&gt;",
    "code block": lambda text: f"```text\n{text}\n```",
    "bold": lambda text: f"**{text}**",
    "italic": lambda text: f"_{text}_",
    "escaped stars": lambda text: old(text).replace("*", "\\*"),
    "another star": lambda text: old(text).replace("*", "\N{ASTERISK OPERATOR}"),
    "older symbols": lambda text: f" {old(text)}",
    "parentheses": lambda text: f"({text})",
    "brackets": lambda text: f"[{text}],",
    "a sentence": lambda text: f"The label: {text}!",
    "paragraphs": lambda text: f"Here it is:\n\n{text}\n\nBest wishes, Anna",
    "quoted paragraphs": lambda text: f"> Here it is:\n>\n> {text}\n> \n> Best, Anna",
    "a chat": lambda text: f"[24/12/2026, 18:00:11] Anna: {text}",
    "a list": lambda text: f"1. {text}",
    "a star list": lambda text: f"* {text}",
    "a prompt": lambda text: f"$ {text}",
    "an emoji": lambda text: f"\N{WHITE RIGHT POINTING BACKHAND INDEX} {text}",
    "colours": lambda text: f"\x1b[1;32m{text}\x1b[0m",
    "a bracketed paste": lambda text: f"\x1b[200~{text}\x1b[201~",
    "an indented line": lambda text: "\n        ".join(halves(text)),
    "a continued line": lambda text: "\\\n".join(halves(text)),
    "right to left": lambda text: f"\u2067\u200f{text}\u200f\u2069",
    "NUL": lambda text: f"{text}\0",
}


def old(text: str) -> str:
    """The text with the separators of older versions, which a shell expands."""
    return "HANDFAST:" + text.removeprefix("HANDFAST:").replace(":", "*").replace("U", "$")


def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("text", [LABEL.text, INVITE], ids=["label", "invite"])
def test_a_label_or_an_invite_is_found_in_what_a_program_puts_around_it(
    text: str, around: Callable[[str], str]
) -> None:
    assert is_armoured(around(text))
    if text == INVITE:
        assert invite.read_untrusted(around(text)) == invite.read_untrusted(text)
    else:
        assert Label.parse_untrusted(around(text)) == LABEL


@pytest.mark.parametrize(
    "around", ["({})", "[{}]", "<{}>", "{},", "{};", "{}!", "_{}_", "\x1b[1m{}\x1b[0m"]
)
def test_a_code_and_a_fingerprint_are_read_within_punctuation(around: str) -> None:
    for text, read, value in READERS:
        assert read(around.format(text)) == value


@pytest.mark.parametrize(
    "text", ["kitchen", "a handfast: b", "my handfast:2", "xHANDFAST:", "handfast 1*"]
)
def test_a_name_is_not_taken_for_a_label_or_an_invite(text: str) -> None:
    assert not is_armoured(text)
