"""What the command line does without a daemon, on the files alone, under the store's lock.

Root does it as the owner of the folder: no file is left that the daemon's user cannot open, and no
link in it leads to what that user could not have reached.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

from device_app import config, resource_spec
from device_app.access.access_control import AccessControl
from device_app.access.bodies import user_view
from device_app.access.clock import SystemClocks
from device_app.access.invitations import Invitations
from device_app.access.policies import PolicySet
from device_app.access.reach import reachable
from device_app.config import Settings
from device_app.console.status import identity_view, package_version
from device_app.console.store_recovery import note_recovery, restore_verbs, store_view
from device_app.console.table import console_verbs
from device_app.errors import AppError, ConfigError, Exit
from device_app.limit_settings import LIMIT_SETTINGS
from device_app.pairing import labels
from device_app.pairing.methods import LABEL_RECORD
from device_app.paths import Paths
from device_app.resource_spec import Board
from iam import files
from iam.access import Access
from iam.errors import StoreTooNew
from iam.limits import DEFAULT_IAM_LIMITS, IamLimits
from iam.store import Store
from peer.errors import Malformed
from peer.identity import Identity
from peer.limits import DEFAULT_LIMITS
from peer.pairing.names import check_name

_HOST_NAME = Path("/proc/sys/kernel/hostname")
_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")


def _as_owner(
    work: Callable[Concatenate[Paths, _Options], _Result],
) -> Callable[Concatenate[Paths, _Options], _Result]:
    """What root does on the state folder, done as the folder's owner."""

    @wraps(work)
    def run(places: Paths, /, *args: _Options.args, **options: _Options.kwargs) -> _Result:
        with files.acting_as_owner_of(places.state):
            return work(places, *args, **options)

    return run


def settings(places: Paths) -> Settings:
    """The configuration, with this machine's name where it gives none. Raises `ConfigError`."""
    found = config.load(places.config_files)
    return found if found.name else replace(found, name=_machine_name())


def init(places: Paths, *, name: str | None, force: bool) -> dict[str, Any]:
    """Key, store and configuration; what is there stays, but for the configuration by `force`."""
    wished = check_name(name) if name is not None else None
    _make(places.state, mode=0o700)
    identity = _make_state(places)
    if force or not places.config_file.exists():
        _make(places.config, mode=0o755)
        shown = config.template(wished or _machine_name())
        with files.acting_as_owner_of(places.config):
            _write(places.config_file, shown)
    current = settings(places)
    if wished is not None and wished != current.name:
        raise AppError(
            f"the configuration calls this device {current.name!r} already",
            advice=f"Change the name in {places.config_file}, or give --force for a new file.",
        )
    view = identity_view(current.name, identity.fingerprint)
    return {**view, "config": str(places.config_file), "state": str(places.state)}


@_as_owner
def _make_state(places: Paths) -> Identity:
    identity = Identity.load_or_create(places.key)
    if not Store.has_traces(places.store):
        Store.open(places.store).close()
    return identity


@_as_owner
def fingerprint(places: Paths) -> dict[str, Any]:
    """Who this device is. Raises `AppError` before `init` or the first run."""
    identity = _identity(places)
    shown = identity.fingerprint
    view = identity_view(settings(places).name, shown)
    return {**view, "grouped": shown.grouped, "ni": shown.ni}


@_as_owner
def status(places: Paths) -> dict[str, Any]:
    """What the files tell while no daemon runs."""
    identity = _identity(places)
    with _access_control(places, Access()) as control:
        known = [user_view(user) for _, user in sorted(control.store.state.users.items())]
        store = store_view(control)
    return {
        "running": False,
        "version": package_version(),
        **identity_view(settings(places).name, identity.fingerprint),
        "users": [
            {"name": one["name"], "role": one["role"], "keys": len(one["keys"])} for one in known
        ],
        "store": store,
    }


