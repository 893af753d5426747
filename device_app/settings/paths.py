"""Locations of the daemon's files: configuration, state, and the control socket.

`--home DIR` puts all in one folder. Otherwise root gets the folders of a system service, and
other users the XDG folders; systemd's `$CONFIGURATION_DIRECTORY`, `$STATE_DIRECTORY` and
`$RUNTIME_DIRECTORY` win over both.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from device_app.drop_ins import DropIns

_APP = "handfast"


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders in use. Nothing is made by asking."""

    config: Path
    state: Path
    run: Path

    @classmethod
    def of(cls, home: Path | None, environ: Mapping[str, str], *, root: bool) -> "Paths":
        """The folders for this user, or all in `home`."""
        if home is not None:
            return cls(home, home, home)
        if root:
            config, state, run = Path("/etc/handfast"), Path("/var/lib/handfast"), Path("/run")
            run /= _APP
        else:
            import platformdirs  # noqa: PLC0415 - slow to import, and services do not need it

            config = platformdirs.user_config_path(_APP)
            state = platformdirs.user_state_path(_APP) / "device"
            runtime = environ.get("XDG_RUNTIME_DIR")
            run = Path(runtime) / _APP if runtime else state
        if given := environ.get("CONFIGURATION_DIRECTORY"):
            config = Path(given.split(":")[0])
        if given := environ.get("STATE_DIRECTORY"):
            state = Path(given.split(":")[0])
        if given := environ.get("RUNTIME_DIRECTORY"):
            run = Path(given.split(":")[0])
        return cls(config, state, run)

    @property
    def config_file(self) -> Path:
        """The configuration that `init` writes."""
        return self.config / "device.toml"

    @property
    def config_files(self) -> list[Path]:
        """All files of the configuration that are there; a later one wins.

        A link to nothing counts as a file: reading it is an error, since its settings are missing.

        Raises:
            ConfigError: the folder `device.d` cannot be read.
        """
        first = [self.config_file] if os.path.lexists(self.config_file) else []
        return [*first, *self.config_drop_ins.files]

    @property
    def config_drop_ins(self) -> DropIns:
        """The entries of the folder `device.d`. Raises as `config_files` does."""
        return DropIns.of(self.config / "device.d")

    @property
    def policies(self) -> Path:
        """The folder of policy files, `*.toml`; it need not be there."""
        return self.config / "policy.d"

    @property
    def modules(self) -> Path:
        """The folder that is searched for modules of one's own."""
        return self.config / "modules"

    @property
    def key(self) -> Path:
        """The private key."""
        return self.state / "device-key.pem"

    @property
    def store(self) -> Path:
        """Users, keys, attempts and events."""
        return self.state / "device.db"

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.run / "control.sock"
