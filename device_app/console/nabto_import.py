"""Import of Nabto Edge's IAM files: read them, and compare them with the device."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from device_app.access.bodies import UserRequest
from device_app.access.explaining import RoleView, role_view
from device_app.errors import AppError
from device_app.limits import NABTO_FILE_BYTES_MAX
from iam import files, nabto
from peer.errors import Malformed
from peer.files import follow_own_links, read_text
from peer.terminal.exit_codes import ExitCode


@dataclass(frozen=True, slots=True)
class NabtoImport:
    """The content of Nabto's configuration and state.

    `policy` is TOML, `notes` name what it cannot express, and `roles` are its roles as `policy
    list` shows them.
    """

    policy: str
    users: tuple[UserRequest, ...]
    notes: tuple[str, ...]
    roles: tuple[RoleView, ...]

    @classmethod
    def read(cls, config: Path, state: Path | None) -> "NabtoImport":
        """Read a configuration and, if given, a state with users.

        Raises:
            AppError: a file cannot be read.
            IamError: a file is not one of Nabto's.
        """
        imported = nabto.read_config(_text(config), file=str(config))
        roles = tuple(role_view(role) for role in imported.roles)
        if state is None:
            return cls(imported.policy_toml, (), tuple(imported.notes), roles)
        found = nabto.read_state(_text(state), file=str(state), roles=imported.role_ids)
        users = tuple(UserRequest.from_user(user) for user in found.users)
        return cls(imported.policy_toml, users, (*imported.notes, *found.notes), roles)

    def check_in_force(self, roles: Iterable[RoleView]) -> None:
        """Check that the users' roles are in force, with the same rank and policies.

        A role of the device that only has the same name could allow anything.

        Args:
            roles: the roles in force on the device.

        Raises:
            AppError: one is not, or differs.
        """
        in_force = {role["id"]: role for role in roles}
        imported = {role["id"]: role for role in self.roles}
        for name in dict.fromkeys(user.role for user in self.users):
            if in_force.get(name) != imported[name]:
                raise AppError(
                    f"the role {name!r} of this import is not in force on the device",
                    advice="Write the policy into policy.d with --out, run "
                    "`handfast-device policy reload`, then add the users.",
                )


def write_policy(path: Path, text: str, *, force: bool) -> None:
    """Write a policy file. Raises `AppError`, also if the file exists and not `force`."""
    if not force and path.exists():
        raise AppError(
            f"{path} already exists",
            advice="Choose another name, or use --force to replace it.",
            code=ExitCode.USAGE,
        )
    try:
        files.create_folder(path.parent, 0o755)
        files.atomic_write(follow_own_links(path), text.encode(), mode=0o644)
    except OSError as error:
        raise AppError(f"{path} cannot be written: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return read_text(path, NABTO_FILE_BYTES_MAX)
    except OSError as error:
        why = error.strerror
        raise AppError(f"{path} cannot be read: {why}", code=ExitCode.USAGE) from error
    except Malformed as error:
        raise AppError(f"{path} cannot be read: {error}", advice=error.advice) from error
