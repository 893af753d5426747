"""The QR code on a terminal: module for module the one that was meant, with its margin."""

from __future__ import annotations

import re

import pytest
import segno

from client_app.terminal.qr import MARGIN, drawn, width
from peer.identity import Fingerprint, Identity
from peer.pairing.invite import SIGNED_MAX, InviteToken

TEXT = "HANDFAST:I*" + "0123456789ABCDEFGHJKMNPQRSTVWXYZ" * 6
BLOCKS = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}


def modules(picture: str, *, ink_is_dark: bool) -> list[list[int]]:
    """The dark modules that a camera sees."""
    rows: list[list[int]] = []
    for line in picture.splitlines():
        halves = [BLOCKS[symbol] for symbol in re.sub(r"\x1b\[[0-9;]*m", "", line)]
        rows += [[half[at] if ink_is_dark else 1 - half[at] for half in halves] for at in (0, 1)]
    return rows


@pytest.mark.parametrize("coloured", [True, False])
@pytest.mark.parametrize("text", ["A", TEXT])
def test_every_module_is_there(text: str, coloured: bool) -> None:
    picture = drawn(text, columns=200, coloured=coloured)
    seen = modules(picture, ink_is_dark=coloured)
    code = segno.make_qr(text, error="l", boost_error=True)
    wanted = [list(row) for row in code.matrix_iter(border=MARGIN)]
    assert seen[: len(wanted)] == wanted
    assert not any(any(row) for row in seen[len(wanted) :])  # an odd last half line is light
    assert len(wanted[0]) == width(text)
    assert ("\x1b[" in picture) is coloured
    if coloured:
        assert all(line.endswith("\x1b[0m") for line in picture.splitlines())


def test_the_margin_is_light_all_around() -> None:
    seen = modules(drawn(TEXT, columns=200, coloured=True), ink_is_dark=True)
    assert not any(map(any, seen[:MARGIN]))
    assert not any(any(row[:MARGIN]) or any(row[-MARGIN:]) for row in seen)


def test_too_narrow_is_empty() -> None:
    assert drawn(TEXT, columns=width(TEXT), coloured=False)
    assert drawn(TEXT, columns=width(TEXT) - 1, coloured=False) == ""


def test_the_largest_invite_fits_eighty_columns() -> None:
    identity = Identity.create()
    hints = tuple(f"host-{number}.some-domain.example:12345" for number in range(6))
    token = InviteToken(
        identity.fingerprint, bytes(16), "n" * 40, "role", 9, 1, hints, Fingerprint(b"\x01" * 32)
    )
    signed = token.signed(identity)
    assert SIGNED_MAX - 60 < len(signed) <= SIGNED_MAX
    assert width(token.text(signed)) <= 80
