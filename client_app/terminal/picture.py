"""Reading a QR code from a picture file: a photo, or a file of `handfast-device label`."""

import os
import warnings
from pathlib import Path
from typing import Final

from client_app.limits import PICTURE_BYTES
from peer.errors import UsageError
from peer.files import open_regular
from peer.pairing.armour import is_armoured

KINDS: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".svg"})


def is_picture(text: str) -> bool:
    """Whether the text has the form of a picture's path. The file may be missing or unreadable."""
    return Path(text).suffix.lower() in KINDS


def text_in_picture(path: Path) -> str:
    """The label or invite in a picture. Raises `UsageError` if there is none, or more than one."""
    try:
        import zxingcpp  # noqa: PLC0415 - an extra, and slow to import
        from PIL import Image  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"cannot read pictures: {error.name} is not installed",
            advice="Install handfast with its extra `scan`, or give the text of the QR code.",
        ) from error
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            if os.fstat(file.fileno()).st_size > PICTURE_BYTES:
                raise UsageError(
                    f"{path} is too large: it has more than {PICTURE_BYTES >> 20} MiB",
                    advice="Give a smaller picture of the QR code.",
                )
            # A warning of Pillow for too many pixels; twice as many raise an error in any case.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                found = {str(one.text) for one in zxingcpp.read_barcodes(picture.convert("L"))}
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no file {path}",
            advice="Give the path of a picture of the label, or the text of its QR code.",
        ) from error
    except (OSError, Warning, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"{path} is not a readable picture", advice="Give a PNG or JPEG file."
        ) from error
    ours = sorted(filter(is_armoured, found))
    if len(ours) != 1:
        what = "more than one label or invite" if ours else "no label or invite"
        raise UsageError(
            f"{path} contains {what}",
            advice="Take a sharp picture from straight ahead that shows one QR code only.",
        )
    return ours[0]
