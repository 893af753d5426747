"""Kinds of picture files: those that are read, and those that are only recognized, by content."""

from types import MappingProxyType
from typing import Final

READ_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Pillow's names of the kinds that are read. Others would run more code than needed."""

READ_KINDS: Final = "PNG, JPEG, WebP, GIF or BMP"


_HEIC, _AVIF = "a HEIC photo", "an AVIF picture"
_BRANDS: Final = MappingProxyType(
    {
        **dict.fromkeys((b"avif", b"avis"), _AVIF),
        **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), _HEIC),
    }
)
_BEGINNINGS: Final = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript drawing"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"8BPS", "a Photoshop picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\0\0\1\0", "an icon"),
    (b"\x1f\x8b", "a compressed file, such as SVGZ"),
    (b"PK\3\4", "an archive or a document"),
)
_SVG: Final = "an SVG drawing"


def unread_kind(head: bytes) -> str:
    """Return the kind of a file of which this is the beginning, if it is known and not read."""
    if head[4:8] == b"ftyp":  # ISO base media: the major brand, then a version, then others
        brands = (head[at : at + 4] for at in (8, *range(16, 64, 4)))
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "a video")
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n").lower()
    if text.startswith("<svg") or (text.startswith(("<?xml", "<!")) and "<svg" in text):
        return _SVG
    return next((kind for beginning, kind in _BEGINNINGS if head.startswith(beginning)), "")
