"""Files of Nabto Edge's IAM, read and shown as ours: the disk's part of `policy import-nabto`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from device_app.access.bodies import UserRequest
from device_app.access.explaining import role_view
from device_app.errors import AppError, Exit
from iam import files, nabto
from peer.files import read_regular

_FILE_BYTES = 4 << 20  # what a file of theirs may have in symbols, in bytes


def read(config: Path, state: Path | None) -> dict[str, Any]:
    """{toml, users, notes, roles}: the policy as TOML, users as wishes, what could not be carried,
    and the roles as `policy list` shows them.

    Raises `AppError` for a file that cannot be read, `IamError` for one that is not theirs.
    """
    imported = nabto.read_config(_text(config), file=str(config))
    notes = list(imported.notes)
    users: list[dict[str, Any]] = []
    if state is not None:
        carried = nabto.read_state(_text(state), file=str(state), roles=imported.role_ids)
        users = [UserRequest.from_user(user).to_json() for user in carried.users]
        notes += carried.notes
    roles = [role_view(role) for role in imported.roles]
    return {"toml": imported.rulebook_toml, "users": users, "notes": notes, "roles": roles}


def check_in_force(found: Mapping[str, Any], in_force: Sequence[Mapping[str, Any]]) -> None:
    """Raise `AppError` unless the roles of these users are in force on the device, with the rank
    and the policies of the import: one that only has the same name may allow anything."""
    known = {role["id"]: role for role in in_force}
    mine = {role["id"]: role for role in found["roles"]}
    for name in {user["role"]: None for user in found["users"]}:
        if known.get(name) != mine[name]:
            raise AppError(
                f"the device does not go by the role {name!r} of this import yet",
                advice="Write the policy with --out into policy.d, put it into force "
                "(`handfast-device policy reload`), then add the users.",
            )


def write(path: Path, text: str, *, force: bool) -> None:
    """Write the policy; over a file that is there only with `force`. Raises `AppError`."""
    if not force and path.exists():
        raise AppError(
            f"{path} is there already",
            advice="Choose another name, or give --force.",
            code=Exit.USAGE,
        )
    try:
        files.atomic_write(path, text.encode(), mode=0o644)
    except OSError as error:
        raise AppError(f"{path} cannot be written: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return read_regular(path, _FILE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise AppError(f"{path} cannot be read: {why}", code=Exit.NOT_FOUND) from error
