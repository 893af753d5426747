"""QR codes on a terminal and in print: the displayed code decodes to its text."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import segno

from peer.errors import UsageError
from peer.identity import Fingerprint, Identity
from peer.pairing.invite import SIGNED_MAX, InviteToken
from peer.terminal import qr
from peer.terminal.qr import Background, background_of, terminal_lines

if TYPE_CHECKING:
    from pathlib import Path

# about the length of the longest invite
TOKEN = "HANDFAST:I:" + "0123456789ABCDEFGHJKMNPQRSTVWXYZ" * 18
PIXELS = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}


def drawn(lines: list[str]) -> list[list[int]]:
    """The modules as 0 or 1; each line of text has two rows."""
    rows = []
    for line in lines:
        rows += [[PIXELS[one][half] for one in line] for half in (0, 1)]
    return rows


def picture(rows: list[list[int]], *, dark: int, scale: int = 4) -> bytes:
    """The terminal as a PGM image; `dark` is the value of `rows` that is dark on the screen."""

    wide, high = len(rows[0]) * scale, len(rows) * scale
    pixels = b"".join(
        bytes(0 if one == dark else 255 for one in row for _ in range(scale)) * scale
        for row in rows
    )
    return b"P5 %d %d 255\n" % (wide, high) + pixels


def scanned(path: Path) -> str:
    found = subprocess.run(
        ["zbarimg", "--quiet", "--raw", str(path)], check=True, capture_output=True, text=True
    )
    return found.stdout.removesuffix("\n")


@pytest.mark.parametrize("background", [Background.DARK, Background.LIGHT])
def test_the_displayed_modules_match_the_code(background: Background) -> None:
    rows = drawn(terminal_lines(TOKEN, columns=80, background=background))
    code = [list(row) for row in segno.make_qr(TOKEN, error="l").matrix]
    light = 1 if background is Background.DARK else 0
    margin = (len(rows[0]) - len(code)) // 2
    assert len(rows[0]) == len(code) + 2 * margin <= 80
    for y, row in enumerate(rows):
        for x, pixel in enumerate(row):
            inside = margin <= x < margin + len(code) and margin <= y < margin + len(code)
            module = code[y - margin][x - margin] if inside else 0
            assert pixel == (light if module == 0 else 1 - light), (x, y)


def test_a_narrow_terminal_reduces_the_margin_before_the_code_is_refused() -> None:
    size = len(list(segno.make_qr(TOKEN, error="l").matrix))
    for columns, margin in ((200, 4), (size + 8, 4), (size + 7, 3), (size + 2, 1)):
        assert len(terminal_lines(TOKEN, columns=columns)[0]) == size + 2 * margin
    with pytest.raises(
        UsageError, match=f"needs {size + 2} columns, but the terminal has {size + 1}"
    ):
        terminal_lines(TOKEN, columns=size + 1)


def test_colours_are_set_where_they_are_supported() -> None:
    plain = terminal_lines("A", columns=80, background=Background.LIGHT)
    set_ = terminal_lines("A", columns=80, background=Background.SET)
    assert [line.removeprefix("\x1b[38;5;16;48;5;231m") for line in set_] == [
        f"{line}\x1b[0m" for line in plain
    ]


@pytest.mark.parametrize(
    ("environ", "tty", "background"),
    [
        ({"TERM": "xterm"}, True, Background.SET),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, Background.DARK),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, Background.SET),
        ({"TERM": "dumb"}, True, Background.DARK),
        ({}, True, Background.DARK),
        ({"TERM": "xterm"}, False, Background.DARK),
        ({"TERM": "dumb", "COLORFGBG": "0;15"}, True, Background.LIGHT),
        ({"TERM": "dumb", "COLORFGBG": "0;default;15"}, True, Background.LIGHT),
        ({"TERM": "dumb", "COLORFGBG": "15;0"}, True, Background.DARK),
    ],
)
def test_the_background_depends_on_the_terminal(
    environ: dict[str, str], *, tty: bool, background: Background
) -> None:
    assert background_of(environ, tty=tty) is background


def test_the_largest_invite_fits_80_columns_with_its_full_margin() -> None:
    identity = Identity.create()
    hints = tuple(f"host-{number}.some-domain.example:12345" for number in range(6))
    token = InviteToken(
        identity.fingerprint, bytes(16), "n" * 40, "role", 9, 1, hints, Fingerprint(b"\x01" * 32)
    )
    signed = token.sign(identity)
    assert SIGNED_MAX - 60 < len(signed) <= SIGNED_MAX
    assert len(terminal_lines(token.text(signed), columns=80)[0]) <= 80
    longest = "HANDFAST:I:" + "A" * 608  # 619 symbols: QR 13-L
    assert qr.code_of(longest).mode == "alphanumeric"
    assert len(terminal_lines(longest, columns=80)[0]) == 77


@pytest.mark.needs_tool("zbarimg")
@pytest.mark.parametrize("background", [Background.DARK, Background.LIGHT])
def test_a_scanner_reads_the_code_from_the_terminal(tmp_path: Path, background: Background) -> None:
    rows = drawn(terminal_lines(TOKEN, columns=80, background=background))
    path = tmp_path / "screen.pgm"
    path.write_bytes(picture(rows, dark=0 if background is Background.DARK else 1))
    assert scanned(path) == TOKEN


@pytest.mark.needs_tool("zbarimg")
def test_a_scanner_reads_the_code_from_the_png(tmp_path: Path) -> None:
    path = tmp_path / "code.png"
    path.write_bytes(qr.png(TOKEN))
    assert scanned(path) == TOKEN


def test_the_svg_has_the_same_modules() -> None:
    drawing = qr.svg(TOKEN).decode()
    assert drawing.startswith("<?xml")
    assert drawing == qr.svg(TOKEN).decode()
