"""The folder of the client's files: its key, the list of devices, and how to reach them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

VARIABLE = "HANDFAST_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """The folder. It is created when the first file is written."""

    folder: Path

    @classmethod
    def at(cls, folder: str | Path | None = None) -> Self:
        """The folder given, else `HANDFAST_HOME`, else the user's data folder (XDG)."""
        chosen = folder or os.environ.get(VARIABLE)
        if chosen:
            return cls(Path(chosen).expanduser().absolute())
        import platformdirs  # noqa: PLC0415 - scripts name the folder, and it takes 2 ms

        return cls(platformdirs.user_data_path("handfast", appauthor=False))

    @property
    def identity(self) -> Path:
        """This client's private key (PKCS#8 PEM, 0600)."""
        return self.folder / "identity.pem"

    @property
    def devices(self) -> Path:
        """The paired devices (JSON, 0600)."""
        return self.folder / "devices.json"

    @property
    def remote(self) -> Path:
        """The settings for reaching devices from other networks (JSON, 0600)."""
        return self.folder / "remote.json"
