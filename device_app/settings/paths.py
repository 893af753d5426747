"""Locations of the daemon's files: configuration, state, and the control socket.

`--home DIR` puts all in one folder. Otherwise root gets the folders of a system service, and
other users the XDG folders; systemd's `$CONFIGURATION_DIRECTORY`, `$STATE_DIRECTORY` and
`$RUNTIME_DIRECTORY` win over both.

A user who has no device in the XDG folders usually means the device of the system service: then
verbs that ask the daemon use its control socket (`service_socket`). No verb reads or writes the
files of the service for such a user.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_app.access.drop_ins import DropIns
from device_app.errors import AppError

_APP: Final = "handfast"
#: The group whose members may use the control socket of the system service.
SERVICE_GROUP: Final = "handfast"
SERVICE_CONFIG: Final = Path("/etc/handfast")
SERVICE_STATE: Final = Path("/var/lib/handfast")
SERVICE_RUN: Final = Path("/run/handfast")


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders in use. Only `create_state` makes one.

    `is_own` is true for the XDG folders of a user, which are used if nothing names others.
    """

    config: Path
    state: Path
    run: Path
    is_own: bool = False

    @classmethod
    def of(cls, home: Path | None, environ: Mapping[str, str], *, root: bool) -> "Paths":
        """The folders for this user, or all in `home`."""
        if home is not None:
            return cls(home, home, home)
        if root:
            config, state, run = SERVICE_CONFIG, SERVICE_STATE, SERVICE_RUN
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
        named = {"CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"}
        return cls(config, state, run, is_own=not root and not any(map(environ.get, named)))

    def create_state(self) -> None:
        """Create the state folder, for this user alone.

        Raises:
            AppError: it cannot be created.
        """
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise AppError(
                f"the folder {self.state} cannot be created: {error.strerror}",
                advice="Create it, or choose another with --home.",
            ) from error

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
    def remote_key(self) -> Path:
        """The remote master key; it is there once remote reach has been on."""
        return self.state / "remote.key"

    @property
    def store(self) -> Path:
        """Users, keys, attempts and events."""
        return self.state / "device.db"

    @property
    def restore_draft(self) -> Path:
        """The folder of a restore that was not decided yet."""
        return self.state / "restore.new"

    @property
    def restore_steps(self) -> Path:
        """The folder of a restore that was decided, until it is finished."""
        return self.state / "restore.steps"

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.run / "control.sock"

    @property
    def has_device(self) -> bool:
        """Whether there is a device in these folders, or what is left of one."""
        return any(map(os.path.lexists, (self.key, self.store, self.socket)))

    @property
    def service_socket(self) -> Path | None:
        """The control socket of the system service, if a verb of this user means that device."""
        if not self.is_own or self.has_device:
            return None
        return SERVICE_RUN / "control.sock"
