"""New picture files for labels and invites, readable by their owner alone."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from device_app.terminal import output
from peer.errors import UsageError
from peer.terminal import qr

_ADVICE = "Give the name of a new file."
Picture = tuple[Path, Callable[[str, Sequence[str]], bytes]]
"""A file, and the function that draws its QR code with lines of text below it."""


def requested(*, png: Path | None, svg: Path | None) -> list[Picture]:
    """Return the pictures to write, after checking that the files are new. Raises `UsageError`.

    Call this before creating a secret that only the pictures will show.
    """
    pictures: list[Picture] = []
    if png is not None:
        pictures.append((png, qr.png))
    if svg is not None:
        pictures.append((svg, qr.svg))
    for path, _ in pictures:
        require_new(path)
    return pictures


def write_all(pictures: Sequence[Picture], text: str, caption: Sequence[str] = ()) -> None:
    """Write the QR code of a text to each file, with a caption. Raises `UsageError`."""
    for path, draw in pictures:
        write(path, draw(text, caption))


def require_new(path: Path) -> None:
    """Raise `UsageError` if the file exists, or the folder does not."""
    if path.exists() or not path.parent.is_dir():
        what = "already exists" if path.exists() else "is in a folder that does not exist"
        raise UsageError(f"{path} {what}", advice=_ADVICE)


def write(path: Path, picture: bytes) -> None:
    """Write a new file with mode 0600, since the picture contains a secret.

    Warn if other users can read the file because its file system stores no permissions (FAT).
    Raises `UsageError` if the file exists or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            file.write(picture)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", advice=_ADVICE) from error
    if mode & 0o077:
        what = "change it" if mode & 0o022 else "read it"
        output.warning(
            f"{path} contains a secret, and its file system stores no permissions, so other users "
            f"could {what} (mode {mode:04o}). Move it to a folder of your own, or delete it after "
            "printing."
        )
