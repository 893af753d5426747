"""Import of Nabto Edge's IAM files: read them, and compare them with the device."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from device_app.access.bodies import UserRequest
from device_app.access.explaining import RoleView, role_view
from device_app.errors import AppError, unreadable, unwritable
from device_app.limits import NABTO_FILE_BYTES_MAX
from iam import files, nabto
from iam.builtin import LOWEST
from iam.nabto import Imported
from peer.errors import Malformed
from peer.files import follow_own_links, read_text
from peer.terminal.exit_codes import ExitCode

_NO_ROLES: Final[Mapping[str, str]] = MappingProxyType({})
_TUNNEL: Final = "TcpTunnel:"  # the module of Nabto Edge's own device program


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
    def read(
        cls, config: Path, state: Path | None, role_map: Mapping[str, str] = _NO_ROLES
    ) -> "NabtoImport":
        """Read a configuration and, if given, a state with users.

        Args:
            config: the configuration.
            state: the state, with users.
            role_map: the role of this device that the users with a role of Nabto's get.

        Raises:
            AppError: a file cannot be read, or the configuration has no such role.
            IamError: a file is not one of Nabto's.
        """
        imported = nabto.read_config(_text(config), file=str(config))
        for theirs in role_map:
            if theirs not in imported.role_ids:
                raise AppError(
                    f"{config} has no role {theirs!r}",
                    advice=f"It has: {', '.join(imported.role_ids)}.",
                    code=ExitCode.USAGE,
                )
        roles = tuple(role_view(role) for role in imported.roles)
        notes = (*imported.notes, *_without_counterpart(config, imported))
        if state is None:
            return cls(imported.policy_toml, (), notes, roles)
        mapped = {imported.role_ids[theirs]: ours for theirs, ours in role_map.items()}
        found = nabto.read_state(_text(state), file=str(state), roles=imported.role_ids)
        users = tuple(
            UserRequest.from_user(replace(user, role=mapped.get(user.role, user.role)))
            for user in found.users
        )
        notes = (*notes, *found.notes)
        for theirs, ours in role_map.items():
            said = f"users with the role {theirs} get the role {ours} of this device"
            notes = (*notes, f"{state}: {said}, which may do more than {theirs} could")
        return cls(imported.policy_toml, users, notes, roles)

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
            if name not in imported and name in in_force:
                continue  # chosen by the person who imports
            if name not in in_force or in_force[name] != imported.get(name):
                raise AppError(
                    f"the role {name!r} of this import is not in force on the device",
                    advice="Write the policy into policy.d with --out, run "
                    "`handfast-device policy reload`, then add the users.",
                )


def _without_counterpart(config: Path, imported: Imported) -> Iterator[str]:
    """Say which actions are carried over though nothing of handfast asks for them."""
    statements = [each for policy in imported.policies for each in policy.statements]
    named = {action for statement in statements for action in statement.actions}
    actions = sorted(named - LOWEST.keys())
    tunnels = [action for action in actions if action.startswith(_TUNNEL)]
    if tunnels:
        yield (
            f"{config}: carried over without effect: {', '.join(tunnels)}; handfast has no TCP "
            "tunnels. Use ssh or a VPN for them, or a resource of your own with this action"
        )
    if others := [action for action in actions if action not in tunnels]:
        yield (
            f"{config}: carried over for your application: {', '.join(others)}; they have an "
            "effect as soon as one of its resources asks for them (docs/howto/resources.md)"
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
        raise unwritable(path, error) from error


def _text(path: Path) -> str:
    try:
        return read_text(path, NABTO_FILE_BYTES_MAX)
    except OSError as error:
        raise unreadable(path, error) from error
    except Malformed as error:
        raise AppError(f"{path} cannot be read: {error}", advice=error.advice) from error
