"""The device's files without a daemon: `init`, `fingerprint`, and `Console` on the files alone.

Everything here holds the store's lock while it works. Root acts as the owner of the state folder,
so that it leaves no file that the daemon's user cannot open, and follows no link to anything that
this user could not reach.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, NoReturn, ParamSpec, TypeVar

from device_app.access.access_control import AccessControl
from device_app.access.authority import Authority
from device_app.access.clock import SystemClocks
from device_app.access.invitations import Invitations
from device_app.access.policies import PolicySet
from device_app.access.reach import reachable
from device_app.access.registry import Registry
from device_app.console import arguments, interrupted_restore
from device_app.console.answers import FingerprintAnswer, InitAnswer
from device_app.console.console import Console
from device_app.console.identity_change import end_replaced_key
from device_app.console.reloader import PolicyReloadAnswer
from device_app.console.status import identity_view, users_summary
from device_app.console.store_recovery import note_recovery, store_view
from device_app.console.views import StatusAnswer
from device_app.errors import AppError, ConfigError, NoDaemon, NoDevice, unwritable
from device_app.pairing.stored_label import LABEL_RECORD, StoredLabel
from device_app.process import collector
from device_app.remote.off import NoRemoteReach, RemoteReach
from device_app.settings import config, naming
from device_app.settings.config import Settings
from device_app.settings.limits import LIMIT_SETTINGS
from device_app.settings.paths import Paths
from iam import files, openfile
from iam.access import Access
from iam.errors import StoreTooNew
from iam.limits import DEFAULT_IAM_LIMITS, IamLimits
from iam.store import Store
from peer.errors import Malformed
from peer.files import follow_own_links
from peer.identity import Fingerprint, Identity
from peer.pairing.names import check_name
from peer.terminal.version import package_version

if TYPE_CHECKING:
    from device_app.console.pairing_console import PairingConsole
    from device_app.console.state_tracker import StateTracker

files.import_before_acting(
    "Crypto.Math.Numbers",
    "Crypto.PublicKey.ECC",
    "cryptography.hazmat.backends.openssl.backend",
    "device_app.modules.loading",
    "device_app.remote.rotation",
    "device_app.remote.servers",
    "difflib",
    "html",
    "importlib.metadata",
    "peer.net.ranking",
    "peer.terminal.installed",
    "peer.terminal.time_spellings",
    "tempfile",
    "traceback",
)

_P = ParamSpec("_P")
_AnswerT = TypeVar("_AnswerT")


def settings(paths: Paths) -> Settings:
    """Read the configuration; the device's name defaults to this machine's.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    found = config.load(paths.config_files)
    return found if found.name else replace(found, name=_machine_name())


def init(paths: Paths, *, name: str | None, force: bool) -> InitAnswer:
    """Create key, store and configuration, as far as they do not exist.

    Args:
        paths: the folders of the device.
        name: the device's name; defaults to this machine's. In a configuration that exists, only
            the name is changed.
        force: replace an existing configuration.

    Raises:
        AppError: a folder or file cannot be created, or the device has another name already.
    """
    requested = check_name(name) if name is not None else None
    interrupted_restore.finish_interrupted(paths)
    _create_folder(paths.state, mode=0o700)
    with files.acting_as_owner_of(paths.state):
        identity = Identity.load_or_create(paths.key)
        if not openfile.has_traces(paths.store):
            Store.open(paths.store).close()
    if force or not paths.config_file.exists():
        _create_folder(paths.config, mode=0o755)
        text = config.template(requested or _machine_name())
        with files.acting_as_owner_of(paths.config):
            _write(paths.config_file, text)
    current = settings(paths)
    if requested is not None and requested != current.name:
        with files.acting_as_owner_of(paths.config):
            _write(paths.config_file, naming.renamed(paths.config_file, requested))
        current = settings(paths)
        if requested != current.name:
            raise AppError(
                f"this device is named {current.name!r} by {current.origin['name']}",
                advice="Change the name there; that file is read after device.toml.",
            )
    view = identity_view(current.name, identity.fingerprint)
    return InitAnswer(
        name=view["name"],
        id=view["id"],
        fingerprint=view["fingerprint"],
        config=str(paths.config_file),
        state=str(paths.state),
    )


def fingerprint(paths: Paths) -> FingerprintAnswer:
    """Return this device's fingerprint. Raises `NoDevice`."""
    interrupted_restore.finish_interrupted(paths)
    with files.acting_as_owner_of(paths.state):
        found = _identity(paths).fingerprint
        view = identity_view(settings(paths).name, found)
    return {**view, "grouped": found.grouped, "ni": found.ni}


