"""The policy files: read, checked as one set, put into force, and exchanged while the device runs.

`policy.d/*.toml` beside `device.toml`, in the order of their names. A set is good as a whole or not
at all: at the start a bad one is a refusal to start, later the set in force stays, and the daemon
says so in its log, in `status` and `health`, and in the trail. Sessions feel a new set at once:
those end whose role has other rights by it, and no others.

A running daemon reads, parses and compares in a thread of its own, so that a large set does not
keep its clients waiting; only the exchange is done between two requests.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from device_app.access.access_control import AccessControl
from device_app.access.event_kind import EventKind
from device_app.errors import ConfigError
from iam import config
from iam.access import Access
from iam.errors import PolicyError
from iam.limits import DEFAULT_IAM_LIMITS
from peer.files import read_regular

_log = logging.getLogger("handfast.policies")
_READ_ADVICE = (
    f"Policy files are regular files, of {DEFAULT_IAM_LIMITS.policy_bytes} bytes at most in all."
)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Roles and policies as the files say. `digest` names their exact content, `warnings` are what
    may be a slip of the pen."""

    access: Access
    files: tuple[str, ...]
    digest: str
    warnings: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, app_actions: Mapping[str, str]) -> "PolicySet":
        """The set in this folder; the built-in one if there is none. Raises `ConfigError`."""
        return cls.of(_texts(listed(folder)), app_actions)

    @classmethod
    def of(cls, texts: list[tuple[str, str]], app_actions: Mapping[str, str] | None) -> "PolicySet":
        """The set that these files, (name, text), make; None: nobody knows an application's
        actions. Raises `ConfigError`."""
        try:
            rulebook = config.load(texts)
            access = rulebook.access(app_actions or {})
        except PolicyError as error:
            raise ConfigError(str(error), advice=error.advice or "Correct that line.") from error
        unknown = () if app_actions is None else rulebook.unknown_actions(access.actions)
        digest = sha256()
        for name, text in texts:
            for part in (Path(name).name, text):
                digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
        return cls(
            access,
            tuple(name for name, _ in texts),
            digest.hexdigest(),
            (*rulebook.warnings, *unknown),
        )

    def view(self) -> dict[str, Any]:
        """For `status` and `policy reload`."""
        return {
            "files": list(self.files),
            "digest": self.digest,
            "warnings": list(self.warnings),
        }


def check(files: Sequence[Path]) -> dict[str, Any]:
    """Whether these files make a set, together. Raises `ConfigError` with file, line, reason.

    Without a device nobody knows an application's actions, so it does not tell of unknown ones.
    """
    found = PolicySet.of(_texts(files), None)
    return {**found.view(), "roles": sorted(found.access.roles)}


def listed(folder: Path) -> list[Path]:
    """The policy files in a folder, none if it is not there. Raises `ConfigError` if it cannot be
    read: rules that are overlooked, a Deny among them, would widen rights."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error


def _texts(
    files: Sequence[Path], most: int = DEFAULT_IAM_LIMITS.policy_bytes
) -> list[tuple[str, str]]:
    """Name and text of each file; of at most so many bytes in all."""
    found = []
    for path in files:
        try:
            data = read_regular(path, most)
            most -= len(data)
            found.append((str(path), data.decode()))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read: {error.strerror}", advice=_READ_ADVICE
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path}: not UTF-8: {error.reason} at byte {error.start}",
                advice="Save it as UTF-8.",
            ) from error
    return found


class Policies:
    """The set in force on a running device. `trouble` says why the last reload was refused.

    `check` raises `ConfigError` for roles that the device cannot run with; `on_change` is told the
    roles whose rights have changed, after the new set is in force.
    """

    def __init__(
        self,
        folder: Path,
        control: AccessControl,
        now: PolicySet,
        *,
        app_actions: Mapping[str, str],
        check: Callable[[Access], None],
        on_change: Callable[[frozenset[str]], None],
    ) -> None:
        self.now = now
        self.trouble = ""
        self._folder = folder
        self._control = control
        self._app_actions = app_actions
        self._check = check
        self._on_change = on_change
        self._one_at_a_time = asyncio.Lock()
        if now.files:
            self._tell()

    async def reload(self) -> dict[str, Any]:
        """Read the files again and put them into force. Raises `ConfigError`: nothing changed."""
        async with self._one_at_a_time:
            try:
                found, changed = await asyncio.to_thread(self._read)
                self._check(found.access)
            except ConfigError as error:
                self._refused(error)
                raise
            self.now, self.trouble = found, ""
            self._control.authority.adopt(found.access)
            self._tell(changed)
            if changed:
                self._on_change(changed)
        return {**found.view(), "changed_roles": sorted(changed)}

    def _read(self) -> tuple[PolicySet, frozenset[str]]:
        """The set of the files, and the roles that have other rights by it. Runs in a thread."""
        found = PolicySet.read(self._folder, self._app_actions)
        return found, _changed(self.now.access, found.access)

    def view(self) -> dict[str, Any]:
        """For `status`."""
        return {**self.now.view(), "trouble": self.trouble}

    def _tell(self, changed: Collection[str] = ()) -> None:
        for warning in (*self.now.warnings, *self._orphans()):
            _log.warning("%s", warning)
        _log.info("policies in force: %d files, %s", len(self.now.files), self.now.digest[:16])
        detail = f"{len(self.now.files)} files"
        if changed:
            detail += f", other rights: {', '.join(sorted(changed))}"
        audit = self._control.audit
        audit.append(audit.event(EventKind.POLICY_LOADED, result=self.now.digest, detail=detail))

    def _refused(self, error: ConfigError) -> None:
        self.trouble = f"the policies in force are not those of the files: {error}"
        _log.error("%s %s", self.trouble, error.advice)
        audit = self._control.audit
        audit.append(audit.event(EventKind.POLICY_REFUSED, result="refused", detail=str(error)))

    def _orphans(self) -> list[str]:
        """Roles that users have and nobody knows: such a user may do nothing."""
        users = self._control.store.state.users.values()
        lost = {user.role for user in users} - self.now.access.roles.keys()
        return [f"there are users of the role {role!r}, which is not defined" for role in lost]


def _changed(before: Access, after: Access) -> frozenset[str]:
    roles = before.roles.keys() | after.roles.keys()
    return frozenset(role for role in roles if before.rights(role) != after.rights(role))
