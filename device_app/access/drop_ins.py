"""Folders of configuration files, `policy.d` and `device.d`: which of their entries are read.

Other programs leave files there: macOS writes `._lamp.toml` beside `lamp.toml`, editors and package
managers write `.lamp.toml.swp`, `lamp.toml~` and `lamp.toml.dpkg-old`, Kubernetes mounts a folder
`..data` with links to it. So only regular files whose names end in `.toml` and do not begin with a
dot are read; symbolic links to them are followed. An entry whose name ends in `.toml` and that is
passed over is reported, since an administrator may have meant it, for example as a Deny.

A file that cannot be read is another matter: it may hold a Deny, so it is an error.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_app.errors import ConfigError

_SUFFIX: Final = ".toml"
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, slots=True)
class DropIns:
    """The entries of a folder.

    Attributes:
        folder: the folder; it need not exist.
        files: the files to read, in the order of their names.
        passed_over: "NAME (REASON)" of each entry that is named like a file to read and is none.
    """

    folder: Path
    files: tuple[Path, ...] = ()
    passed_over: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Path) -> "DropIns":
        """Look at a folder; opens no file.

        Raises:
            ConfigError: the folder cannot be read, or is a link to nothing. To ignore its files,
                which may hold a Deny, would widen rights.
        """
        try:
            named = sorted(path for path in folder.iterdir() if path.suffix.lower() == _SUFFIX)
        except FileNotFoundError as error:
            if not folder.is_symlink():
                return cls(folder)
            raise ConfigError(
                f"{folder}: cannot be read: it is a link to nothing",
                advice="Create the folder that it names, or remove the link.",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be read: {error.strerror}",
                advice="Check that it is a folder, and that this user may read it.",
            ) from error
        reasons = {path: _why_not_read(path) for path in named}
        return cls(
            folder,
            tuple(path for path, why in reasons.items() if not why),
            tuple(f"{path.name} ({why})" for path, why in reasons.items() if why),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line that names what is passed over; nothing if all is read."""
        if not self.passed_over:
            return ()
        return (f"{self.folder}: passed over: {', '.join(self.passed_over)}",)


def _why_not_read(path: Path) -> str:
    """Say why an entry is passed over; empty if it is read."""
    if path.name.startswith("."):
        return "a hidden name"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to nothing" if path.is_symlink() else "it is gone"
    except OSError:
        return ""  # reading it reports the error
    if stat.S_ISREG(mode):
        return ""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "not a regular file")