class OfflineConsole:
    """Runs verbs of `Console` on the files, each with the store opened for it alone."""

    def __init__(self, paths: Paths, *, warn: Callable[[str], None]) -> None:
        """Open nothing yet.

        Args:
            paths: the folders of the device.
            warn: gets each warning about the store, once.
        """
        self._paths = paths
        self._warn = warn
        self._warned: set[str] = set()

    def run(
        self,
        verb: Callable[Concatenate[Console, _P], _AnswerT],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _AnswerT:
        """Run a method of `Console`. Raises its errors, and `NoDevice`."""
        interrupted_restore.finish_interrupted(self._paths)
        with files.acting_as_owner_of(self._paths.state):
            host = OfflineHost(self._paths)
            try:
                method: Callable[..., _AnswerT] = verb
                answer = method(Console(host), *args, **arguments.checked(verb, kwargs))
            finally:
                host.close()
        for warning in host.warnings:
            if warning not in self._warned:
                self._warn(warning)
                self._warned.add(warning)
        return answer


class OfflineHost:
    """A `ConsoleHost` of the files. Each is opened when a verb first needs it.

    The policy files are read for `authority` and `registry` only, so that an error in
    them does not stop a verb that does not need them.
    """

    def __init__(self, paths: Paths) -> None:
        self.warnings: list[str] = []
        self._paths = paths
        self._store: Store | None = None

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()

    @cached_property
    def access(self) -> AccessControl:
        """Store, clock and audit trail."""
        if not openfile.has_traces(self._paths.store):
            raise NoDevice(self._paths.state)
        limits = self._limits()
        with collector.paused():
            self._store = Store.open(self._paths.store, keep_events=limits.events_kept)
        access = AccessControl.create(self._store, Access(), SystemClocks(), limits=limits)
        self.warnings = note_recovery(access)
        return access

    def _limits(self) -> IamLimits:
        """The limits of the configuration; the defaults if it has an error, but keep all events."""
        try:
            return self.settings.iam_limits
        except ConfigError:
            return replace(DEFAULT_IAM_LIMITS, events_kept=int(LIMIT_SETTINGS["events_kept"].most))

    @cached_property
    def settings(self) -> Settings:
        """The configuration."""
        return settings(self._paths)

    @property
    def config_folder(self) -> Path:
        """The folder of the configuration."""
        return self._paths.config

    @cached_property
    def registry(self) -> Registry:
        """Changes users, keys and invites by the rules of the roles in the policy files."""
        self._adopt({})
        return self.access.registry

    @cached_property
    def authority(self) -> Authority:
        """Decides by the policy files; runs the application's modules to know its actions."""
        from device_app.modules import loading  # noqa: PLC0415 - few verbs need the modules

        chosen = self.settings
        board = loading.board_of(chosen.name, "", no_requests)
        self._adopt(loading.actions_of(loading.load(chosen.modules, self._paths.modules, board)))
        return self.access.authority

    def _adopt(self, actions: Mapping[str, str]) -> None:
        """Put the policy files in force, with these actions of applications and their roles."""
        found = PolicySet.read(self._paths.policies, actions)
        self.access.authority.adopt(found.access)

    @cached_property
    def invitations(self) -> Invitations:
        """Creates invites, with the addresses that the daemon would listen on."""
        chosen = self.settings
        bound = [(host, chosen.port) for host in chosen.listen]  # a port of 0 is left out

        def addresses() -> tuple[str, ...]:
            return reachable(bound, chosen.public)

        identity = Identity.load_or_create(self._paths.key)  # as the daemon's first start would
        self.registry  # noqa: B018  # an invite is checked by the roles in force
        return Invitations(self.access, identity, addresses=addresses)

    @cached_property
    def identity(self) -> Identity:
        """The device's key."""
        return _identity(self._paths)

    @property
    def pairing(self) -> "PairingConsole":
        """The pairing window. Always raises `NoDaemon`."""
        raise NoDaemon

    @property
    def states(self) -> "StateTracker":
        """The state of the daemon. Always raises `NoDaemon`."""
        raise NoDaemon

    @property
    def remote(self) -> RemoteReach:
        """Remote reach of a device that does not run."""
        state = "stopped" if self.settings.remote.is_on else "off"
        return NoRemoteReach(self._paths.remote_key, self.access, state=state)

    async def reload_policies(self) -> PolicyReloadAnswer:
        """Always raises `NoDaemon`: a command reads the policy files each time."""
        raise NoDaemon

    def status(self) -> StatusAnswer:
        """Describe what the files tell."""
        identity, state = self.identity, self.access.store.state
        return {
            "running": False,
            "version": package_version("0+unknown"),
            "name": self.settings.name,
            "id": identity.fingerprint.device_id,
            "fingerprint": identity.fingerprint.hex,
            "users": users_summary(state),
            "user_count": len(state.users),
            "store": store_view(self.access),
        }

    def use_label(self, label: StoredLabel) -> None:
        """The daemon reads it from the store when it starts."""

    def new_identity(self) -> Fingerprint:
        """Replace the key, and withdraw what the old one had signed."""
        identity = Identity.create()
        identity.replace(self._paths.key)
        end_replaced_key(self.access, identity.fingerprint)
        return identity.fingerprint

    def use_restored_store(self) -> None:
        """The daemon reads it when it starts."""

    def reset(self, *, keep_identity: bool) -> None:
        """Forget every user, and create a new key unless `keep_identity`."""
        try:
            self.access.registry.forget_all(keep=(LABEL_RECORD,) if keep_identity else ())
        except StoreTooNew:  # written by a later version, whatever it holds
            openfile.remove(self._paths.store)
            Store.open(self._paths.store).close()
        if not keep_identity:
            self._paths.key.unlink(missing_ok=True)
            Identity.load_or_create(self._paths.key)
        self._paths.remote_key.unlink(missing_ok=True)


def no_requests(_request: object) -> NoReturn:
    """Say that there are no requests: the `subject` of a board without a daemon."""
    raise LookupError("without a daemon there are no requests")


def _identity(paths: Paths) -> Identity:
    if not paths.key.exists():
        raise NoDevice(paths.state)
    return Identity.load(paths.key)


def _create_folder(folder: Path, *, mode: int) -> None:
    try:
        files.create_folder(folder, mode)
    except OSError as error:
        raise AppError(
            f"the folder {folder} cannot be created: {error.strerror}",
            advice="Run this as root, or choose another folder with --home.",
        ) from error


def _write(path: Path, text: str) -> None:
    try:
        files.atomic_write(follow_own_links(path), text.encode(), mode=0o644)
    except OSError as error:
        raise unwritable(path, error) from error


def _machine_name() -> str:
    """This machine's host name, or `device` if that is no valid device name."""
    try:
        return check_name(os.uname().nodename.partition(".")[0])
    except Malformed:
        return "device"