@_as_owner
def do(places: Paths, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """A verb of `console.table` on the files. Raises `AppError`, `IamError`, `Malformed`."""
    # An application's own code is run only where its actions count.
    app_actions = _app_actions(places) if verb.startswith("policy-") else {}
    access = PolicySet.read(places.policies, app_actions).access
    with _access_control(places, access) as control:
        return console_verbs(control, lambda: _invitations(places, control))[verb](args)


def _invitations(places: Paths, control: AccessControl) -> Invitations:
    """With the addresses that the daemon would listen on; a port of 0 is none that one can tell."""
    chosen = settings(places)
    bound = [(host, chosen.port) for host in chosen.listen]

    def addresses() -> tuple[str, ...]:
        return reachable(bound, chosen.public)

    identity = Identity.load_or_create(places.key)  # as the daemon's first start would
    return Invitations(control, identity, addresses=addresses)


def _app_actions(places: Paths) -> dict[str, str]:
    chosen = settings(places)
    board = Board(name=chosen.name, device_id="", subject=_nobody_asks)
    found = resource_spec.load(chosen.modules, places.modules, board)
    return {action: role for one in found for action, role in one.roles().items()}


def _nobody_asks(_request: object) -> NoReturn:
    raise LookupError("there are no requests while no daemon runs")


@_as_owner
def label(places: Paths, *, replace: bool) -> dict[str, Any]:
    """A new label for this device. Raises `AppError`."""
    identity = _identity(places)
    labels.require_label(settings(places).hardware)
    with _access_control(places, Access()) as control:
        _, words = labels.made(control, identity.fingerprint, replace=replace)
    return words


@_as_owner
def revive_label(places: Paths) -> dict[str, Any]:
    """The code on the label can be used again. Raises `AppError`."""
    with _access_control(places, Access()) as control:
        _, words = labels.revived(control, limits=DEFAULT_LIMITS)
    return words


@_as_owner
def restore(places: Paths, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """One of the verbs of `console.store_recovery`, whatever is wrong with the policy files."""
    with _access_control(places, Access()) as control:
        return restore_verbs(control)[verb](args)


@_as_owner
def reset(places: Paths, *, keep_identity: bool) -> dict[str, Any]:
    """Factory reset while no daemon runs, whatever is wrong with the policy files or the store."""
    try:
        with _access_control(places, Access()) as control:
            control.registry.forget_all(keep=(LABEL_RECORD,) if keep_identity else ())
    except StoreTooNew:
        Store.remove(places.store)
        Store.open(places.store).close()
    if not keep_identity:
        places.key.unlink(missing_ok=True)
        Identity.load_or_create(places.key)
    return {"reset": True, "kept_identity": keep_identity}


@contextmanager
def _access_control(places: Paths, access: Access) -> Iterator[AccessControl]:
    if not Store.has_traces(places.store):
        raise _not_there(places)
    limits = _limits(places)
    store = Store.open(places.store, keep_events=limits.events_kept)
    try:
        control = AccessControl.create(store, access, SystemClocks(), limits=limits)
        note_recovery(control)
        yield control
    finally:
        store.close()


def _limits(places: Paths) -> IamLimits:
    """The limits of the configuration; the defaults if it has an error, but then no event is
    removed that it may want to keep."""
    try:
        return settings(places).iam_limits
    except ConfigError:
        return replace(DEFAULT_IAM_LIMITS, events_kept=int(LIMIT_SETTINGS["events_kept"].most))


def _identity(places: Paths) -> Identity:
    if not places.key.exists():
        raise _not_there(places)
    return Identity.load(places.key)


def _not_there(places: Paths) -> AppError:
    return AppError(
        f"there is no device in {places.state}",
        advice="Make one: `handfast-device init` (with the same --home, if you gave one).",
        code=Exit.NOT_FOUND,
    )


def _make(folder: Path, *, mode: int) -> None:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise AppError(
            f"the folder {folder} cannot be made: {error.strerror}",
            advice="Run this as root, or choose another with --home.",
        ) from error


def _write(path: Path, text: str) -> None:
    try:
        files.atomic_write(path, text.encode(), mode=0o644)
    except OSError as error:
        raise AppError(f"{path} cannot be written: {error.strerror}") from error


def _machine_name() -> str:
    """The host's name, if a device may have it."""
    try:
        host = _HOST_NAME.read_text(encoding="utf-8").strip().partition(".")[0]
        return check_name(host)
    except (OSError, Malformed):
        return "device"
