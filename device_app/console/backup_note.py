"""The note in a copy of a store: the device that made it, and when."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from iam import backup
from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.names import check_name

_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class BackupNote:
    """The device, the device's time, and the sealed key of the former format."""

    name: str
    fingerprint: Fingerprint
    made: int
    key: Mapping[str, object] | None = None

    @classmethod
    def parse_untrusted(cls, text: str) -> Self:
        """Decode the note of a file that anyone may have written. Raises `Malformed`."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("fingerprint"), str):
            raise Malformed("the note in the backup is damaged", advice="Use another backup.")
        if type(said.get("schema")) is not int or said["schema"] > _SCHEMA:
            raise Malformed("a later version made this backup", advice="Update handfast.")
        made, key = said.get("made"), said.get("key")
        return cls(
            check_name(said.get("name")),
            Fingerprint.parse(said["fingerprint"]),
            made if type(made) is int else 0,
            key if isinstance(key, dict) else None,
        )

    def text(self, version: str) -> str:
        """Return the note as it is stored; `version` is that of handfast."""
        return json.dumps(
            {
                "schema": _SCHEMA,
                "name": self.name,
                "fingerprint": self.fingerprint.hex,
                "made": self.made,
                "version": version,
            }
        )


def note_of(path: Path) -> BackupNote | None:
    """Return the note of a copy; None if it is a plain copy of device.db. Raises `Malformed`."""
    text = backup.note_untrusted(path)
    return None if text is None else BackupNote.parse_untrusted(text)
