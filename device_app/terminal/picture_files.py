"""New picture files for labels and invites, readable by their owner alone."""

import os
from pathlib import Path

from peer.errors import UsageError

_ADVICE = "Give the name of a new file."


def require_new(path: Path) -> None:
    """Raise `UsageError` if the file exists, or the folder does not."""
    if path.exists() or not path.parent.is_dir():
        what = "already exists" if path.exists() else "is in a folder that does not exist"
        raise UsageError(f"{path} {what}", advice=_ADVICE)


def write(path: Path, picture: bytes) -> None:
    """Write a new file with mode 0600, since the picture contains a secret.

    Raises `UsageError` if the file exists or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(picture)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", advice=_ADVICE) from error
