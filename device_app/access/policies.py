"""The policy files: read and checked as one set, put into force, and reloaded at run time.

The files are `policy.d/*.toml` beside `device.toml`, in the order of their names
(`device_app.access.drop_ins`); the warnings of a set name what is passed over. A set is valid as
a whole or not at all. The daemon does not start with an invalid one. If a reload finds one, the set
in force stays, and the log, `status`, `health` and the audit trail say so. A new set applies to
sessions at once: those end whose role has other rights by it, and no others.

A running daemon reads, parses and compares the files in a thread, so that a large set does not
delay its clients; the thread gives way to them, and no full garbage collection begins meanwhile
(`device_app.process.collector`). Only the exchange happens between two requests, and the replaced
set is freed in many turns of the loop.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, TypedDict

from device_app.access.access_control import AccessControl
from device_app.access.drop_ins import DropIns
from device_app.access.event_kind import EventKind
from device_app.errors import ConfigError
from device_app.limits import POLICY_PARTS_FREED, POLICY_WARNINGS_LOGGED
from device_app.process import collector
from iam import config
from iam.access import Access
from iam.errors import PolicyError
from iam.limits import DEFAULT_IAM_LIMITS
from peer.errors import Malformed
from peer.files import decode_text, read_regular

_log = logging.getLogger("handfast.policies")
_READ_ADVICE: Final = (
    f"Policy files are regular files, of {DEFAULT_IAM_LIMITS.policy_bytes} bytes at most in all."
)


class PolicyFiles(TypedDict):
    """The files that a set was read from; `digest` identifies their exact content."""

    files: list[str]
    digest: str
    warnings: list[str]


class PolicyStatus(PolicyFiles):
    """The set in force; `trouble` says why the last reload was refused, or is empty."""

    trouble: str


class PolicyReloaded(PolicyFiles):
    """The set that a reload put into force."""

    changed_roles: list[str]


class PolicyCheck(PolicyFiles):
    """A set that `policy check` read."""

    roles: list[str]


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Roles and policies of some files. `warnings` name what is probably a mistake."""

    access: Access
    files: tuple[str, ...]
    digest: str
    warnings: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, app_actions: Mapping[str, str]) -> "PolicySet":
        """Read the set in a folder; without files it is the built-in one.

        Args:
            folder: the folder with the files; it need not exist.
            app_actions: the actions of applications, each with the lowest role that has it.

        Raises:
            ConfigError: a file cannot be read, or the set is invalid.
        """
        found = DropIns.of(folder)
        read = cls.parse(_texts(found.files), app_actions)
        return replace(read, warnings=(*found.warnings, *read.warnings))

    @classmethod
    def parse(
        cls, texts: list[tuple[str, str]], app_actions: Mapping[str, str] | None
    ) -> "PolicySet":
        """Parse files, given as (name, text). Raises `ConfigError`.

        If `app_actions` is None, unknown actions are not reported.
        """
        try:
            access_config = config.load(texts)
            access = access_config.access(app_actions or {})
        except PolicyError as error:
            raise ConfigError(str(error), advice=error.advice or "Correct that line.") from error
        unknown = () if app_actions is None else access_config.unknown_actions(access.actions)
        digest = sha256()
        for name, text in texts:
            for part in (Path(name).name, text):
                encoded = part.encode(errors="surrogateescape")  # names of files are bytes
                digest.update(len(encoded).to_bytes(8, "big") + encoded)
        return cls(
            access,
            tuple(name for name, _ in texts),
            digest.hexdigest(),
            (*access_config.warnings, *unknown),
        )

    def view(self) -> PolicyFiles:
        """The files of the set, for answers of the console."""
        return {
            "files": list(self.files),
            "digest": self.digest,
            "warnings": list(self.warnings),
        }


def check_folder(folder: Path) -> PolicyCheck:
    """Check the policy files of a folder as `check` does; warn of what is passed over."""
    drop_ins = DropIns.of(folder)
    found = check(drop_ins.files)
    return {**found, "warnings": [*drop_ins.warnings, *found["warnings"]]}


def check(files: Sequence[Path]) -> PolicyCheck:
    """Check that some files are a valid set together.

    Does not report unknown actions, since the actions of applications are only known on a device.

    Raises:
        ConfigError: they are not; the message has the file, the line and the reason.
    """
    found = PolicySet.parse(_texts(files), None)
    return {**found.view(), "roles": sorted(found.access.roles)}


