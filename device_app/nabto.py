"""Files of Nabto Edge's IAM, read and shown as ours: the disk's part of `policy import-nabto`."""

from pathlib import Path
from typing import Any

from device_app.errors import AppError, Exit
from device_app.wishes import user_view
from iam import nabto


def read(config: Path, state: Path | None) -> dict[str, Any]:
    """{toml, users, notes}: the policy as TOML, users as wishes, and what could not be carried.

    Raises `AppError` for a file that cannot be read, `IamError` for one that is not theirs.
    """
    imported = nabto.read_config(_text(config), file=str(config))
    notes = list(imported.notes)
    users: list[dict[str, Any]] = []
    if state is not None:
        carried = nabto.read_state(_text(state), file=str(state))
        users = [_wish(user_view(user)) for user in carried.users]
        notes += carried.notes
    return {"toml": imported.rulebook_toml, "users": users, "notes": notes}


def _wish(view: dict[str, Any]) -> dict[str, Any]:
    """What `users add` takes: without what only the device knows."""
    keys = [{"fingerprint": key["fingerprint"], "name": key["name"]} for key in view["keys"]]
    kept = {"name", "role", "display", "not_before", "not_after"}
    return {**{field: value for field, value in view.items() if field in kept}, "keys": keys}


def write(path: Path, text: str, *, force: bool) -> None:
    """Write the policy; over a file that is there only with `force`. Raises `AppError`."""
    if not force and path.exists():
        raise AppError(
            f"{path} is there already",
            advice="Choose another name, or give --force.",
            code=Exit.USAGE,
        )
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise AppError(f"{path} cannot be written: {error.strerror}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise AppError(f"{path} cannot be read: {why}", code=Exit.NOT_FOUND) from error
