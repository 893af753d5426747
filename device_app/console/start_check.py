"""`check`: what a start of the daemon would find, without starting it.

It reads the settings, imports the modules and reads the policies as a start does, and opens the
ports for a moment if no daemon runs. It reports every problem and not only the first, and changes
nothing. Modules run their own code when they are imported.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from device_app.access.policies import PolicySet, check_folder
from device_app.console import offline
from device_app.console.running import daemon_of
from device_app.errors import AppError, ConfigError, ModuleError
from device_app.modules import loading
from device_app.remote import master_key
from device_app.remote.agent_factory import missing_package, not_installed
from device_app.remote.master_key import RemoteTrouble
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from iam import files
from peer.errors import IdentityError, PeerError
from peer.identity import Identity
from peer.net.udp import UdpSocket


class ProblemView(TypedDict):
    """A reason for which a start would fail.

    `part` is `settings`, `key`, `module`, `policy` or `network`.
    """

    part: str
    text: str
    advice: NotRequired[str]


class ModuleView(TypedDict):
    """A module that can be used, and the paths that it serves."""

    name: str
    paths: list[str]


class StartCheckAnswer(TypedDict):
    """`check`. `ready` is whether a start would succeed, as far as files decide."""

    ready: bool
    problems: list[ProblemView]
    warnings: list[str]
    settings: list[str]
    modules: list[ModuleView]
    policies: list[str]


@dataclass(slots=True)
class _Found:
    problems: list[ProblemView] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, part: str, error: AppError | PeerError) -> None:
        view: ProblemView = {"part": part, "text": str(error)}
        if error.advice:
            view["advice"] = error.advice
        self.problems.append(view)


async def check_start(paths: Paths) -> StartCheckAnswer:
    """Check the files of a device. It is a coroutine, since modules may need the event loop."""
    missing = missing_package()  # that user may not be able to read the packages of root
    with files.acting_as_owner_of(paths.state):
        found = _Found()
        identity = _identity(paths, found)
        settings = _settings(paths, found)
        modules, actions = _modules(paths, settings, identity, found)
        policies = _policies(paths, settings, actions, found)
        if settings is not None:
            _remote(paths, settings, missing, found)
            if tunnel_trouble := settings.tunnel.trouble:
                found.warnings.append(tunnel_trouble)
            if daemon_of(paths.store) is None:
                _ports(settings, found)
        return {
            "ready": not found.problems,
            "problems": found.problems,
            "warnings": found.warnings,
            "settings": _config_files(paths),
            "modules": modules,
            "policies": policies,
        }


def _identity(paths: Paths, found: _Found) -> Identity | None:
    if not paths.key.exists():
        found.warnings.append(f"there is no key yet in {paths.state}; a start creates one")
        return None
    try:
        return Identity.load(paths.key)
    except IdentityError as error:
        found.problem("key", error)
        return None


def _settings(paths: Paths, found: _Found) -> Settings | None:
    try:
        found.warnings.extend(paths.config_drop_ins.warnings)
        return offline.settings(paths)
    except ConfigError as error:
        found.problem("settings", error)
        return None


def _config_files(paths: Paths) -> list[str]:
    try:
        return [str(path) for path in paths.config_files]
    except ConfigError:  # it is among the problems
        return []


def _modules(
    paths: Paths, settings: Settings | None, identity: Identity | None, found: _Found
) -> tuple[list[ModuleView], dict[str, str] | None]:
    """Load the modules; return them and their actions, or None if not all actions are known."""
    if settings is None:
        return [], None
    device_id = identity.fingerprint.device_id if identity is not None else ""
    board = loading.board_of(settings.display_name, device_id, offline.no_requests)
    loaded: list[loading.Loaded] = []
    is_complete = True
    for one in loading.load_each(settings.modules, paths.modules, board):
        if isinstance(one, ModuleError):
            found.problem("module", one)
            is_complete = False
        else:
            loaded += one
            found.warnings.extend(text for spec in one for text in spec.warnings)
    return _views(loaded), loading.actions_of(loaded) if is_complete else None


def _remote(paths: Paths, settings: Settings, missing: str, found: _Found) -> None:
    """Look for what remote reach needs. The device starts without it, so each lack is a warning."""
    if not settings.remote.is_on:
        return
    from device_app.remote.servers import RemoteServers  # noqa: PLC0415 - off for most devices

    try:
        found.warnings.extend(RemoteServers.load(settings.remote, paths.config).warnings)
        master_key.load(paths.remote_key)
        if missing:
            raise not_installed(ImportError(name=missing))
    except RemoteTrouble as error:
        what = "the device could not be reached from other networks"
        found.warnings.append(f"{what}: {error}. {error.advice}")


def _ports(settings: Settings, found: _Found) -> None:
    """Open the ports for a moment. One that is in use by another program is a problem.

    A pairing port that is in use is a warning: the device starts without it.
    """
    for host in settings.listen:
        try:
            _open(host, settings.port)
        except PeerError as error:
            found.problem("network", error)
        try:
            _open(host, settings.pairing_port)
        except PeerError as error:
            found.warnings.append(f"no pairing window can be opened: {error}")


def _open(host: str, port: int) -> None:
    UdpSocket.bind(host, port, on_datagram=lambda _: None, on_error=lambda _: None).close()


def _views(loaded: Iterable[loading.Loaded]) -> list[ModuleView]:
    paths: dict[str, list[str]] = {}
    for one in loaded:
        paths.setdefault(one.module, []).append(one.spec.path)
    return [{"name": name, "paths": served} for name, served in paths.items()]


def _policies(
    paths: Paths, settings: Settings | None, actions: dict[str, str] | None, found: _Found
) -> list[str]:
    try:
        if actions is None:  # unknown actions cannot be told from misspelt ones
            checked = check_folder(paths.policies)
            found.warnings.extend(checked["warnings"])
            return checked["files"]
        policy_set = PolicySet.read(paths.policies, actions)
    except ConfigError as error:
        found.problem("policy", error)
        return []
    found.warnings.extend(policy_set.warnings)
    if settings is not None:
        try:
            settings.require_role(policy_set.access.roles)
        except ConfigError as error:
            found.problem("settings", error)
    return list(policy_set.files)
