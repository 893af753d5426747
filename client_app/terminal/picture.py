"""Reading a QR code from a picture file: a photo, or a file of `handfast-device label`."""

import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from client_app.aliases import PICTURE_SUFFIXES
from client_app.limits import PICTURE_BYTES, PICTURE_FRAMES, PICTURE_HEAD_BYTES
from client_app.terminal.picture_kinds import (
    READ_FORMATS,
    READ_KINDS,
    unread_kind,
)
from peer.errors import UsageError
from peer.files import open_regular
from peer.pairing.armour import is_armoured

if TYPE_CHECKING:
    from PIL.Image import Image

_ADVICE: Final = f"Give a {READ_KINDS} file, or the text of the QR code."
_SMALL_PIXELS: Final = 512  # a code may have one pixel for each module in a picture up to this size
_ENLARGED: Final = 4
_PALE: Final = 128  # grey levels between the lightest and the darkest part of a pale picture


def picture_path(text: str) -> Path | None:
    """The path, if the text has the form of a picture's path or its `file:` URL; else None.

    A path with a slash, which no device has in its name, may lead to a file of any name. Otherwise
    the file may be missing or unreadable.
    """
    if text[:5].lower() == "file:":
        url = urlsplit(text)
        return Path(unquote(url.path)) if url.netloc in {"", "localhost"} else None
    path = Path(text)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return path
    with suppress(OSError, ValueError):  # a text that is too long for a name, for example
        return path if "/" in text and path.is_file() else None
    return None


def is_picture(text: str) -> bool:
    """Whether the text has the form of a picture's path; see `picture_path`."""
    return picture_path(text) is not None


def text_in_picture(path: Path) -> str:
    """The label or invite in a picture. Raises `UsageError` if there is none, or more than one."""
    _check_kind(path)
    try:
        import zxingcpp  # noqa: PLC0415 - an extra, and slow to import
        from PIL import Image  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"cannot read pictures: {error.name} is not installed",
            advice="Install handfast with its extra `scan`, or give the text of the QR code.",
        ) from error
    found: set[str] = set()
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            # A warning of Pillow for too many pixels; twice as many raise an error in any case.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=READ_FORMATS) as picture:
                for grey in chain.from_iterable(map(_grey_versions, _frames(picture))):
                    found = {str(one.text) for one in zxingcpp.read_barcodes(grey)}
                    if any(map(is_armoured, found)):
                        break
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _unreadable(path, "it has too many pixels") from error
    except (OSError, Warning, ValueError, SyntaxError) as error:
        raise _unreadable(path, "it is damaged, or of another kind") from error
    ours = sorted(filter(is_armoured, found))
    if len(ours) != 1:
        what = "more than one label or invite" if ours else "no label or invite"
        raise UsageError(
            f"{path} contains {what}",
            advice="Take a sharp picture from straight ahead that shows one QR code only.",
        )
    return ours[0]


def _check_kind(path: Path) -> None:
    """Raise `UsageError` if the file is missing, too large, or of a kind that is not read."""
    try:
        with open_regular(path) as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(PICTURE_HEAD_BYTES)
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no file {path}",
            advice="Give the path of a picture of the label, or the text of its QR code.",
        ) from error
    except OSError as error:
        raise _unreadable(path, str(error.strerror)) from error
    if size > PICTURE_BYTES:
        raise UsageError(
            f"{path} is too large: it has more than {PICTURE_BYTES >> 20} MiB",
            advice="Give a smaller picture of the QR code.",
        )
    if kind := unread_kind(head):
        raise _unreadable(path, f"it is {kind}")


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} is not a readable picture: {why}", advice=_ADVICE)


def _frames(picture: "Image") -> Iterator["Image"]:
    """Yield the images of a picture that may be animated."""
    from PIL import ImageSequence  # noqa: PLC0415 - see `text_in_picture`

    yield from islice(ImageSequence.Iterator(picture), PICTURE_FRAMES)


def _grey_versions(picture: "Image") -> Iterator["Image"]:
    """Yield the picture in 8-bit grey: as it looks on white paper, then in other ways.

    Transparent parts become white, then black for a light code; a small picture is enlarged, and
    the contrast of a pale one is raised.
    """
    from PIL import ImageOps  # noqa: PLC0415 - see `text_in_picture`

    flat = _flat(picture, "white")
    yield flat
    if max(flat.size) <= _SMALL_PIXELS:
        yield flat.resize((flat.width * _ENLARGED, flat.height * _ENLARGED), resample=0)
    if _is_transparent(picture):
        yield _flat(picture, "black")
    levels = [level for level, count in enumerate(flat.histogram()) if count]
    if levels[-1] - levels[0] < _PALE:
        yield ImageOps.autocontrast(flat)


def _is_transparent(picture: "Image") -> bool:
    return "A" in picture.getbands() or "transparency" in picture.info


def _flat(picture: "Image", background: str) -> "Image":
    """The picture in 8-bit grey, its transparent parts in the colour `background`."""
    from PIL import Image  # noqa: PLC0415 - see `text_in_picture`

    if picture.mode.startswith("I"):  # 16 bits; `convert` would make all but the darkest white
        picture = picture.point(lambda level: level / 256).convert("L")
    if not _is_transparent(picture):
        return picture.convert("L")
    layer = picture.convert("RGBA")
    paper = Image.new("RGBA", layer.size, background)
    return Image.alpha_composite(paper, layer).convert("L")