def _texts(
    files: Sequence[Path], most: int = DEFAULT_IAM_LIMITS.policy_bytes
) -> list[tuple[str, str]]:
    """Name and text of each file; `most` is the number of bytes in all."""
    found = []
    for path in files:
        try:
            data = read_regular(path, most)
            most -= len(data)
            found.append((str(path), decode_text(data)))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read: {error.strerror}", advice=_READ_ADVICE
            ) from error
        except Malformed as error:
            raise ConfigError(f"{path}: {error}", advice=error.advice) from error
    return found


class Policies:
    """The policy set of a running device: `current` is in force.

    Args:
        current: the set read at the start.
        app_actions: as for `PolicySet.read`.
        check: raises `ConfigError` for roles that the device cannot run with.
        on_change: called with the roles whose rights have changed, once the new set is in force.
    """

    def __init__(
        self,
        folder: Path,
        control: AccessControl,
        current: PolicySet,
        *,
        app_actions: Mapping[str, str],
        check: Callable[[Access], None],
        on_change: Callable[[frozenset[str]], None],
    ) -> None:
        self.current = current
        self._trouble = ""
        self._folder = folder
        self._control = control
        self._app_actions = app_actions
        self._check = check
        self._on_change = on_change
        self._reloading = asyncio.Lock()
        if current.files:
            self._report_loaded()
        else:
            self._warn()

    async def reload(self) -> PolicyReloaded:
        """Read the files again and put them into force.

        Raises:
            ConfigError: the files are not a valid set; the one in force stays.
        """
        async with self._reloading:
            try:
                found, changed, replaced = await asyncio.to_thread(self._read)
                self._check(found.access)
            except ConfigError as error:
                self._report_refused(error)
                raise
            self.current, self._trouble = found, ""
            self._control.authority.adopt(found.access)
            _free(replaced)
            self._report_loaded(changed)
            if changed:
                self._on_change(changed)
        return {**found.view(), "changed_roles": sorted(changed)}

    def _read(self) -> tuple[PolicySet, frozenset[str], list[object]]:
        """The set of the files, the roles whose rights it changes, and the parts of `current`.

        Runs in a thread.
        """
        with collector.in_background():
            found = PolicySet.read(self._folder, self._app_actions)
            changed = _changed_roles(self.current.access, found.access)
            return found, changed, self.current.access.parts()

    def view(self) -> PolicyStatus:
        """The set in force, for `status`."""
        return {**self.current.view(), "trouble": self._trouble}

    def _report_loaded(self, changed: Collection[str] = ()) -> None:
        count, digest = len(self.current.files), self.current.digest
        self._warn()
        _log.info("policies in force: %d files, %s", count, digest[:16])
        detail = f"{count} files"
        if changed:
            detail += f", other rights: {', '.join(sorted(changed))}"
        audit = self._control.audit
        audit.append(audit.event(EventKind.POLICY_LOADED, result=digest, detail=detail))

    def _warn(self) -> None:
        warnings = self.current.warnings
        for warning in (*warnings[:POLICY_WARNINGS_LOGGED], *self._undefined_roles()):
            _log.warning("%s", warning)
        if (left := len(warnings) - POLICY_WARNINGS_LOGGED) > 0:
            _log.warning("%d more warnings; `handfast-device policy check` prints them", left)

    def _report_refused(self, error: ConfigError) -> None:
        self._trouble = f"the policies in force are not those of the files: {error}"
        _log.error("%s %s", self._trouble, error.advice)
        audit = self._control.audit
        audit.append(audit.event(EventKind.POLICY_REFUSED, result="refused", detail=str(error)))

    def _undefined_roles(self) -> list[str]:
        """A warning for each role that users have and the set does not define."""
        undefined = self._control.store.state.roles - self.current.access.roles.keys()
        return [f"there are users of the role {role!r}, which is not defined" for role in undefined]


def _free(parts: list[object]) -> None:
    """Free a replaced set in many turns of the loop, since all at once holds up its clients."""
    del parts[-POLICY_PARTS_FREED:]
    if parts:
        asyncio.get_running_loop().call_soon(_free, parts)


def _changed_roles(before: Access, after: Access) -> frozenset[str]:
    roles = before.roles.keys() | after.roles.keys()
    return frozenset(role for role in roles if before.rights(role) != after.rights(role))
