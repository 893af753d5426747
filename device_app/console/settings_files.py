"""The files of settings and policies, as a backup has them: read, checked, and written back.

A name comes from a backup, so it is checked before it becomes a path: `device.toml`, or a file in
`device.d` or `policy.d` that the daemon would read. A file that is replaced, or that the backup
does not have, is kept beside it as `NAME.before-restore`, which the daemon does not read.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from device_app.access.drop_ins import DropIns
from device_app.errors import AppError
from device_app.limits import BACKUP_SETTINGS_FILES_MAX, CONFIG_FILE_BYTES
from device_app.settings.paths import Paths
from iam.limits import DEFAULT_IAM_LIMITS
from peer import cbor
from peer.errors import Malformed
from peer.files import atomic_write, read_text, sync_folder

KEPT: Final = ".before-restore"
_SUFFIX: Final = ".toml"
_NAME_BYTES_MAX: Final = 255 - len(KEPT)  # NAME_MAX of Linux
_DROP_INS: Final = "device.d/"


@dataclass(frozen=True, slots=True)
class SettingsFiles:
    """The text of each file by its name, in the folder of settings and in `policy.d`."""

    config: Mapping[str, str]
    policies: Mapping[str, str]

    @classmethod
    def read(cls, paths: Paths) -> Self:
        """Read the files that the daemon would read.

        Raises:
            AppError: a file cannot be read, or has a name that a backup cannot hold.
        """
        config = _texts(paths.config, paths.config_files, CONFIG_FILE_BYTES)
        policies = DropIns.of(paths.policies).files
        texts = _texts(paths.policies, policies, DEFAULT_IAM_LIMITS.policy_bytes)
        try:
            return cls.parse_untrusted(config, texts)
        except Malformed as error:
            raise AppError(f"{paths.config}: {error}", advice="Rename the file.") from error

    @classmethod
    def parse_untrusted(
        cls, config: Mapping[object, object], policies: Mapping[object, object]
    ) -> Self:
        """Check the names and texts of a backup. Raises `Malformed`."""
        return cls(_checked(config, is_policy=False), _checked(policies, is_policy=True))

    def encode(self) -> bytes:
        """Return both as bytes."""
        return cbor.encode({"config": dict(self.config), "policies": dict(self.policies)})

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        """Read the form of `encode`. Raises `Malformed`."""
        found = cbor.decode_untrusted(data, size=len(data), depth=2)
        if not isinstance(found, dict):
            raise Malformed("no map")
        config, policies = found.get("config"), found.get("policies")
        if not isinstance(config, dict) or not isinstance(policies, dict):
            raise Malformed("no settings or no policies")
        return cls.parse_untrusted(config, policies)

    def check_targets(self, paths: Paths) -> None:
        """Raise `AppError` if a folder has the name of a file that `write` would write."""
        for path in self._texts_by_path(paths):
            if path.is_dir() and not path.is_symlink():
                raise AppError(
                    f"{path} is a folder, and the backup has a file of this name",
                    advice="Rename the folder, and run the command again.",
                )

    def write(self, paths: Paths) -> None:
        """Make these the settings and policies; a second call finishes an interrupted one.

        Raises `OSError`.
        """
        texts = self._texts_by_path(paths)
        for path, text in texts.items():
            if _holds(path, text):
                continue
            path.parent.mkdir(mode=0o755, exist_ok=True)
            if os.path.lexists(path):
                path.replace(_kept(path))
            atomic_write(path, text.encode(), mode=0o644)
        for path in _present(paths):
            if path not in texts:
                path.replace(_kept(path))
                sync_folder(path.parent)

    def changes(self, paths: Paths) -> list[str]:
        """Return the names of the files that `write` would replace or move aside."""
        texts = self._texts_by_path(paths)
        there = (path for path in _present(paths) if os.path.lexists(path))
        return [str(one) for one in there if one not in texts or not _holds(one, texts[one])]

    def _texts_by_path(self, paths: Paths) -> dict[Path, str]:
        of_config = {paths.config / name: text for name, text in self.config.items()}
        return of_config | {paths.policies / name: text for name, text in self.policies.items()}


def _texts(folder: Path, files: Iterable[Path], most: int) -> dict[object, object]:
    found: dict[object, object] = {}
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            found[name] = read_text(path, most)
        except (OSError, Malformed) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            raise AppError(f"{path} cannot be read: {why}", advice="Correct the file.") from error
    return found


def _checked(texts: Mapping[object, object], *, is_policy: bool) -> dict[str, str]:
    if len(texts) > BACKUP_SETTINGS_FILES_MAX:
        raise Malformed(f"there are more than {BACKUP_SETTINGS_FILES_MAX} files")
    found: dict[str, str] = {}
    for name, text in texts.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise Malformed("a file of settings is no text")
        if not is_policy and name != "device.toml":
            _check_name(name.removeprefix(_DROP_INS), name, is_inside=name.startswith(_DROP_INS))
        elif is_policy:
            _check_name(name, name, is_inside=True)
        found[name] = text
    return found


def _check_name(last: str, name: str, *, is_inside: bool) -> None:
    """Check the last part of a name. Raises `Malformed`."""
    is_plain = last.isprintable() and "/" not in last and not last.startswith(".")
    is_short = len(last.encode(errors="replace")) <= _NAME_BYTES_MAX
    if not (is_inside and is_plain and is_short and last.lower().endswith(_SUFFIX)):
        raise Malformed(f"a backup cannot hold a file named {name[:_NAME_BYTES_MAX]!a}")


def _present(paths: Paths) -> list[Path]:
    """The files that the daemon reads now."""
    return [*paths.config_files, *DropIns.of(paths.policies).files]


def _holds(path: Path, text: str) -> bool:
    """Whether a path is a regular file, and no link, with this text."""
    with suppress(OSError):
        return not path.is_symlink() and path.is_file() and path.read_bytes() == text.encode()
    return False


def _kept(path: Path) -> Path:
    return path.with_name(path.name + KEPT)
