"""Lines of text below a QR code in a picture file, so that a printed label also tells people.

A PNG gets letters of 5 by 7 points, since no font is installed on a board: capital letters, digits
and a few signs. Other characters are reduced to these or left out. An SVG keeps the text.
"""

import re
import struct
import unicodedata
import zlib
from collections.abc import Sequence
from typing import Final

_ROWS, _COLUMNS = 7, 5
_LETTER: Final = _COLUMNS + 1  # columns of a letter with the gap behind it
_LARGEST: Final = 4  # pixels of a point, at most
_LINE_GAP: Final = 4  # points between two lines
_SVG_LINE: Final = 1.5  # height of a line, in letters
_SVG_WIDTH: Final = 0.62  # width of a letter of a monospaced font, in its height
_SVG_SIZE: Final = re.compile(rb'width="(\d+)" height="(\d+)"')

# Seven rows of five points for each letter, from the top; two hex digits for each row.
_POINTS: Final = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._ ",
        [
            "0e11111f111111",
            "1e11111e11111e",
            "0e11101010110e",
            "1e11111111111e",
            "1f10101e10101f",
            "1f10101e101010",
            "0e11101711110f",
            "1111111f111111",
            "0e04040404040e",
            "0702020202120c",
            "11121418141211",
            "1010101010101f",
            "111b1515111111",
            "11191513111111",
            "0e11111111110e",
            "1e11111e101010",
            "0e11111115120d",
            "1e11111e141211",
            "0f10100e01011e",
            "1f040404040404",
            "1111111111110e",
            "11111111110a04",
            "11111115151b11",
            "11110a040a1111",
            "11110a04040404",
            "1f01020408101f",
            "0e11131519110e",
            "040c040404040e",
            "0e11010608101f",
            "0e11010601110e",
            "02060a121f0202",
            "1f101e0101110e",
            "0608101e11110e",
            "1f010204080808",
            "0e11110e11110e",
            "0e11110f01020c",
            "0000001f000000",
            "00000000000c0c",
            "0000000000001f",
            "00000000000000",
        ],
        strict=True,
    )
)


def captioned_png(modules: Sequence[Sequence[bool]], scale: int, lines: Sequence[str]) -> bytes:
    """Return a PNG of the modules (true is dark), and below them the lines, centred."""
    pixels = [[dark for dark in row for _ in range(scale)] for row in modules for _ in range(scale)]
    width = len(pixels[0])
    for line in filter(None, map(_drawable, lines)):
        point = max(1, min(_LARGEST, width // (_LETTER * len(line))))
        shown = line[: width // (_LETTER * point)]
        pixels += _centred(shown, point, width)
    pixels += [[False] * width] * (_LINE_GAP * _LARGEST)
    return _png(pixels)


def captioned_svg(picture: bytes, lines: Sequence[str]) -> bytes:
    """Return an SVG picture with the lines below it, centred; its text is escaped."""
    from xml.sax.saxutils import escape  # noqa: PLC0415 - it imports urllib and http

    size = _SVG_SIZE.search(picture)
    shown = [line for line in lines if line]
    if size is None or not shown:
        return picture
    width, height = int(size[1]), int(size[2])
    letters = [min(width / 12, 0.9 * width / (_SVG_WIDTH * len(line))) for line in shown]
    at, texts = float(height), []
    for line, letter in zip(shown, letters, strict=True):
        texts.append(
            f'<text x="{width / 2:g}" y="{at + letter:.1f}" font-size="{letter:.1f}" '
            f'font-family="monospace" text-anchor="middle">{escape(line)}</text>'
        )
        at += _SVG_LINE * letter
    paper = f'<rect y="{height}" width="{width}" height="{at - height:.1f}" fill="white"/>'
    grown = f'width="{width}" height="{at:.0f}"'.encode()
    body = _SVG_SIZE.sub(grown, picture, count=1)
    below = (paper + "".join(texts)).encode()
    return body.replace(b"</svg>", below + b"</svg>")


def _drawable(line: str) -> str:
    """The line in the letters that there are."""
    plain = unicodedata.normalize("NFKD", line).upper()
    return "".join(one for one in plain if one in _POINTS).strip()


def _centred(line: str, point: int, width: int) -> list[list[bool]]:
    glyphs = [bytes.fromhex(_POINTS[letter]) for letter in line]
    margin = (width - _LETTER * point * len(line)) // 2
    rows = []
    for row in range(_ROWS):
        points = [
            bool(glyph[row] >> (_COLUMNS - 1 - column) & 1) if column < _COLUMNS else False
            for glyph in glyphs
            for column in range(_LETTER)
        ]
        drawn = [dark for dark in points for _ in range(point)]
        whole = [False] * margin + drawn
        rows += [whole + [False] * (width - len(whole))] * point
    return [*rows, *[[False] * width] * (_LINE_GAP * point)]


def _png(pixels: Sequence[Sequence[bool]]) -> bytes:
    """Encode black and white pixels (PNG, ISO/IEC 15948): one bit each, in rows without filter."""
    width = len(pixels[0])
    rows = bytearray()
    for row in pixels:
        rows.append(0)  # no filter
        for at in range(0, width, 8):
            bits = row[at : at + 8]
            rows.append(sum((not dark) << (7 - place) for place, dark in enumerate(bits)))
    header = struct.pack(">IIBBBBB", width, len(pixels), 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
